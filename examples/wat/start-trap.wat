;; Traps while it is being instantiated, before any export can be called.
(module
  (func $boom unreachable)
  (func $initialize (call $boom))
  (start $initialize)
  (func (export "answer") (result i32) (i32.const 42)))
