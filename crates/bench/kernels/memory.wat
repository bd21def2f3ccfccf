;; Memory: fills 16 MiB in order, changes words all over it at random, adds all of it up.
(module
  (memory (export "memory") 256)
  (func (export "run") (param $changes i32) (result i64)
    (local $at i32) (local $seed i64) (local $sum i64)
    (loop $fill
      (i64.store (local.get $at) (i64.extend_i32_u (local.get $at)))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $fill (i32.lt_u (local.get $at) (i32.const 0x1000000))))
    (local.set $seed (i64.const 0x2545f4914f6cdd1d))
    (loop $change
      ;; A linear congruential generator; its upper bits choose the word.
      (local.set $seed
        (i64.add
          (i64.mul (local.get $seed) (i64.const 6364136223846793005))
          (i64.const 1442695040888963407)))
      (local.set $at
        (i32.and
          (i32.wrap_i64 (i64.shr_u (local.get $seed) (i64.const 32)))
          (i32.const 0xfffff8)))
      (i64.store (local.get $at)
        (i64.add (i64.rotl (i64.load (local.get $at)) (i64.const 7)) (local.get $seed)))
      (br_if $change
        (local.tee $changes (i32.sub (local.get $changes) (i32.const 1)))))
    (local.set $at (i32.const 0))
    (loop $add
      (local.set $sum (i64.add (local.get $sum) (i64.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $add (i32.lt_u (local.get $at) (i32.const 0x1000000))))
    (local.get $sum)))
