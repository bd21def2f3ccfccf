;; Wants 2 GiB of memory from the start: for a memory limit below that.
(module
  (memory (export "memory") 32768)
  (func $last (export "last") (result i32)
    (i32.store8 (i32.const 0x7fffffff) (i32.const 42))
    (i32.load8_u (i32.const 0x7fffffff))))
