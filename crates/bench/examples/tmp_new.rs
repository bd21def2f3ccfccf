//! tmp
use sandgrain::*;
fn main(){ let e=sandgrain_bench::engine().unwrap();
 let m=Module::new(&e, br#"(module (func (export "result") (result i32) (i32.const 42)))"#).unwrap();
 let n:usize=std::env::args().nth(1).unwrap().parse().unwrap();
 let t=std::time::Instant::now();
 for _ in 0..n { let mut s=Sandbox::new(&m).unwrap(); let _:u32=s.call("result",()).unwrap(); }
 println!("{:?}", t.elapsed()/(n.max(1) as u32)); }
