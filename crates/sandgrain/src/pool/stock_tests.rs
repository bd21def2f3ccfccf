//! The numbers of a pool, in any order of events. A VM is the number of the tenant that it has served last;
//! 0 for none.

use super::*;
use proptest::prelude::*;

fn tenant(number: u8) -> Tenant {
    number.to_string().into()
}

fn bounds(min_ready: usize, max_ready: usize, max_total: usize) -> Bounds {
    Bounds { min_ready, max_ready, max_kept: max_ready, max_total }
}

/// Parks as many as are wanted.
fn fill(stock: &mut Stock<u8>) -> usize {
    let mut made = 0;
    while stock.begin() {
        stock.finish(Some(0));
        made += 1;
    }
    made
}

#[test]
fn as_many_are_parked_as_are_wanted_at_least() {
    let mut stock = Stock::new(bounds(3, 8, 10));
    assert_eq!(fill(&mut stock), 3);
    assert_eq!(stock.take(&tenant(1)), Taken::Ready(0));
    assert_eq!(fill(&mut stock), 1);
    assert_eq!((stock.stats().parked, stock.stats().in_use, stock.stats().hits), (3, 1, 1));
}

#[test]
fn who_finds_none_makes_the_pool_larger() {
    let mut stock = Stock::<u8>::new(bounds(0, 8, 100));
    assert_eq!(fill(&mut stock), 0);
    for (taken, target) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8)] {
        assert_eq!(stock.take(&tenant(1)), Taken::Make(None));
        assert_eq!((stock.stats().in_use, stock.stats().target), (taken, target));
    }
    assert_eq!(fill(&mut stock), 8);
    assert_eq!(stock.stats().misses, 5);
}

#[test]
fn what_nobody_needs_goes_by_and_by() {
    let mut stock = Stock::new(bounds(1, 16, 100));
    for _ in 0..6 {
        assert_eq!(stock.take(&tenant(1)), Taken::Make(None));
        stock.give_up();
    }
    assert_eq!(fill(&mut stock), 16);
    stock.look_back();
    assert_eq!(stock.surplus(), None, "there were none at the last look");
    // Four at once are all that anybody needs.
    let mut targets = Vec::new();
    for _ in 0..6 {
        for _ in 0..4 {
            assert_eq!(stock.take(&tenant(1)), Taken::Ready(0));
        }
        (0..4).for_each(|_| stock.give_up());
        stock.look_back();
        while stock.surplus().is_some() {}
        fill(&mut stock);
        targets.push(stock.stats().target);
    }
    assert!(targets.is_sorted_by(|a, b| a >= b), "{targets:?}");
    assert!((4..=6).contains(targets.last().unwrap()), "{targets:?}");
    for _ in 0..8 {
        stock.look_back();
        while stock.surplus().is_some() {}
    }
    assert_eq!(stock.stats().parked, 1, "down to the least");
}

#[test]
fn a_tenant_gets_its_own_back_and_never_anothers() {
    let mut stock = Stock::new(bounds(0, 2, 3));
    for n in [1, 2] {
        assert_eq!(stock.take(&tenant(n)), Taken::Make(None));
        stock.give_up();
        assert_eq!(stock.keep(tenant(n), n), None);
    }
    assert_eq!(stock.take(&tenant(2)), Taken::Ready(2));
    assert_eq!(stock.take(&tenant(2)), Taken::Make(None));
    // There is room for one more only if the first one's goes.
    assert_eq!(stock.take(&tenant(3)), Taken::Make(Some(1)));
    assert_eq!(stock.take(&tenant(3)), Taken::Refused);
    assert_eq!(stock.stats().refused, 1);
}

#[test]
fn who_comes_while_the_last_one_is_made_waits_for_it() {
    let mut stock = Stock::new(bounds(1, 1, 1));
    assert!(stock.begin());
    assert_eq!(stock.take(&tenant(1)), Taken::Wait);
    stock.finish(Some(0));
    assert_eq!(stock.take(&tenant(1)), Taken::Ready(0));
    assert_eq!(stock.take(&tenant(1)), Taken::Refused);
    stock.give_up();
    // One that could not be made: then the caller makes it, and hears why.
    assert!(stock.begin());
    assert_eq!(stock.take(&tenant(1)), Taken::Wait);
    stock.finish(None);
    assert_eq!(stock.take(&tenant(1)), Taken::Make(None));
}

#[test]
fn of_many_that_wait_for_tenants_the_oldest_goes() {
    let mut stock = Stock::new(bounds(0, 2, 10));
    assert_eq!(stock.keep(tenant(1), 1), None);
    assert_eq!(stock.keep(tenant(2), 2), None);
    assert_eq!(stock.keep(tenant(3), 3), Some(1));
}

#[test]
fn a_cap_holds_whatever_is_asked_for() {
    let mut stock = Stock::<u8>::new(bounds(4, 8, 100));
    assert_eq!(fill(&mut stock), 4);
    stock.cap(2);
    assert!(stock.surplus().is_some() && stock.surplus().is_some());
    assert_eq!(stock.surplus(), None);
    for _ in 0..9 {
        stock.take(&tenant(1));
    }
    assert_eq!(fill(&mut stock), 2);
}

#[test]
fn one_that_could_not_be_made_is_counted_and_missed_by_nobody() {
    let mut stock = Stock::<u8>::new(bounds(1, 2, 2));
    assert!(stock.begin());
    stock.finish(None);
    assert_eq!((stock.stats().failed, stock.stats().parked), (1, 0));
    assert_eq!(fill(&mut stock), 1);
}

#[test]
fn more_may_be_kept_than_parked_for_as_long_as_they_are_needed() {
    let mut stock = Stock::<u8>::new(Bounds { max_kept: 6, ..bounds(0, 2, 9) });
    for _ in 0..7 {
        assert_eq!(stock.take(&tenant(1)), Taken::Make(None));
    }
    let mut gone = 0;
    for _ in 0..7 {
        stock.give_up();
        gone += usize::from(stock.keep(tenant(1), 1).is_some());
    }
    assert_eq!((gone, stock.stats().kept), (1, 6));
    let drop_spare = |stock: &mut Stock<u8>| {
        stock.look_back();
        std::iter::from_fn(|| stock.surplus()).count()
    };
    // All of them were needed until now.
    assert_eq!(drop_spare(&mut stock), 0);
    for _ in 0..5 {
        assert_eq!(stock.take(&tenant(1)), Taken::Ready(1));
    }
    for _ in 0..5 {
        stock.give_up();
        assert_eq!(stock.keep(tenant(1), 1), None);
    }
    assert_eq!(drop_spare(&mut stock), 1, "one was not needed");
    assert_eq!(drop_spare(&mut stock), 3, "none was, and half of them go");
    assert_eq!(drop_spare(&mut stock), 0, "as many as may be parked stay");
    assert_eq!(stock.stats().kept, 2);
}

#[derive(Clone, Debug)]
enum Event {
    Take(u8),
    Keep(usize),
    Drop(usize),
    Begin,
    Finish(bool),
    LookBack,
    Surplus,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1..4_u8).prop_map(Event::Take),
        2 => any::<usize>().prop_map(Event::Keep),
        2 => any::<usize>().prop_map(Event::Drop),
        4 => Just(Event::Begin),
        4 => prop::bool::weighted(0.9).prop_map(Event::Finish),
        1 => Just(Event::LookBack),
        1 => Just(Event::Surplus),
    ]
}

proptest! {
    #[test]
    fn no_order_of_events_breaks_the_bounds_or_mixes_tenants(
        min in 0..3_usize,
        ready in 0..5_usize,
        total in 1..8_usize,
        events in prop::collection::vec(event(), 0..200),
    ) {
        let bounds = bounds(min, min + ready, min + ready + total);
        let mut stock = Stock::new(bounds);
        // In callers' hands: the tenant and the VM.
        let mut out: Vec<(u8, u8)> = Vec::new();
        let mut making = 0;
        for event in events {
            match event {
                Event::Take(who) => match stock.take(&tenant(who)) {
                    Taken::Ready(vm) => {
                        prop_assert!(vm == 0 || vm == who, "tenant {who} got {vm}'s");
                        out.push((who, vm));
                    }
                    Taken::Make(_) => out.push((who, 0)),
                    Taken::Wait => prop_assert!(making > 0 && stock.stats().parked == 0),
                    Taken::Refused => {
                        prop_assert_eq!((out.len(), making), (bounds.max_total, 0));
                    }
                },
                Event::Keep(at) if !out.is_empty() => {
                    let (who, _) = out.swap_remove(at % out.len());
                    stock.give_up();
                    stock.keep(tenant(who), who);
                }
                Event::Drop(at) if !out.is_empty() => {
                    out.swap_remove(at % out.len());
                    stock.give_up();
                }
                Event::Begin => making += usize::from(stock.begin()),
                Event::Finish(made) if making > 0 => {
                    making -= 1;
                    stock.finish(made.then_some(0));
                }
                Event::LookBack => stock.look_back(),
                Event::Surplus => drop(stock.surplus()),
                Event::Keep(_) | Event::Drop(_) | Event::Finish(_) => {}
            }
            let stats = stock.stats();
            prop_assert_eq!(stats.in_use, out.len());
            prop_assert!(stats.parked <= bounds.max_ready && stats.kept <= bounds.max_ready);
            prop_assert!(stats.target >= bounds.min_ready && stats.target <= bounds.max_ready);
            let all = stats.parked + stats.kept + stats.in_use + making;
            prop_assert!(all <= bounds.max_total, "{:?} and {} being made", stats, making);
        }
    }
}
