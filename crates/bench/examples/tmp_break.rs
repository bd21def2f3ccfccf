//! tmp
use std::time::Instant;
use sandgrain::*;
use sandgrain::hypervisor::*;
fn med(mut v: Vec<f64>)->f64{v.sort_by(f64::total_cmp);v[v.len()/2]}
fn main(){
 let e=sandgrain_bench::engine().unwrap();
 let m=Module::new(&e, br#"(module (func (export "result") (result i32) (i32.const 42)))"#).unwrap();
 println!("artifact {} B", m.artifact_bytes().unwrap().len());
 for (name,limits) in [("default",Limits::default()),("64M mem", {let mut l=Limits::default(); l.memory=64<<20; l})]{
 let (mut b,mut c,mut g,mut h,mut d)=(vec![],vec![],vec![],vec![],vec![]); let mut st=Stats::default(); let mut st2=st;
 let mut pages=0;
 for i in 0..300{ let t=Instant::now(); let mut s=Sandbox::builder(&m).limits(limits.clone()).build().unwrap(); let t1=Instant::now(); st=s.stats();
  let _:u32=s.call("result",()).unwrap(); let t2=Instant::now(); st2=s.stats(); drop(s); let t3=Instant::now();
  if i>20 {b.push((t1-t).as_secs_f64()*1e6);c.push((t2-t1).as_secs_f64()*1e6);d.push((t3-t2).as_secs_f64()*1e6);g.push(st.guest.as_secs_f64()*1e6);h.push(st.host.as_secs_f64()*1e6);}}
 { let mut s=Sandbox::builder(&m).limits(limits.clone()).count_pages(true).build().unwrap(); pages=s.stats().pages_touched.unwrap_or(0); let _=&mut s; }
 println!("{name}: build {:.0} (guest {:.0} host {:.0} rest {:.0}) call {:.0} drop {:.0} exits {} first call {:?} pages {}",med(b.clone()),med(g.clone()),med(h.clone()),med(b)-med(g)-med(h),med(c),med(d),st.exits,st2,pages);
 }
 let hv=open().unwrap();
 for len in [64usize<<10, 16<<20, 256<<20, 1<<30, 4<<30]{ let (mut a,mut b,mut c)=(vec![],vec![],vec![]);
  for _ in 0..100{ let t=Instant::now(); let mem=GuestMemory::new(len).unwrap(); let t1=Instant::now(); let vm=hv.create_vm(mem).unwrap(); let t2=Instant::now(); drop(vm); let t3=Instant::now();
  a.push((t1-t).as_secs_f64()*1e6); b.push((t2-t1).as_secs_f64()*1e6);c.push((t3-t2).as_secs_f64()*1e6);} println!("len {len}: map {:.0} create_vm {:.0} drop {:.0}",med(a),med(b),med(c)); }
 if std::env::args().nth(1).as_deref()==Some("loop") { let mut s=Sandbox::new(&m).unwrap(); for _ in 0..300000 { let _:u32=s.call("result",()).unwrap(); } }
 if std::env::args().nth(1).as_deref()==Some("few") { let mut s=Sandbox::new(&m).unwrap(); for _ in 0..1000 { let _:u32=s.call("result",()).unwrap(); } eprintln!("MARK"); for _ in 0..10 { let _:u32=s.call("result",()).unwrap(); } eprintln!("MARK"); }
}
