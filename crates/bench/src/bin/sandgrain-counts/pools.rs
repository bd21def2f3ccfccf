//! Sandboxes of a snapshot: made when they are asked for, and parked.

use crate::{Count, granted, kernel};
use sandgrain::{Module, Policy, Pool, Result, Sandbox, Snapshot};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a pool may take for a VM, in a machine that is emulated.
const PATIENCE: Duration = Duration::from_secs(60);
/// Calls that teach a pool what calls touch, and more to be sure.
const LESSONS: usize = 8;

/// Counts what callers do; what pools do in their own threads is not counted. Here they do nothing while
/// something is counted, so that statistics of all VMs are those of the caller's.
pub fn from_snapshots(count: Count, module: &Module) -> Result<()> {
    let snapshot = granted(Sandbox::builder(module)).build()?.snapshot()?;
    let mut made = None;
    count("sandbox of a snapshot", 1, &mut || {
        made = Some(granted(snapshot.sandbox()).build()?);
        Ok(())
    })?;
    let mut sandbox = made.ok_or_else(|| kernel::failed("no sandbox was made"))?;
    count("its first call", 1, &mut || sandbox.call("empty", ()))?;
    drop(sandbox);

    let fresh = taught(&snapshot, Policy::Fresh)?;
    let mut taken = None;
    count("parked: take and call", 1, &mut || {
        let mut sandbox = fresh.take("counts")?;
        sandbox.call::<(), ()>("empty", ())?;
        // Until the counts are read: giving it back sets the pool going.
        taken = Some(sandbox);
        Ok(())
    })?;
    drop(taken);
    drop(fresh);

    let reset = taught(&snapshot, Policy::Reset)?;
    let mut sandbox = Some(reset.take("counts")?);
    sandbox.iter_mut().try_for_each(|sandbox| sandbox.call::<(), ()>("empty", ()))?;
    count("give back, with a reset", 1, &mut || {
        drop(sandbox.take());
        Ok(())
    })?;
    count("take and call after a reset", 1, &mut || {
        sandbox = Some(reset.take("counts")?);
        sandbox.iter_mut().try_for_each(|sandbox| sandbox.call::<(), ()>("empty", ()))
    })
}

/// A pool that knows what calls touch, and has nothing to do. It has one VM, so that it makes no other while
/// a caller has that.
fn taught(snapshot: &Snapshot, policy: Policy) -> Result<Pool> {
    let pool = Pool::builder(snapshot).policy(policy).parked(1..=1).at_most(1).configure(granted);
    let pool = pool.build()?;
    for lesson in 0..=LESSONS {
        let started = Instant::now();
        while pool.stats().parked + pool.stats().kept == 0 {
            if started.elapsed() > PATIENCE {
                return Err(kernel::failed("a pool parks no VM"));
            }
            sleep(Duration::from_millis(1));
        }
        // It may go on and have the VM touch what the last call taught.
        sleep(Duration::from_millis(50));
        if lesson < LESSONS {
            pool.take("counts")?.call::<(), ()>("empty", ())?;
        }
    }
    Ok(pool)
}
