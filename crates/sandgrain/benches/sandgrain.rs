//! `cargo bench -p sandgrain`: everything that `sandgrain bench` measures, with Criterion's statistics
//! and its comparison with the last run.
//!
//! Criterion measures one thing after the other. For ratios on a machine that is not quiet,
//! `sandgrain bench` is the better judge: it takes turns.

use criterion::{Criterion, criterion_group, criterion_main};
use sandgrain_bench::{GROUPS, Scale};
use std::time::Duration;

fn all(criterion: &mut Criterion) {
    let engine = sandgrain_bench::engine().expect("benchmarks need a hypervisor");
    for make in GROUPS {
        let group = make(&engine).expect("the group can be set up");
        let mut benches = criterion.benchmark_group(group.name);
        let (samples, seconds) = match group.scale {
            Scale::Calls => (100, 3),
            Scale::Creations => (50, 3),
            Scale::Kernels => (10, 5),
        };
        benches.sample_size(samples).measurement_time(Duration::from_secs(seconds));
        for mut member in group.members {
            benches.bench_function(member.name, |bencher| {
                bencher.iter_custom(|times| {
                    (0..times).map(|_| (member.time)().expect("it works each time")).sum()
                });
            });
        }
        benches.finish();
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
