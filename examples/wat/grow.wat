;; Grows its memory until that is refused, which is no trap: memory.grow answers -1.
(module
  (memory (export "memory") 1)
  ;; By 16 pages (1 MiB) at a time, writing to each new piece. The pages reached.
  (func $grow (export "grow") (result i32)
    (local $before i32)
    (block $refused
      (loop $again
        (local.set $before (memory.grow (i32.const 16)))
        (br_if $refused (i32.eq (local.get $before) (i32.const -1)))
        (i32.store (i32.mul (local.get $before) (i32.const 65536)) (local.get $before))
        (br $again)))
    (memory.size))
  ;; By so many pages at once: the size before, or -1.
  (func $grow_by (export "grow_by") (param i32) (result i32)
    (memory.grow (local.get 0)))
  (func $size (export "size") (result i32)
    (memory.size)))
