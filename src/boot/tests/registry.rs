//! The registry on real cores through the real mesh: the ten correctness cases and the ten sharded ones of the system
//! this one takes after, on 16, 64 and 128 shards, at 1, 2 and 4 cores; then cores that sleep, stall, slow down or die.
//!
//! Invariant: after each case, when its owners are gone, no core knows of anything.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::registry_rig::{Cores, keep, let_go, received, with_kept};
use super::rig::{alone, until};
use crate::boot::OnCore;
use crate::ids::{CoreId, ShardId};
use crate::server::registry::Written;
use crate::shard::registry::{Admission, Kind, Refusal};

const APPLIED: Result<Written, Refusal> = Ok(Written { applied: true });

/// An owner on that core, kept under a name.
fn owner(cores: &Cores, core: usize, name: &'static str) {
    cores.on(core, async move |core: OnCore| keep(name, core.registry().owner().expect("room")));
}

fn gone(cores: &Cores, core: usize, name: &'static str) {
    cores.on(core, async move |_| let_go(name));
    until("what it registered is gone everywhere", || cores.known().iter().all(|&known| known == 0));
}

fn register(cores: &Cores, core: usize, by: &'static str, kind: Kind, name: String) -> Result<Written, Refusal> {
    cores.on(core, async move |core: OnCore| {
        let registry = core.registry();
        // A write that another test's load holds up for 50 ms is done all the same.
        match kind {
            Kind::Server => with_kept(by, |owner| registry.register_server(owner, &name, name.as_bytes()))
                .await
                .map(|_| Written { applied: true }),
            Kind::Transport => with_kept(by, |owner| registry.register_transport(owner, &name, name.as_bytes(), None))
                .await
                .map(|_| Written { applied: true }),
        }
    })
}

/// 1: a thousand messages by one route, all of them come. 3: and in order.
fn no_message_is_lost_and_all_come_in_order(cores: &Cores) {
    let (from, to) = (0, cores.count() - 1);
    owner(cores, to, "sink");
    assert_eq!(register(cores, to, "sink", Kind::Server, "s".into()), APPLIED);
    let sent = cores.begin(from, async |core: OnCore| {
        for number in 0..1000u32 {
            core.registry().route_to_server("s", "t", &number.to_le_bytes()).await.expect("it is there");
        }
    });
    let came = cores.on(to, async |_| {
        let mut came = Vec::new();
        while came.len() < 1000 {
            let next = with_kept("sink", |owner| owner.take());
            match next {
                Some(message) => came.push(u32::from_le_bytes(message.body().try_into().expect("four bytes"))),
                None => pause().await,
            }
        }
        came
    });
    received(&sent);
    assert_eq!(came, (0..1000).collect::<Vec<_>>());
    let left = cores.on(to, async |_| with_kept("sink", |owner| owner.take().is_some()));
    assert!(!left, "none came twice");
    gone(cores, to, "sink");
}

async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// 2: one message to 50 bound transports.
fn a_broadcast_reaches_all_that_are_bound(cores: &Cores) {
    const NAMES: [&str; 4] = ["b0", "b1", "b2", "b3"];
    for (core, name) in NAMES.into_iter().enumerate().take(cores.count()) {
        owner(cores, core, name);
    }
    assert_eq!(register(cores, 0, "b0", Kind::Server, "s".into()), APPLIED);
    for index in 0..60usize {
        let core = index % cores.count();
        assert_eq!(register(cores, core, NAMES[core], Kind::Transport, format!("t{index}")), APPLIED);
        if index < 50 {
            let bound = cores.on(core, async move |core: OnCore| {
                core.registry().bind_transport_to_server(&format!("t{index}"), "s").await
            });
            assert!(bound.is_ok());
        }
    }
    let told = cores.on(cores.count() - 1, async |core: OnCore| core.registry().broadcast("s", b"all").await);
    assert_eq!(told, Ok((50, 0)));
    let outside = cores.registry.broadcast("s", b"all");
    assert_eq!(outside, Ok((50, 0)));
    let mut keys = Vec::new();
    for (core, name) in NAMES.into_iter().enumerate().take(cores.count()) {
        keys.extend(cores.on(core, async move |_| {
            let take = || with_kept(name, |owner| owner.take());
            std::iter::from_fn(take).map(|message| message.to).collect::<Vec<_>>()
        }));
    }
    let each: BTreeSet<_> = keys.iter().collect();
    assert_eq!((keys.len(), each.len()), (100, 50), "each of the 50 twice");
    for (core, name) in NAMES.into_iter().enumerate().take(cores.count()) {
        cores.on(core, async move |_| let_go(name));
    }
    until("what it registered is gone everywhere", || cores.known().iter().all(|&known| known == 0));
}

/// 4: 500 names, none twice. And all of them are found, from every core and from outside.
fn nothing_is_there_twice(cores: &Cores) {
    owner(cores, 0, "o");
    for round in 0..2 {
        let done = cores.on(0, async |core: OnCore| {
            let mut done = 0;
            for index in 0..500 {
                let name = format!("n{index}");
                let asked = with_kept("o", |owner| core.registry().register_server(owner, &name, b""));
                match asked.await {
                    Ok(_) => done += 1,
                    Err(refusal) => assert_eq!(refusal, Refusal::AlreadyRegistered(Kind::Server)),
                }
            }
            done
        });
        assert_eq!(done, if round == 0 { 500 } else { 0 });
    }
    let names: BTreeSet<String> = cores.registry.list_servers().expect("all answer").into_iter().collect();
    assert_eq!(names.len(), 500);
    assert_eq!(cores.known(), vec![500; cores.count()]);
    gone(cores, 0, "o");
}

/// 5: 10 servers, 100 transports, 100 bindings, all resolved by every core and from outside.
fn bindings_are_the_same_everywhere(cores: &Cores) {
    let last = cores.count() - 1;
    owner(cores, last, "o");
    for index in 0..10 {
        assert_eq!(register(cores, last, "o", Kind::Server, format!("s{index}")), APPLIED);
    }
    for index in 0..100 {
        let bound = cores.on(last, async move |core: OnCore| {
            let (name, server) = (format!("t{index}"), format!("s{}", index % 10));
            let asked = with_kept("o", |owner| core.registry().register_transport(owner, &name, b"", Some(&server)));
            asked.await
        });
        assert!(bound.is_ok(), "a server in the configuration binds");
    }
    for core in 0..cores.count() {
        cores.on(core, async |core: OnCore| {
            let registry = core.registry();
            for index in 0..100 {
                let (transport, server) = (format!("t{index}"), format!("s{}", index % 10));
                assert_eq!(registry.server_for_transport(&transport).await, Ok(server.clone()));
                let (key, owner) = registry.find_server_for_transport(&transport).expect("the replica knows");
                assert_eq!((key, Some(owner)), (registry.key(Kind::Server, &server), registry.find_server(&server)));
            }
        });
    }
    assert_eq!(cores.registry.server_for_transport("t7").as_deref(), Ok("s7"));
    // What is bound to a server that ends is bound no more, by the answer.
    assert!(cores.registry.unregister_server("s7").is_ok_and(|written| written.applied));
    for core in 0..cores.count() {
        cores.on(core, async |core: OnCore| {
            assert_eq!(core.registry().server_for_transport("t7").await, Err(Refusal::NotBound));
            assert!(core.registry().find_server_for_transport("t17").is_none());
            assert!(core.registry().find_server_for_transport("t18").is_some());
        });
    }
    gone(cores, last, "o");
}

/// 6: 160 entries, each found with its own configuration.
fn entries_do_not_mix(cores: &Cores) {
    owner(cores, 0, "o");
    for index in 0..160 {
        let kind = if index % 2 == 0 { Kind::Server } else { Kind::Transport };
        assert_eq!(register(cores, 0, "o", kind, format!("n{index}")), APPLIED);
    }
    for core in 0..cores.count() {
        cores.on(core, async |core: OnCore| {
            for index in 0..160 {
                let name = format!("n{index}");
                let registry = core.registry();
                let (owner, config) = match index % 2 {
                    0 => registry.server(&name).await,
                    _ => registry.transport(&name).await,
                }
                .expect("registered");
                assert_eq!(config, name.as_bytes());
                let known = [registry.find_server(&name), registry.find_transport(&name)];
                assert_eq!((known[index % 2], known[1 - index % 2]), (Some(owner), None));
            }
        });
    }
    assert_eq!(cores.registry.find_server("n4").expect("registered").1, b"n4");
    gone(cores, 0, "o");
}

/// 7: 50 workers register and unregister, 100 times each.
fn workers_register_and_unregister_at_once(cores: &Cores) {
    let workers: Vec<_> = (0..50)
        .map(|worker| {
            cores.begin(worker % cores.count(), async move |core: OnCore| {
                let owner = core.registry().owner().expect("room");
                for operation in 0..50 {
                    let name = format!("w{worker}-{operation}");
                    core.registry().register_server(&owner, &name, b"").await.expect("its own name");
                    core.sleep(Duration::from_millis(1)).await;
                    core.registry().unregister_server(&name).await.expect("it is there");
                }
            })
        })
        .collect();
    workers.iter().for_each(received);
    until("nothing is left", || cores.known().iter().all(|&known| known == 0));
}

/// 8: 10 workers bind and unbind over 20 servers and 100 transports, 500 times each.
fn workers_bind_and_unbind_at_once(cores: &Cores) {
    owner(cores, 0, "o");
    for index in 0..120 {
        let (kind, name) = if index < 20 {
            (Kind::Server, format!("s{index}"))
        } else {
            (Kind::Transport, format!("t{}", index - 20))
        };
        assert_eq!(register(cores, 0, "o", kind, name), APPLIED);
    }
    let workers: Vec<_> = (0..10usize)
        .map(|worker| {
            cores.begin(worker % cores.count(), async move |core: OnCore| {
                let registry = core.registry();
                for operation in 0..250 {
                    let transport = format!("t{}", (worker * 31 + operation * 7) % 100);
                    let server = format!("s{}", (worker + operation) % 20);
                    registry.bind_transport_to_server(&transport, &server).await.expect("both are there");
                    match registry.unbind_transport(&transport).await {
                        // Another worker was faster.
                        Ok(_) | Err(Refusal::NotBound) => {}
                        Err(refusal) => panic!("{refusal}"),
                    }
                }
            })
        })
        .collect();
    workers.iter().for_each(received);
    let statistics = cores.registry.partition_stats().expect("all answer");
    assert_eq!(statistics.iter().map(|shard| shard.transports).sum::<u32>(), 100);
    let bound: Vec<usize> = (0..cores.count())
        .map(|core| {
            cores.on(core, async |core: OnCore| {
                let registry = core.registry();
                (0..100).filter(|index| registry.find_server_for_transport(&format!("t{index}")).is_some()).count()
            })
        })
        .collect();
    let owned = statistics.iter().map(|shard| shard.bindings as usize).sum::<usize>();
    assert_eq!(bound, vec![owned; cores.count()], "every core knows what is bound");
    gone(cores, 0, "o");
}

/// 9: of ten owners, five end: what they had is gone within 500 ms, with its bindings; what the others have stays.
fn the_end_of_an_owner_is_the_end_of_what_it_had(cores: &Cores) {
    const NAMES: [&str; 10] = ["o0", "o1", "o2", "o3", "o4", "o5", "o6", "o7", "o8", "o9"];
    for (index, name) in NAMES.into_iter().enumerate() {
        let core = index % cores.count();
        owner(cores, core, name);
        assert_eq!(register(cores, core, name, Kind::Server, format!("s{index}")), APPLIED);
        assert_eq!(register(cores, core, name, Kind::Transport, format!("t{index}")), APPLIED);
    }
    for index in 0..10 {
        // To the next one's server, so that bindings go from both sides.
        let (transport, server) = (format!("t{index}"), format!("s{}", (index + 1) % 10));
        assert!(cores.registry.bind_transport_to_server(&transport, &server).is_ok());
    }
    let ended = Instant::now();
    for (index, name) in NAMES.into_iter().enumerate().take(5) {
        cores.on(index % cores.count(), async move |_| let_go(name));
    }
    until("five owners' entries are gone", || cores.known().iter().all(|&known| known == 10));
    let took = ended.elapsed();
    assert!(took < Duration::from_millis(500), "{took:?}");
    for core in 0..cores.count() {
        cores.on(core, async |core: OnCore| {
            let registry = core.registry();
            for index in 0..10 {
                let lives = index >= 5;
                assert_eq!(registry.find_server(&format!("s{index}")).is_some(), lives);
                assert_eq!(registry.find_transport(&format!("t{index}")).is_some(), lives);
                let bound = lives && index != 9;
                assert_eq!(registry.find_server_for_transport(&format!("t{index}")).is_some(), bound, "t{index}");
            }
        });
    }
    for (index, name) in NAMES.into_iter().enumerate().skip(5) {
        cores.on(index % cores.count(), async move |_| let_go(name));
    }
    until("nothing is left", || cores.known().iter().all(|&known| known == 0));
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// 10: cycles of 100 registered and unregistered; memory grows by less than 100 MB.
fn memory_does_not_grow(cores: &Cores, cycles: usize) {
    let before = resident_kib();
    // A machine that does something else may make ten writes in a row slow; that is not what is looked at here.
    assert!(cores.registry.set_admission(Admission::Off).is_ok());
    cores.on(0, async move |core: OnCore| {
        let owner = core.registry().owner().expect("room");
        for cycle in 0..cycles {
            let names: Vec<String> = (0..100).map(|index| format!("m{}", cycle * 100 + index)).collect();
            let asked: Vec<_> =
                names.iter().map(|name| core.registry().register_server(&owner, name, b"config")).collect();
            for asked in asked {
                asked.await.expect("free");
            }
            let asked: Vec<_> = names.iter().map(|name| core.registry().unregister_server(name)).collect();
            for asked in asked {
                asked.await.expect("there");
            }
        }
    });
    let grown = resident_kib().saturating_sub(before);
    println!("measured: {cycles} cycles of 100 on {} cores: {grown} KiB more", cores.count());
    assert!(grown < 100 * 1024, "{grown} KiB");
    until("nothing is left", || cores.known().iter().all(|&known| known == 0));
    assert!(cores.registry.set_admission(Admission::Auto).is_ok());
}

/// The sharded cases that the ones above do not hold: empty at the start, duplicates, a hundred at once, lists,
/// statistics that count every write.
fn shards_count_and_list_what_they_have(cores: &Cores, shards: usize) {
    cores.registry.reset_stats().expect("all answer");
    assert_eq!((cores.registry.list_servers(), cores.registry.list_transports()), (Ok(vec![]), Ok(vec![])));
    owner(cores, 0, "o");
    for kind in [Kind::Server, Kind::Transport] {
        assert_eq!(register(cores, 0, "o", kind, "x".into()), APPLIED);
        assert_eq!(register(cores, 0, "o", kind, "x".into()), Err(Refusal::AlreadyRegistered(kind)));
    }
    assert!(cores.registry.unregister_server("x").is_ok() && cores.registry.unregister_transport("x").is_ok());
    assert_eq!(cores.registry.unregister_server("x"), Err(Refusal::Unknown(Kind::Server)));
    let at_once: Vec<_> = (0..100)
        .map(|index| {
            cores.begin(index % cores.count(), async move |core: OnCore| {
                let name: &'static str = Box::leak(format!("once{index}").into_boxed_str());
                keep(name, core.registry().owner().expect("room"));
                let asked = with_kept(name, |owner| core.registry().register_server(owner, name, b""));
                asked.await.is_ok()
            })
        })
        .collect();
    assert!(at_once.iter().all(received), "all are let in");
    assert_eq!(cores.registry.list_servers().expect("all answer").len(), 100);
    for index in 0..100 {
        cores.on(index % cores.count(), async move |_| let_go(&format!("once{index}")));
    }
    for index in 0..5 {
        assert_eq!(register(cores, 0, "o", Kind::Server, format!("s{index}")), APPLIED);
        assert_eq!(register(cores, 0, "o", Kind::Transport, format!("t{index}")), APPLIED);
    }
    until("the hundred are gone", || cores.known().iter().all(|&known| known == 10));
    let five = |letter: char| (0..5).map(|index| format!("{letter}{index}")).collect::<Vec<_>>();
    assert_eq!((cores.registry.list_servers(), cores.registry.list_transports()), (Ok(five('s')), Ok(five('t'))));
    assert_eq!(cores.registry.find_server("s3").expect("there").1, b"s3");
    let here = cores.on(cores.count() - 1, async |core: OnCore| core.registry().partition_stats().await);
    let statistics = here.expect("all answer");
    assert_eq!(statistics.iter().map(|shard| shard.shard.index()).collect::<Vec<_>>(), (0..shards).collect::<Vec<_>>());
    let sum = |of: fn(&crate::shard::registry::ShardStatistics) -> u64| statistics.iter().map(of).sum::<u64>();
    // Two of x, twice; the hundred; the ten. The second registrations of x and the third end were refused.
    assert_eq!((sum(|shard| shard.writes), sum(|shard| shard.refused)), (2 + 2 + 100 + 10, 3));
    assert_eq!((sum(|shard| shard.servers.into()), sum(|shard| shard.transports.into())), (5, 5));
    assert!(statistics.iter().all(|shard| !shard.alarmed && shard.least_ns <= shard.most_ns));
    assert_eq!(cores.registry.partition_stats_of(ShardId(3)).as_ref(), Ok(&statistics[3]));
    assert_eq!(cores.registry.partition_stats_of(ShardId(shards as u16)), Err(Refusal::ShardUnknown));
    cores.registry.reset_stats().expect("all answer");
    assert!(cores.registry.partition_stats().expect("all answer").iter().all(|shard| shard.writes == 0));
    gone(cores, 0, "o");
}

/// Messages both ways between a core and a thread that is none.
fn a_thread_that_is_no_core_takes_part(cores: &Cores) {
    let outside = cores.registry.owner().expect("room");
    assert!(cores.registry.register_server(&outside, "outside", b"far").is_ok());
    assert!(cores.registry.register_transport(&outside, "line", b"", Some("outside")).is_ok());
    for core in 0..cores.count() {
        let routed = cores.begin(core, async |core: OnCore| {
            assert!(core.registry().find_server("outside").is_some());
            core.registry().route_to_server("outside", "inside", b"hello").await
        });
        let message = outside.next(Duration::from_secs(5)).expect("it came");
        assert_eq!((message.from(), message.body()), ("inside", &b"hello"[..]));
        // Said when the port was looked at next.
        assert!(outside.next(Duration::from_millis(1)).is_none());
        assert_eq!(received(&routed), Ok(()));
    }
    owner(cores, 0, "o");
    assert_eq!(register(cores, 0, "o", Kind::Transport, "t".into()), APPLIED);
    assert_eq!(cores.registry.route_to_transport("t", "outside", b"back"), Ok(()));
    let body = cores.on(0, async |_| with_kept("o", |owner| owner.take()).map(|message| message.body().to_vec()));
    assert_eq!(body.as_deref(), Some(&b"back"[..]));
    drop(outside);
    until("its entries are gone", || cores.known().iter().all(|&known| known == 1));
    assert_eq!(cores.registry.route_to_server("outside", "t", b""), Err(Refusal::Unknown(Kind::Server)));
    gone(cores, 0, "o");
}

fn suite(cores: usize) {
    for shards in [16, 64, 128] {
        let cores = Cores::start(cores, shards);
        assert_eq!(cores.known(), vec![0; cores.count()]);
        no_message_is_lost_and_all_come_in_order(&cores);
        a_broadcast_reaches_all_that_are_bound(&cores);
        nothing_is_there_twice(&cores);
        bindings_are_the_same_everywhere(&cores);
        entries_do_not_mix(&cores);
        workers_register_and_unregister_at_once(&cores);
        workers_bind_and_unbind_at_once(&cores);
        the_end_of_an_owner_is_the_end_of_what_it_had(&cores);
        memory_does_not_grow(&cores, if shards == 16 { 1000 } else { 50 });
        shards_count_and_list_what_they_have(&cores, shards);
        a_thread_that_is_no_core_takes_part(&cores);
        cores.end();
    }
}

#[test]
fn the_suites_hold_on_one_core() {
    alone("registry::the_suites_hold_on_one_core", || suite(1));
}

#[test]
fn the_suites_hold_on_two_cores() {
    alone("registry::the_suites_hold_on_two_cores", || suite(2));
}

#[test]
fn the_suites_hold_on_four_cores() {
    alone("registry::the_suites_hold_on_four_cores", || suite(4));
}

/// A name whose shard belongs to that core.
fn name_at(core: &OnCore, home: usize, prefix: &str) -> String {
    let found = (0..).map(|index| format!("{prefix}{index}"));
    let at_home = |name: &String| core.registry().home_of(Kind::Server, name) == CoreId(home as u16);
    found.into_iter().find(at_home).expect("names do not end")
}

#[test]
fn a_write_waits_for_cores_that_sleep_and_not_for_one_that_is_stalled() {
    alone("registry::a_write_waits_for_cores_that_sleep_and_not_for_one_that_is_stalled", || {
        let cores = Cores::start(2, 16);
        for asleep in 0..20 {
            // Nobody has anything to do meanwhile: both cores sleep.
            std::thread::sleep(Duration::from_millis(20));
            let (name, written, took) = cores.on(0, async move |core: OnCore| {
                let name = name_at(&core, 0, &format!("asleep-{asleep}-"));
                if asleep == 0 {
                    keep("o", core.registry().owner().expect("room"));
                }
                let since = core.now();
                let asked = with_kept("o", |owner| core.registry().register_server(owner, &name, b""));
                (name, asked.await, core.now() - since)
            });
            assert_eq!(written, APPLIED, "core 1 was woken for it; it took {took} ns");
            assert!(cores.on(1, async move |core: OnCore| core.registry().find_server(&name).is_some()));
        }
        let (stalls, hear) = std::sync::mpsc::channel();
        let stalled = cores.begin(1, async move |_| {
            stalls.send(()).expect("the test waits");
            std::thread::sleep(Duration::from_millis(400));
        });
        hear.recv().expect("it stalls");
        let (name, written, took) = cores.on(0, async |core: OnCore| {
            let name = name_at(&core, 0, "stalled-");
            let since = core.now();
            let asked = with_kept("o", |owner| core.registry().register_server(owner, &name, b""));
            (name, asked.await, core.now() - since)
        });
        assert_eq!(written, Ok(Written { applied: false }));
        let took = Duration::from_nanos(took);
        assert!((Duration::from_millis(50)..Duration::from_millis(200)).contains(&took), "{took:?}");
        println!("measured: a write with a stalled core answered after {took:?}");
        received(&stalled);
        // A task of the very turn that stalled may still look before that turn's parcels are read.
        until("core 1 knows once it has had a turn", || {
            let name = name.clone();
            cores.on(1, async move |core: OnCore| core.registry().find_server(&name).is_some())
        });
        cores.on(0, async |_| let_go("o"));
        cores.end();
    });
}

#[test]
fn slow_writes_close_admission_and_time_reopens_it() {
    alone("registry::slow_writes_close_admission_and_time_reopens_it", || {
        // 17 shards: nine of them, more than half, belong to core 1.
        let cores = Cores::start(2, 17);
        let (stalls, hear) = std::sync::mpsc::channel();
        let stalled = cores.begin(1, async move |core: OnCore| {
            stalls.send(()).expect("the test waits");
            std::thread::sleep(Duration::from_millis(60));
            core.now()
        });
        hear.recv().expect("it stalls");
        let asked = cores.begin(0, async |core: OnCore| {
            let owner = core.registry().owner().expect("room");
            let mut counts = [0; 17];
            let mut asked = Vec::new();
            for index in 0.. {
                let name = format!("n{index}");
                let shard = core.registry().shard_of(Kind::Server, &name).index();
                if shard >= 8 && counts[shard] < 10 {
                    counts[shard] += 1;
                    asked.push(core.registry().register_server(&owner, &name, b""));
                }
                if counts[8..].iter().all(|&count| count == 10) {
                    break;
                }
            }
            for asked in asked {
                // The last of them may find admission closed by the others.
                let _ = asked.await;
            }
            let mut closed = None;
            let answered = core.now();
            while core.now() < answered + 1_000_000_000 {
                let status = core.registry().contention_status();
                match closed {
                    None if status.admission_closed => {
                        closed = Some(core.now());
                        let refused = core.registry().register_server(&owner, "during", b"").await;
                        assert!(matches!(refused, Err(Refusal::AdmissionClosed { .. })), "{refused:?}");
                    }
                    Some(closed) if !status.admission_closed => {
                        assert!(core.registry().register_server(&owner, "after", b"").await.is_ok());
                        return (closed, core.now());
                    }
                    _ => {}
                }
                core.pause().await;
            }
            panic!("admission did not close and reopen: {closed:?}, {:?}", core.registry().contention_status());
        });
        let slow_until = received(&stalled);
        let (closed, reopened) = received(&asked);
        let (detected, open) = (closed.saturating_sub(slow_until), reopened - closed);
        println!(
            "measured: admission closed {} us after the slow writes, open again {} us later",
            detected / 1000,
            open / 1000
        );
        assert!(detected < 100_000_000, "detected after {detected} ns");
        assert!(open < 100_000_000, "reopened after {open} ns");
        assert!(cores.registry.set_admission(Admission::On).is_ok());
        let status = cores.registry.contention_status().expect("core 0 answers");
        assert!(status.admission_closed && status.alarmed == 0);
        assert!(cores.registry.set_admission(Admission::Auto).is_ok());
        cores.end();
    });
}

#[test]
fn a_core_that_dies_takes_its_own_and_its_successor_learns_the_rest() {
    alone("registry::a_core_that_dies_takes_its_own_and_its_successor_learns_the_rest", || {
        let cores = Cores::start(2, 16);
        owner(&cores, 0, "zero");
        owner(&cores, 1, "one");
        let names = cores.on(0, async |core: OnCore| {
            (0..2)
                .map(|home| (0..20).map(|index| name_at(&core, home, &format!("{home}-{index}-"))).collect())
                .collect::<Vec<Vec<String>>>()
        });
        for name in names.iter().flatten() {
            assert_eq!(register(&cores, 0, "zero", Kind::Server, name.clone()), APPLIED);
            assert_eq!(register(&cores, 1, "one", Kind::Transport, name.clone()), APPLIED);
        }
        assert_eq!(cores.known(), [80, 80]);
        // What the hook prints takes longer than what is measured.
        std::panic::set_hook(Box::new(|_| ()));
        let died = cores.running.kill(1);
        until("the dead core's owners and shards are gone at core 0", || {
            let known = cores.on(0, async |core: OnCore| core.registry().known());
            let stay = names[0].clone();
            let servers = cores
                .on(0, async move |core: OnCore| stay.iter().all(|name| core.registry().find_server(name).is_some()));
            servers && known < 40
        });
        let took = died.elapsed();
        drop(std::panic::take_hook());
        println!("measured: what a dead core had is gone after {took:?}");
        assert!(took < Duration::from_millis(500), "{took:?}");
        until("the successor is ready", || cores.running.health.is_ready());
        until("the successor knows what is left", || {
            cores.on(1, async |core: OnCore| core.registry().is_whole() && core.registry().known() == 20)
        });
        assert_eq!(cores.known(), [20, 20]);
        // Its shards take new entries, whoever asks.
        let lost = names[1][0].clone();
        assert_eq!(register(&cores, 0, "zero", Kind::Server, lost.clone()), APPLIED);
        assert!(cores.registry.find_server(&lost).is_ok());
        assert_eq!(cores.known(), [21, 21]);
        cores.end();
    });
}

#[test]
fn an_owner_that_waits_for_losses_registers_anew_what_a_dead_core_held() {
    alone("registry::an_owner_that_waits_for_losses_registers_anew_what_a_dead_core_held", || {
        let cores = Cores::start(2, 16);
        let losses = cores.registry.losses();
        let name = cores.on(0, async |core: OnCore| {
            let name = name_at(&core, 1, "lasting-");
            let (lasting, task) = (name.clone(), core.clone());
            core.spawn(async move {
                let owner = task.registry().owner().expect("room");
                loop {
                    let seen = task.registry().losses();
                    while let Err(refusal) = task.registry().register_server(&owner, &lasting, b"").await {
                        if let Refusal::AlreadyRegistered(_) = refusal {
                            break;
                        }
                        task.sleep(Duration::from_millis(5)).await;
                    }
                    assert_eq!(task.registry().core_lost(seen).await, seen + 1, "one death at a time");
                }
            });
            name
        });
        for death in 1..=2 {
            until("it is known everywhere", || cores.known() == [1, 1]);
            assert_eq!(cores.registry.losses(), losses + death - 1);
            let before = cores.registry.find_server(&name).expect("it is there").0;
            let died = cores.running.kill(1);
            until("the death is heard of", || cores.registry.losses() == losses + death);
            until("the successor is ready", || cores.running.health.is_ready());
            until("it is registered anew", || cores.registry.find_server(&name).is_ok());
            println!("measured: registered anew {:?} after the death of the core that had it", died.elapsed());
            assert_eq!(cores.registry.find_server(&name).expect("it is there").0, before, "by the owner it had");
        }
        cores.end();
    });
}
