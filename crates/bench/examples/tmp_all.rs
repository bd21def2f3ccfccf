//! tmp
fn main(){ let n=std::env::args().nth(1).and_then(|a|a.parse().ok()).unwrap_or(2000);
let e=sandgrain_bench::engine().unwrap(); let r=sandgrain_bench::measure(&e, sandgrain_bench::Samples::of_calls(n), |_|()).unwrap();
for r in &r.rows { println!("{:28} {:9.1} {:9.1} {:9.1} {:?} {:?} {:?} {:?}", r.name,r.min,r.median,r.p99,r.ratio,r.ratio_of_medians,r.goal,r.met);} println!("{:?}",r.machine);}
