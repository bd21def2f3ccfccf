;; As grow.wat, but the module itself says how far: 10 pages, whatever the host would give.
(module
  (memory (export "memory") 1 10)
  (func $grow (export "grow") (result i32)
    (block $refused
      (loop $again
        (br_if $refused (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
        (br $again)))
    (memory.size)))
