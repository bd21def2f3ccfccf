;; One export for each way to trap. Each traps in a named function called by another one, so a
;; backtrace has something to show.
(module
  (type $none (func))
  (type $number (func (param i32) (result i32)))
  (memory (export "memory") 1 1)
  ;; Element 0 has another type than the caller below expects, element 1 is null.
  (table $table 2 2 funcref)
  (elem (i32.const 0) $nothing)
  (func $nothing)

  (func $hits_unreachable unreachable)
  (func $unreachable (export "unreachable") (call $hits_unreachable))

  (func $divides (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (func $div_by_zero (export "div_by_zero") (result i32)
    (call $divides (i32.const 1) (i32.const 0)))
  ;; -2147483648 / -1 is one more than fits.
  (func $integer_overflow (export "integer_overflow") (result i32)
    (call $divides (i32.const 0x80000000) (i32.const -1)))

  (func $truncates (param f64) (result i32) (i32.trunc_f64_s (local.get 0)))
  (func $bad_conversion (export "bad_conversion") (result i32)
    (call $truncates (f64.const nan)))

  (func $loads (param i32) (result i32) (i32.load (local.get 0)))
  ;; Three bytes of the four are inside.
  (func $out_of_bounds (export "out_of_bounds") (result i32)
    (call $loads (i32.const 65533)))
  ;; As far as an address and an offset reach: almost 8 GiB behind the start of memory.
  (func $loads_far (param i32) (result i32) (i32.load offset=0xffffffff (local.get 0)))
  (func $far_out_of_bounds (export "far_out_of_bounds") (result i32)
    (call $loads_far (i32.const 0xffffffff)))
  (func $stores (param i32) (i64.store (local.get 0) (i64.const -1)))
  (func $store_out_of_bounds (export "store_out_of_bounds")
    (call $stores (i32.const 0x7fffffff)))

  (func $calls (param i32) (result i32)
    (call_indirect (type $number) (i32.const 7) (local.get 0)))
  (func $indirect_call_mismatch (export "indirect_call_mismatch") (result i32)
    (call $calls (i32.const 0)))
  (func $indirect_call_null (export "indirect_call_null") (result i32)
    (call $calls (i32.const 1)))
  (func $table_out_of_bounds (export "table_out_of_bounds") (result i32)
    (call $calls (i32.const 2)))

  ;; Adding after the call keeps it from being a loop.
  (func $recurses (param i32) (result i32)
    (i32.add (local.get 0) (call $recurses (i32.add (local.get 0) (i32.const 1)))))
  (func $stack_overflow (export "stack_overflow") (result i32)
    (call $recurses (i32.const 0)))

  ;; That a store of this module goes on working after it trapped elsewhere is for a host to find out.
  (func $fine (export "fine") (result i32) (i32.const 42)))
