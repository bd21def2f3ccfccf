;; Floats and vectors: points of the Mandelbrot set in f64, then dot products in f32x4.
(module
  (memory (export "memory") 2)

  ;; Steps until the point leaves the circle, 256 at the most.
  (func $steps (param $cx f64) (param $cy f64) (result i32)
    (local $x f64) (local $y f64) (local $xx f64) (local $yy f64) (local $n i32)
    (block $out
      (loop $step
        (local.set $xx (f64.mul (local.get $x) (local.get $x)))
        (local.set $yy (f64.mul (local.get $y) (local.get $y)))
        (br_if $out
          (f64.gt (f64.add (local.get $xx) (local.get $yy)) (f64.const 4)))
        (local.set $y
          (f64.add
            (f64.mul (f64.add (local.get $x) (local.get $x)) (local.get $y))
            (local.get $cy)))
        (local.set $x
          (f64.add (f64.sub (local.get $xx) (local.get $yy)) (local.get $cx)))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $step (i32.lt_u (local.get $n) (i32.const 256)))))
    (local.get $n))

  (func $mandelbrot (param $side i32) (result i64)
    (local $i i32) (local $j i32) (local $sum i64) (local $scale f64)
    (local.set $scale (f64.div (f64.const 3) (f64.convert_i32_u (local.get $side))))
    (loop $row
      (local.set $j (i32.const 0))
      (loop $column
        (local.set $sum
          (i64.add (local.get $sum)
            (i64.extend_i32_u
              (call $steps
                (f64.sub
                  (f64.mul (f64.convert_i32_u (local.get $j)) (local.get $scale))
                  (f64.const 2))
                (f64.sub
                  (f64.mul (f64.convert_i32_u (local.get $i)) (local.get $scale))
                  (f64.const 1.5))))))
        (local.set $j (i32.add (local.get $j) (i32.const 1)))
        (br_if $column (i32.lt_u (local.get $j) (local.get $side))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $row (i32.lt_u (local.get $i) (local.get $side))))
    (local.get $sum))

  ;; 0, 1/64, 2/64 and so on, 16384 of them, starting again at 4.
  (func $vectors
    (local $at i32)
    (loop $next
      (f32.store (local.get $at)
        (f32.mul
          (f32.convert_i32_u
            (i32.and (i32.shr_u (local.get $at) (i32.const 2)) (i32.const 255)))
          (f32.const 0.015625)))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 0x10000)))))

  (func $dot (param $shift i32) (result f32)
    (local $at i32) (local $sum v128)
    (loop $next
      (local.set $sum
        (f32x4.add (local.get $sum)
          (f32x4.mul
            (v128.load (local.get $at))
            (v128.load (i32.and (i32.add (local.get $at) (local.get $shift))
              (i32.const 0xfff0))))))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 0x10000))))
    (f32.add
      (f32.add (f32x4.extract_lane 0 (local.get $sum)) (f32x4.extract_lane 1 (local.get $sum)))
      (f32.add (f32x4.extract_lane 2 (local.get $sum)) (f32x4.extract_lane 3 (local.get $sum)))))

  (func (export "run") (param $side i32) (result i64)
    (local $n i32) (local $sum i64)
    (call $vectors)
    (local.set $sum (call $mandelbrot (local.get $side)))
    (local.set $n (i32.mul (local.get $side) (i32.const 8)))
    (loop $next
      (local.set $sum
        (i64.add
          (i64.mul (local.get $sum) (i64.const 31))
          (i64.extend_i32_u
            (i32.reinterpret_f32 (call $dot (i32.shl (local.get $n) (i32.const 4)))))))
      (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $sum)))
