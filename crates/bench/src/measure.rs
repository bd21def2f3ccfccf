//! Taking turns.

use crate::machine::Machine;
use crate::report::{Report, Row};
use crate::{GROUPS, Group, Scale};
use sandgrain::{Engine, Result};
use std::time::Duration;

/// How many samples to take of each thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Samples {
    calls: usize,
}

impl Samples {
    /// So many of each call, a tenth of them of each creation and a hundredth of each kernel, but ten
    /// at least of everything.
    #[must_use]
    pub fn of_calls(calls: usize) -> Self {
        Self { calls }
    }

    fn count(self, scale: Scale) -> usize {
        let count = match scale {
            Scale::Calls => self.calls,
            Scale::Creations => self.calls / 10,
            Scale::Kernels => self.calls / 100,
        };
        count.max(10)
    }
}

/// Measures everything. `begin` is told of each group as its turn comes.
///
/// # Errors
/// Whatever the things that are measured run into.
pub fn measure(
    engine: &Engine,
    samples: Samples,
    mut begin: impl FnMut(&'static str),
) -> Result<Report> {
    let mut rows = Vec::new();
    for make in GROUPS {
        let group = make(engine)?;
        begin(group.name);
        rows.extend(measure_group(group, samples)?);
    }
    Ok(Report { machine: Machine::this()?, unit: "us", rows })
}

fn measure_group(mut group: Group, samples: Samples) -> Result<Vec<Row>> {
    let count = samples.count(group.scale);
    let mut taken = vec![Vec::<Duration>::with_capacity(count); group.members.len()];
    // The first turns fill caches and touch memory: they do not count.
    let warm_up = (count / 10).clamp(1, 100);
    for turn in 0..warm_up + count {
        for (member, taken) in group.members.iter_mut().zip(&mut taken) {
            if group.scale == Scale::Calls {
                // What the other members left behind is not this one's: a call is measured in the
                // state in which one of its own kind leaves the machine.
                (member.time)()?;
            }
            let time = (member.time)()?;
            if turn >= warm_up {
                taken.push(time);
            }
        }
    }
    let floor = taken.first().cloned().unwrap_or_default();
    let members = group.members.iter().zip(&taken);
    Ok(members
        .map(|(member, taken)| Row {
            exits: member.exits,
            ..Row::new(group.name, member.name, member.goal, taken, &floor)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Goal, Member};
    use std::cell::RefCell;
    use std::rc::Rc;

    fn group(scale: Scale, log: &Rc<RefCell<String>>) -> Group {
        let member = |name: &'static str, goal| {
            let log = Rc::clone(log);
            let time = Box::new(move || {
                log.borrow_mut().push_str(name);
                Ok(Duration::from_micros(if name == "a" { 10 } else { 12 }))
            });
            Member { name, goal, exits: None, time }
        };
        let members = vec![member("a", Goal::Floor), member("b", Goal::AtMost(1.3))];
        Group { name: "g", scale, members }
    }

    #[test]
    fn members_take_turns() {
        let log = Rc::default();
        let rows = measure_group(group(Scale::Kernels, &log), Samples::of_calls(0)).unwrap();
        assert_eq!(*log.borrow(), "ab".repeat(11), "one turn to warm up and ten that count");
        assert_eq!(rows.iter().map(|row| row.samples).collect::<Vec<_>>(), [10, 10]);
        assert!((rows[1].ratio.unwrap() - 1.2).abs() < 1e-9);
    }

    #[test]
    fn calls_are_measured_after_one_of_their_own_kind() {
        let log = Rc::default();
        measure_group(group(Scale::Calls, &log), Samples::of_calls(1)).unwrap();
        assert_eq!(*log.borrow(), "aabb".repeat(11));
    }
}
