//! smoke
use sandgrain::*;
fn main() -> Result<()> {
    let t = std::time::Instant::now();
    let engine = Engine::builder().without_cache().build()?;
    println!("engine {:?}", t.elapsed());
    let module = Module::new(&engine, br#"(module
      (import "host" "double" (func $double (param i32) (result i32)))
      (memory (export "memory") 1 10)
      (func (export "quadruple") (param i32) (result i32) (call $double (call $double (local.get 0))))
      (func $fib (export "fib") (param i32) (result i64)
        (if (result i64) (i32.lt_u (local.get 0) (i32.const 2)) (then (i64.extend_i32_u (local.get 0)))
        (else (i64.add (call $fib (i32.sub (local.get 0) (i32.const 1))) (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
      (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
      (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
      (func (export "empty"))
      (func $spin (export "spin") (loop $l (br $l)))
      (func $unr (export "trap") unreachable)
      (func $so (export "recurse") (call $so))
    )"#)?;
    let t = std::time::Instant::now();
    let mut s = Sandbox::builder(&module).function("host", "double", |n: u32| n * 2).limits(Limits::default().deadline(Some(std::time::Duration::from_millis(300)))).count_pages(true).build()?;
    println!("create {:?} {:?}", t.elapsed(), s.stats());
    println!("{:?}", s.call::<_, u32>("quadruple", 10u32)?);
    println!("{:?}", s.call::<_, u64>("fib", 30u32)?);
    println!("{:?} {:?}", s.call::<_, i32>("grow", 5)?, s.stats());
    println!("{:?}", s.call::<_, i32>("load", 65536*6-4)?);
    println!("{:?}", s.call::<_, i32>("load", 65536*6-3));
    println!("{:?}", s.call::<_, i32>("grow", 5)?);
    println!("{:?}", s.call::<_, ()>("trap", ()));
    println!("{:?}", s.call::<_, ()>("recurse", ()).map_err(|e| e.to_string()));
    let t = std::time::Instant::now();
    for _ in 0..1000 { s.call::<(), ()>("empty", ())?; }
    println!("empty {:?} {:?}", t.elapsed() / 1000, s.stats());
    println!("{:?}", s.call::<_, ()>("spin", ()));
    println!("{:?}", s.call::<_, ()>("spin", ()));
    Ok(())
}
