;; Calls back into functions of the host: "host" "log" with a text in memory, and "host" "add".
(module
  (import "host" "log" (func $log (param $text i32) (param $length i32)))
  (import "host" "add" (func $add (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "adding")
  (func $run (export "run") (param i32 i32) (result i32)
    (call $log (i32.const 16) (i32.const 6))
    (call $add (local.get 0) (local.get 1)))
  ;; `count` calls of add: what a call out and back costs.
  (func $many (export "many") (param $count i32) (result i32)
    (local $sum i32)
    (block $done
      (loop $again
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $sum (call $add (local.get $sum) (local.get $count)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $again)))
    (local.get $sum)))
