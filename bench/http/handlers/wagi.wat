;; A WAGI command: CGI's headers, an empty line and the body on standard output. Answers like the
;; component where QUERY_STRING is name=X, with X of up to 1000 letters; else it greets the world.
(module
  (import "wasi_snapshot_preview1" "environ_sizes_get"
    (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  ;; The server lets through 64 KiB of headers: twice that, for what it adds.
  (memory (export "memory") 3)
  ;; One iovec: where the text is and how long. At 24 comes the count of bytes written, at 28 how many
  ;; variables there are, at 32 their bytes in all.
  (data (i32.const 0) "\40\00\00\00\36\00\00\00")
  (data (i32.const 64) "Content-Type: text/plain; charset=utf-8\n\nHello, world!")
  ;; From 2048 on: pointers to the variables, then the variables.

  (func $check (param $failed i32)
    (if (local.get $failed) (then (call $proc_exit (i32.const 1)))))

  ;; Puts the value of this variable in the world's place, if it is the one. In one piece: WASI may
  ;; write less than all iovecs in one call, and several calls would measure something else.
  (func $look_at (param $variable i32)
    (local $end i32)
    (local $length i32)
    ;; "QUERY_STRING=name=", eight bytes at a time
    (if (i64.ne (i64.load (local.get $variable)) (i64.const 0x54535f5952455551)) (then (return)))
    (if (i64.ne (i64.load offset=8 (local.get $variable)) (i64.const 0x6d616e3d474e4952))
      (then (return)))
    (if (i32.ne (i32.load16_u offset=16 (local.get $variable)) (i32.const 0x3d65))
      (then (return)))
    (local.set $variable (i32.add (local.get $variable) (i32.const 18)))
    (local.set $end (local.get $variable))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (i32.load8_u (local.get $end))))
        (br_if $done (i32.eq (i32.load8_u (local.get $end)) (i32.const 38))) ;; &
        (local.set $end (i32.add (local.get $end) (i32.const 1)))
        (br $next)))
    (if (i32.eq (local.get $end) (local.get $variable)) (then (return)))
    (local.set $length (i32.sub (local.get $end) (local.get $variable)))
    (call $check (i32.gt_u (local.get $length) (i32.const 1000)))
    (memory.copy (i32.const 112) (local.get $variable) (local.get $length))
    (i32.store8 (i32.add (i32.const 112) (local.get $length)) (i32.const 33)) ;; !
    (i32.store (i32.const 4) (i32.add (i32.const 49) (local.get $length))))

  (func $main (export "_start")
    (local $pointer i32)
    (local $variables i32)
    (call $check (call $environ_sizes_get (i32.const 28) (i32.const 32)))
    (local.set $variables
      (i32.add (i32.const 2048) (i32.mul (i32.load (i32.const 28)) (i32.const 4))))
    ;; With room behind the last one, where $look_at reads eight bytes at a time.
    (call $check
      (i32.gt_u (i32.add (local.get $variables) (i32.load (i32.const 32))) (i32.const 0x2ff00)))
    (call $check (call $environ_get (i32.const 2048) (local.get $variables)))
    (local.set $pointer (i32.const 2048))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $pointer) (local.get $variables)))
        (call $look_at (i32.load (local.get $pointer)))
        (local.set $pointer (i32.add (local.get $pointer) (i32.const 4)))
        (br $next)))
    (call $check (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 24)))))
