//! Properties of a queue, and its rules one by one.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const MS: Nanos = 1_000_000;
const SCALE: Scale = Scale { target: 5 * MS, interval: 100 * MS, gap: 2 * MS };
const ROOM: Room = Room { calls: 1000, bytes: 1_000_000 };

fn arrival(class: Class) -> Arrival {
    Arrival { class, share: 0, bytes: 10, until: Nanos::MAX }
}

/// Lets a call in, if it may.
fn offer(queue: &mut Queue<u32>, now: Nanos, class: Class, call: u32) -> Result<(), Unserved> {
    queue.admit(now, &arrival(class), ROOM, &SCALE)?;
    queue.put(now, &arrival(class), &SCALE, call);
    Ok(())
}

fn turned(queue: &mut Queue<u32>) -> Vec<(u32, Unserved)> {
    let mut all: Vec<_> = std::iter::from_fn(|| queue.turned()).collect();
    all.sort_by_key(|(call, _)| *call);
    all
}

#[test]
fn a_burst_is_served_in_order_and_what_would_wait_an_interval_is_not_let_in() {
    let mut queue = Queue::default();
    let taken: Vec<_> = (0..200).map(|call| offer(&mut queue, 0, Class::Request, call)).collect();
    assert!(taken[..50].iter().all(Result::is_ok), "fifty at two milliseconds each are an interval");
    assert!(taken[50..].iter().all(|told| *told == Err(Unserved::QueueDelay)), "{taken:?}");
    assert!(queue.is_overloaded());
    // Whoever waits longest is not let down: each has its interval.
    let mut calm = Queue::default();
    (0..50).for_each(|call| assert!(offer(&mut calm, 0, Class::Request, call).is_ok()));
    let order: Vec<_> = (0..50).map_while(|at| calm.take(at * 2 * MS, &SCALE)).collect();
    assert_eq!(order, (0..50).collect::<Vec<_>>());
    assert!(turned(&mut calm).is_empty());
}

#[test]
fn while_more_come_than_go_the_newest_is_next_but_none_waits_in_vain_for_that() {
    let mut queue = Queue::default();
    queue.standing.stands(0);
    for (at, call) in [(0, 1), (2, 2), (4, 3)] {
        offer(&mut queue, at * MS, Class::Request, call).expect("there is room");
    }
    assert_eq!(queue.take(5 * MS, &SCALE), Some(3), "the newest");
    offer(&mut queue, 6 * MS, Class::Request, 5).expect("there is room again");
    assert_eq!(queue.take(8 * MS, &SCALE), Some(1), "it would have waited for ten by the next");
    assert_eq!(queue.take(9 * MS, &SCALE), Some(5));
    assert_eq!(queue.take(11 * MS, &SCALE), Some(2));
    assert_eq!((queue.take(12 * MS, &SCALE), turned(&mut queue)), (None, Vec::new()));
    let told: Vec<_> = (0..7).map(|call| offer(&mut queue, 20 * MS, Class::Request, call)).collect();
    assert!(told[..5].iter().all(Result::is_ok), "as many as are sent in twice the target: {told:?}");
    assert_eq!(told[5..], [Err(Unserved::QueueDelay); 2]);
}

#[test]
fn a_queue_that_stands_above_target_for_an_interval_is_overloaded() {
    let mut queue = Queue::default();
    for call in 0..50 {
        let now = u64::from(call) * 2 * MS;
        offer(&mut queue, now, Class::Request, call).expect("it may wait");
        assert!(!queue.is_overloaded(), "at {call}");
        if call >= 4 {
            queue.take(now, &SCALE).expect("there are some");
        }
    }
    // Four wait, each for eight milliseconds, and nobody ever for less than five.
    assert!((50..60).any(|call| {
        let now = u64::from(call) * 2 * MS;
        let _ = offer(&mut queue, now, Class::Request, call);
        queue.take(now, &SCALE);
        queue.is_overloaded()
    }));
}

#[test]
fn whoever_is_kept_waiting_is_told_and_whoever_has_no_time_left_is_not_sent() {
    let mut queue = Queue::default();
    offer(&mut queue, 0, Class::Request, 1).expect("it may wait");
    let brief = Arrival { until: 30 * MS, ..arrival(Class::Request) };
    queue.admit(0, &brief, ROOM, &SCALE).expect("it may wait");
    queue.put(0, &brief, &SCALE, 2);
    offer(&mut queue, 0, Class::Running, 3).expect("it may wait");
    assert_eq!(queue.deadline(), Some(30 * MS));
    queue.sweep(30 * MS);
    assert_eq!((turned(&mut queue), queue.deadline()), (vec![(2, Unserved::Expired)], Some(100 * MS)));
    queue.sweep(100 * MS);
    assert_eq!(turned(&mut queue), [(1, Unserved::Overdue)]);
    assert!(queue.is_overloaded(), "what was promised could not be kept");
    assert_eq!(queue.take(5_000 * MS, &SCALE), Some(3), "what runs is waited for");
    assert_eq!((queue.deadline(), queue.len(), queue.bytes()), (None, 0, 0));
}

#[test]
fn the_worst_class_is_shed_first_and_the_best_goes_first() {
    let mut queue = Queue::default();
    let room = Room { calls: 3, bytes: 1_000_000 };
    let offer = |queue: &mut Queue<u32>, class, call| {
        queue.admit(0, &arrival(class), room, &SCALE).map(|()| queue.put(0, &arrival(class), &SCALE, call))
    };
    for (call, class) in [(1, Class::Refresh), (2, Class::Refresh), (3, Class::Opening)] {
        assert_eq!(offer(&mut queue, class, call), Ok(()));
    }
    assert_eq!(offer(&mut queue, Class::Refresh, 4), Err(Unserved::QueueCalls), "nobody is worse");
    assert_eq!(offer(&mut queue, Class::Request, 5), Ok(()));
    assert_eq!(turned(&mut queue), [(2, Unserved::Displaced)], "the newest of the worst");
    assert_eq!((offer(&mut queue, Class::Running, 6), offer(&mut queue, Class::Running, 7)), (Ok(()), Ok(())));
    assert_eq!(turned(&mut queue), [(1, Unserved::Displaced), (3, Unserved::Displaced)]);
    assert_eq!(offer(&mut queue, Class::Request, 8), Err(Unserved::QueueCalls));
    assert_eq!(offer(&mut queue, Class::Control, 9), Ok(()));
    assert_eq!(turned(&mut queue), [(5, Unserved::Displaced)]);
    let order: Vec<_> = std::iter::from_fn(|| queue.take(0, &SCALE)).collect();
    assert_eq!(order, [9, 6, 7]);
}

#[test]
fn bytes_are_bounded_as_well_and_one_that_is_larger_than_all_waits_alone() {
    let (mut queue, room) = (Queue::default(), Room { calls: 100, bytes: 100 });
    let sized = |class, bytes| Arrival { bytes, ..arrival(class) };
    let offer = |queue: &mut Queue<u32>, class, bytes, call| {
        let new = sized(class, bytes);
        queue.admit(0, &new, room, &SCALE).map(|()| queue.put(0, &new, &SCALE, call))
    };
    assert_eq!(offer(&mut queue, Class::Request, 500, 1), Ok(()));
    assert_eq!(offer(&mut queue, Class::Request, 1, 2), Err(Unserved::QueueBytes));
    assert_eq!(queue.drain(), [1]);
    for call in 3..7 {
        assert_eq!(offer(&mut queue, Class::Refresh, 25, call), Ok(()));
    }
    assert_eq!(offer(&mut queue, Class::Request, 60, 7), Ok(()));
    assert_eq!(turned(&mut queue).len(), 3, "as many as it needs");
    assert_eq!((queue.bytes(), queue.len()), (85, 2));
}

#[derive(Clone, Debug)]
enum Step {
    Offer { class: usize, bytes: usize, lasts: u64, share: u8 },
    Take,
    Sweep,
    Remove(u32),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let offer = (0..5usize, 0..50usize, 0..400u64, 0..16u8).prop_map(|(class, bytes, lasts, share)| Step::Offer {
        class,
        bytes,
        lasts,
        share,
    });
    let step =
        prop_oneof![4 => offer, 2 => Just(Step::Take), 1 => Just(Step::Sweep), 1 => (0..300u32).prop_map(Step::Remove)];
    proptest::collection::vec((0..6 * MS, step), 0..300)
}

const CLASSES: [Class; 5] = [Class::Control, Class::Running, Class::Request, Class::Opening, Class::Refresh];

proptest! {
    /// Whatever comes when: everybody who was put in comes out once; bounds hold; nobody is sent whose time is up; of
    /// what runs nobody is turned away but for a better class or because its time is up; and the order is that of
    /// classes.
    #[test]
    fn everybody_has_one_end(steps in steps(), calls in 1..12usize, bytes in 1..200usize, gap in 0..4 * MS) {
        let (room, scale) = (Room { calls, bytes }, Scale { gap, ..SCALE });
        let mut queue = Queue::default();
        let (mut now, mut inside, mut next) = (0, BTreeSet::new(), 0u32);
        let mut known: Vec<(Class, Nanos)> = Vec::new();
        for (pause, step) in steps {
            now += pause;
            match step {
                Step::Offer { class, bytes, lasts, share } => {
                    let class = CLASSES[class];
                    let new = Arrival { class, share, bytes, until: now + 1 + lasts * MS };
                    let waited = queue.len();
                    let told = queue.admit(now, &new, room, &scale);
                    known.push((class, new.until));
                    match told {
                        Ok(()) => {
                            queue.put(now, &new, &scale, next);
                            inside.insert(next);
                        }
                        Err(why) => {
                            prop_assert!(waited > 0, "the first may always wait: {:?}", why);
                            let is_bound = matches!(why, Unserved::QueueCalls | Unserved::QueueBytes);
                            prop_assert!(class.is_sheddable() || is_bound, "{:?}", why);
                        }
                    }
                    next += 1;
                }
                Step::Take => {
                    let of = |call: &u32| known[*call as usize];
                    let best = inside.iter().map(of).filter(|(_, until)| *until > now).map(|(class, _)| class).min();
                    if let Some(call) = queue.take(now, &scale) {
                        prop_assert!(inside.remove(&call), "{} came out twice", call);
                        let (class, until) = known[call as usize];
                        prop_assert!(until > now, "its time is up");
                        // Of those that can be overdue the best may have been, and been turned away.
                        prop_assert!(best.is_some_and(|best| class == best || best.is_sheddable() && class > best));
                    } else {
                        prop_assert!(queue.is_empty());
                    }
                }
                Step::Sweep => queue.sweep(now),
                Step::Remove(call) => {
                    let gone = queue.remove(|one| *one == call);
                    prop_assert_eq!(gone.len(), usize::from(!gone.is_empty()));
                    gone.iter().for_each(|one| assert!(inside.remove(one)));
                }
            }
            while let Some((call, why)) = queue.turned() {
                prop_assert!(inside.remove(&call), "{} came out twice", call);
                let (class, until) = known[call as usize];
                match why {
                    Unserved::Expired => prop_assert!(until <= now),
                    Unserved::Overdue => prop_assert!(class.is_sheddable() && until > now),
                    Unserved::Displaced => prop_assert!(class > Class::Control),
                    other => prop_assert!(false, "{:?} is said at the door", other),
                }
            }
            prop_assert_eq!(queue.len(), inside.len());
            prop_assert_eq!(queue.iter().copied().collect::<BTreeSet<_>>(), inside.clone());
            prop_assert!(queue.len() <= calls && (queue.bytes() <= bytes || queue.len() == 1));
            prop_assert_eq!(queue.deadline().is_some(), queue.due != Nanos::MAX);
        }
        let left: BTreeSet<_> = queue.drain().into_iter().collect();
        prop_assert_eq!((left, queue.len(), queue.bytes()), (inside, 0, 0));
    }
}
