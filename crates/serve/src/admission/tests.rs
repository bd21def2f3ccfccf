use super::{Admission, Bounds, Entered, Full, Gate, Granted};
use proptest::prelude::*;

fn bounds(running: usize, waiting: usize) -> Bounds {
    Bounds { running, waiting }
}

/// Enters, and has its own name as what it is told by.
fn enter(admission: &mut Admission<u32>, function: u64, name: u32) -> Entered {
    admission.enter(function, || name)
}

/// Whether they run at once, and under which number.
fn number(entered: Entered) -> u64 {
    let Entered::Runs(number) = entered else { panic!("{entered:?}") };
    number
}

fn names(granted: Vec<Granted<u32>>) -> Vec<u32> {
    granted.into_iter().map(|granted| granted.waiter).collect()
}

#[test]
fn each_limit_holds_and_says_whose_it_is() {
    let mut admission = Admission::new(10, 10);
    let tenant = admission.add_tenant(bounds(3, 2));
    let a = admission.add_function(tenant, bounds(2, 1));
    let b = admission.add_function(tenant, bounds(5, 5));
    let first = number(enter(&mut admission, a, 1));
    number(enter(&mut admission, a, 2));
    assert!(matches!(enter(&mut admission, a, 3), Entered::Waits(_)));
    assert_eq!(enter(&mut admission, a, 4), Entered::Refused(Full::Function));
    let fifth = number(enter(&mut admission, b, 5));
    assert!(matches!(enter(&mut admission, b, 6), Entered::Waits(_)));
    assert_eq!(enter(&mut admission, b, 7), Entered::Refused(Full::Tenant));
    // The tenant's third place goes to whose turn it is first.
    assert_eq!(names(admission.leave(a, first)), [3]);
    assert_eq!(names(admission.leave(b, fifth)), [6]);
}

#[test]
fn tenants_take_turns_whatever_each_has_waiting() {
    let mut admission = Admission::new(1, 9);
    let busy = admission.add_tenant(bounds(9, 99));
    let calm = admission.add_tenant(bounds(9, 99));
    let first = admission.add_function(busy, bounds(9, 99));
    let second = admission.add_function(busy, bounds(9, 99));
    let third = admission.add_function(calm, bounds(9, 99));
    let mut last = number(enter(&mut admission, first, 0));
    for name in 10..20 {
        enter(&mut admission, first, name);
    }
    enter(&mut admission, second, 50);
    enter(&mut admission, third, 90);
    enter(&mut admission, third, 91);
    let mut order = Vec::new();
    let mut runs = first;
    for _ in 0..7 {
        let granted = admission.leave(runs, last);
        assert_eq!(granted.len(), 1);
        (runs, last) = (granted[0].function, granted[0].number);
        order.push(granted[0].waiter);
    }
    assert_eq!(order, [10, 90, 50, 91, 11, 12, 13]);
}

#[test]
fn who_gives_up_is_not_called_and_holds_nobody_up() {
    let mut admission = Admission::new(1, 9);
    let tenant = admission.add_tenant(bounds(1, 9));
    let function = admission.add_function(tenant, bounds(1, 9));
    let first = number(enter(&mut admission, function, 0));
    let Entered::Waits(ticket) = enter(&mut admission, function, 1) else { panic!() };
    enter(&mut admission, function, 2);
    admission.give_up(function, ticket);
    admission.give_up(function, ticket);
    assert_eq!(admission.counts(function), (1, 1));
    assert_eq!(names(admission.leave(function, first)), [2]);
}

#[test]
fn a_paused_tenant_waits_and_others_go_on() {
    let mut admission = Admission::new(5, 9);
    let (a, b) = (admission.add_tenant(bounds(5, 5)), admission.add_tenant(bounds(5, 5)));
    let (of_a, of_b) =
        (admission.add_function(a, bounds(5, 5)), admission.add_function(b, bounds(5, 5)));
    assert!(admission.pause(a, true).is_empty());
    assert!(matches!(enter(&mut admission, of_a, 1), Entered::Waits(_)));
    let second = number(enter(&mut admission, of_b, 2));
    assert_eq!(names(admission.leave(of_b, second)), [0; 0]);
    assert_eq!(names(admission.pause(a, false)), [1]);
}

#[test]
fn a_closed_function_is_forgotten_once_nobody_is_there() {
    let mut admission = Admission::new(1, 9);
    let tenant = admission.add_tenant(bounds(5, 5));
    let function = admission.add_function(tenant, bounds(5, 5));
    let first = number(enter(&mut admission, function, 1));
    enter(&mut admission, function, 2);
    admission.close_function(function);
    let granted = admission.leave(function, first);
    assert_eq!((granted.len(), granted[0].waiter), (1, 2));
    assert_eq!(names(admission.leave(function, granted[0].number)), [0; 0]);
    assert_eq!(enter(&mut admission, function, 3), Entered::Refused(Full::Function));
}

#[test]
fn only_as_many_begin_at_once_as_there_are_cpus() {
    let mut admission = Admission::new(9, 2);
    let tenant = admission.add_tenant(bounds(9, 0));
    let function = admission.add_function(tenant, bounds(5, 0));
    let first = number(enter(&mut admission, function, 1));
    let second = number(enter(&mut admission, function, 2));
    for name in 3..6 {
        // Not refused, though nobody may wait: it has its place among those who run.
        assert!(matches!(enter(&mut admission, function, name), Entered::Waits(_)));
    }
    assert_eq!(enter(&mut admission, function, 6), Entered::Refused(Full::Function));
    // Who waits for something makes room once.
    assert_eq!(names(admission.make_room(first)), [3]);
    assert_eq!(names(admission.make_room(first)), [0; 0]);
    assert_eq!(names(admission.leave(function, first)), [0; 0]);
    assert_eq!(names(admission.leave(function, second)), [4]);
    assert_eq!(admission.counts(function), (2, 1));
}

#[test]
fn who_runs_for_more_than_a_round_makes_room() {
    let mut admission = Admission::new(9, 1);
    let tenant = admission.add_tenant(bounds(9, 9));
    let function = admission.add_function(tenant, bounds(9, 9));
    number(enter(&mut admission, function, 1));
    enter(&mut admission, function, 2);
    enter(&mut admission, function, 3);
    // It began within this one.
    let (granted, goes_on) = admission.end_round();
    assert_eq!((names(granted), goes_on), (vec![], true));
    let (granted, goes_on) = admission.end_round();
    assert_eq!((names(granted), goes_on), (vec![2], true));
    assert_eq!(names(admission.end_round().0), [0; 0]);
    let (granted, goes_on) = admission.end_round();
    assert_eq!((names(granted), goes_on), (vec![3], false));
}

#[derive(Clone, Debug)]
enum Event {
    Enter(usize),
    Leave(usize),
    GiveUp(usize),
    Pause(usize, bool),
    MakeRoom(usize),
    EndRound,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => (0..4_usize).prop_map(Event::Enter),
        4 => any::<usize>().prop_map(Event::Leave),
        1 => any::<usize>().prop_map(Event::GiveUp),
        1 => any::<usize>().prop_map(Event::MakeRoom),
        1 => Just(Event::EndRound),
        1 => (0..2_usize, any::<bool>()).prop_map(|(tenant, paused)| Event::Pause(tenant, paused)),
    ]
}

proptest! {
    #[test]
    fn no_order_of_events_breaks_a_limit_or_leaves_a_place_empty_that_somebody_waits_for(
        most in 1..5_usize,
        cpus in 1..5_usize,
        limits in prop::array::uniform6((1..4_usize, 0..4_usize)),
        events in prop::collection::vec(event(), 0..300),
    ) {
        let mut admission = Admission::new(most, cpus);
        let limit = |at: usize| bounds(limits[at].0, limits[at].1);
        let tenants = [admission.add_tenant(limit(0)), admission.add_tenant(limit(1))];
        let functions: Vec<u64> = (0..4)
            .map(|at| admission.add_function(tenants[at % 2], limit(2 + at)))
            .collect();
        let mut running: Vec<(usize, u64)> = Vec::new();
        // Numbers of those at their beginning, and the rounds that have ended since.
        let mut beginning: Vec<(u64, u32)> = Vec::new();
        let mut waiting: Vec<(usize, u64)> = Vec::new();
        let mut paused = [false; 2];
        for event in events {
            let granted = match event {
                Event::Enter(at) => {
                    match admission.enter(functions[at], || at as u32) {
                        Entered::Runs(number) => {
                            running.push((at, number));
                            beginning.push((number, 0));
                        }
                        Entered::Waits(ticket) => waiting.push((at, ticket)),
                        Entered::Refused(_) => {}
                    }
                    Vec::new()
                }
                Event::Leave(at) if !running.is_empty() => {
                    let (function, number) = running.swap_remove(at % running.len());
                    beginning.retain(|(of, _)| *of != number);
                    admission.leave(functions[function], number)
                }
                Event::GiveUp(at) if !waiting.is_empty() => {
                    let (function, ticket) = waiting.remove(at % waiting.len());
                    admission.give_up(functions[function], ticket);
                    Vec::new()
                }
                Event::Pause(tenant, value) => {
                    paused[tenant] = value;
                    admission.pause(tenants[tenant], value)
                }
                Event::MakeRoom(at) if !running.is_empty() => {
                    let (_, number) = running[at % running.len()];
                    beginning.retain(|(of, _)| *of != number);
                    admission.make_room(number)
                }
                Event::EndRound => {
                    beginning.iter_mut().for_each(|(_, rounds)| *rounds += 1);
                    beginning.retain(|(_, rounds)| *rounds < 2);
                    let (granted, goes_on) = admission.end_round();
                    prop_assert_eq!(goes_on, waiting.len() > granted.len());
                    granted
                }
                Event::Leave(_) | Event::GiveUp(_) | Event::MakeRoom(_) => Vec::new(),
            };
            for granted in granted {
                let at = functions.iter().position(|f| *f == granted.function).unwrap();
                prop_assert_eq!(granted.waiter as usize, at);
                // The first of a function's to wait is the first to go.
                let first = waiting.iter().position(|(of, _)| *of == at).unwrap();
                waiting.remove(first);
                running.push((at, granted.number));
                beginning.push((granted.number, 0));
            }
            prop_assert!(beginning.len() <= cpus);
            prop_assert!(running.len() <= most);
            prop_assert_eq!(admission.running(), running.len());
            let of = |tenant: usize| running.iter().filter(|(at, _)| *at % 2 == tenant).count();
            for (at, function) in functions.iter().enumerate() {
                let (runs, waits) = admission.counts(*function);
                let own = limit(2 + at);
                prop_assert!(runs <= own.running && runs + waits <= own.running + own.waiting);
                let room = running.len() < most
                    && beginning.len() < cpus
                    && of(at % 2) < limit(at % 2).running
                    && runs < limit(2 + at).running
                    && !paused[at % 2];
                prop_assert!(waits == 0 || !room, "{at} could run and waits");
            }
        }
    }
}

#[tokio::test]
async fn a_task_that_stops_waiting_leaves_its_place_to_the_next() {
    let gate = Gate::new(1, 9);
    let tenant = gate.add_tenant(bounds(9, 9));
    let seat = gate.seat(tenant, bounds(9, 9));
    let first = seat.admit().await.expect("room");
    {
        let mut gone = std::pin::pin!(seat.admit());
        assert!(poll_once(gone.as_mut()).await.is_none());
    }
    assert_eq!(seat.counts(), (1, 0));
    let mut next = std::pin::pin!(seat.admit());
    assert!(poll_once(next.as_mut()).await.is_none());
    drop(first);
    assert!(next.await.is_ok());
    assert_eq!(seat.counts(), (0, 0));
}

/// Polls once.
async fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut future = future;
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
