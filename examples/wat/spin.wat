;; Never ends by itself: for time limits, fuel and interrupts. A command too (_start).
(module
  (func $spin (export "_start") (export "spin")
    (loop $forever (br $forever)))
  ;; The same with memory and a call in every round.
  (memory (export "memory") 1)
  (func $step (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1))))
  (func $spin_calls (export "spin_calls")
    (loop $forever (call $step) (br $forever))))
