//! Members without cores: parcels arrive when the test moves them, time passes when it says so.
//!
//! Invariant: once everything has arrived, every replica knows exactly what the shards know, whatever was lost, late,
//! jammed or begun anew on the way.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::item::Query;
use super::member::{APPLY_TIME, Asked, Founding, LINGER, Member};
use super::waiting::Answer;
use crate::ids::{CoreId, ShardId};
use crate::limits::{OUTBOX_BYTES_MAX, REGISTRY_WRITE_LIMIT_NS_DEFAULT};
use crate::server::outbox::Outbox;
use crate::server::parcel::Header;
use crate::server::pool::Pool;
use crate::shard::range::BoundaryTable;
use crate::shard::registry::{Admission, Kind, Names, Nanos, Owner, Refusal};

const MS: Nanos = 1_000_000;
const SHARDS: usize = 8;

/// Some members; the last is the control thread's.
struct Rig {
    members: Vec<Member>,
    outboxes: Vec<Outbox>,
    /// Parcels under way, from and to.
    wires: Vec<Vec<VecDeque<Vec<u8>>>>,
    lives: Vec<u32>,
    now: Nanos,
}

fn founding(id: usize, life: u32, cores: usize) -> Founding {
    Founding {
        id: CoreId(id as u16),
        life,
        table: BoundaryTable::new(SHARDS, cores).expect("valid"),
        names: Names::new([9; 16]),
        limit: REGISTRY_WRITE_LIMIT_NS_DEFAULT,
    }
}

impl Rig {
    fn new(cores: usize) -> Rig {
        Rig {
            members: (0..=cores).map(|id| Member::new(founding(id, 1, cores))).collect(),
            outboxes: (0..=cores).map(|_| Outbox::default()).collect(),
            wires: vec![vec![VecDeque::new(); cores + 1]; cores + 1],
            lives: vec![1; cores + 1],
            now: 1,
        }
    }

    fn cores(&self) -> usize {
        self.members.len() - 1
    }

    /// One port says what it has to say.
    fn flush(&mut self, from: usize) {
        let Rig { members, outboxes, wires, now, .. } = self;
        members[from].flush(*now, &mut outboxes[from], |outbox, to, batch| {
            outbox.post(to, Header::Registry, batch);
            outbox.has_room(to)
        });
        outboxes[from].flush(&mut Pool::default(), |to, _, payload| {
            wires[from][to.index()].push_back(payload.to_vec());
            crate::server::outbox::Delivery::Done
        });
    }

    /// One parcel arrives.
    fn arrive(&mut self, from: usize, to: usize) -> bool {
        let Some(payload) = self.wires[from][to].pop_front() else { return false };
        self.members[to].parcel(self.now, CoreId(from as u16), &payload);
        true
    }

    /// Everything arrives that is under way, and what follows from it.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            for from in 0..self.members.len() {
                self.flush(from);
                for to in 0..self.members.len() {
                    moved |= self.arrive(from, to);
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn pass(&mut self, time: Nanos) {
        self.now += time;
        for member in &mut self.members {
            if member.deadline().is_some_and(|deadline| deadline <= self.now) {
                member.tick(self.now);
            }
        }
    }

    fn begin(&mut self, at: usize, query: Query<'_>) -> Asked {
        let now = self.now;
        self.members[at].begin(now, query)
    }

    fn ask(&mut self, at: usize, query: Query<'_>) -> Result<Answer, Refusal> {
        let mut asked = self.begin(at, query);
        self.settle();
        self.members[at].poll(&mut asked).expect("everything has arrived")
    }

    fn register(&mut self, at: usize, kind: Kind, name: &str, owner: Owner) -> Result<Answer, Refusal> {
        self.ask(at, Query::Register { kind, owner, name, server: "", config: b"c" })
    }

    fn owner(&mut self, at: usize) -> Owner {
        self.members[at].open_owner().expect("room")
    }

    fn die(&mut self, core: usize) {
        self.outboxes[core] = Outbox::default();
        self.lives[core] += 1;
        let cores = self.cores();
        for other in (0..=cores).filter(|&other| other != core) {
            self.wires[core][other].clear();
            self.wires[other][core].clear();
            self.outboxes[other].forget(CoreId(core as u16));
            self.members[other].peer_lost(self.now, CoreId(core as u16));
        }
        self.members[core] = Member::new(founding(core, self.lives[core], cores));
    }

    /// Every replica knows what the shards know.
    fn assert_same(&self, names: &[String]) {
        for core in &self.members[..self.cores()] {
            assert!(core.is_whole() && core.pending.is_empty());
            let mut total = 0;
            for name in names {
                for kind in [Kind::Server, Kind::Transport] {
                    let key = core.key(kind, name);
                    let home = core.table.owner_of(key.shard(SHARDS)).index();
                    let place = core.table.range_of(CoreId(home as u16)).place_of(key.shard(SHARDS)).expect("its own");
                    let shard = &self.members[home].shards[place];
                    let owner = shard.find(key).map(|entry| entry.owner());
                    assert_eq!(core.replica.find(key), owner, "{kind:?} {name} on {}", core.id);
                    total += usize::from(owner.is_some());
                    let server = shard.server_of(key).map(|(server, _)| server);
                    assert_eq!(core.replica.server_of(key), server, "the binding of {name} on {}", core.id);
                    if let Some(server) = server {
                        assert!(core.replica.find(server).is_some(), "{name} is bound to nothing");
                    }
                }
            }
            assert_eq!(core.replica.len(), total);
            let own = core.shards.iter().map(|shard| shard.statistics().bindings).sum::<u32>();
            assert_eq!(core.bound.total(), own, "what is bound is counted");
        }
    }
}

fn name(index: usize) -> String {
    format!("name-{index}")
}

#[test]
fn a_write_is_answered_when_all_know_and_the_asker_knows_by_the_answer() {
    let mut rig = Rig::new(3);
    for (at, index) in (0..3).flat_map(|at| (0..20).map(move |index| (at, index))) {
        let (owner, name) = (rig.owner(at), format!("{at}-{index}"));
        let mut asked =
            rig.begin(at, Query::Register { kind: Kind::Server, owner, name: &name, server: "", config: b"" });
        let answered = loop {
            if let Some(answer) = rig.members[at].poll(&mut asked) {
                break answer;
            }
            let before: usize = rig.wires.iter().flatten().map(VecDeque::len).sum();
            (0..4).for_each(|from| rig.flush(from));
            let moved = (0..16).find(|&pair| rig.arrive(pair / 4, pair % 4));
            assert!(moved.is_some() || before > 0, "nothing is under way and nobody was answered");
        };
        assert_eq!(answered, Ok(Answer::Done { applied: true }));
        for core in 0..3 {
            assert_eq!(rig.members[core].owner_of(Kind::Server, &name), Some(owner), "core {core} of write at {at}");
        }
    }
}

#[test]
fn a_core_that_does_not_answer_makes_a_write_late_not_lost() {
    let mut rig = Rig::new(2);
    let local = (0..).map(name).find(|name| {
        let key = rig.members[0].key(Kind::Server, name);
        key.shard(SHARDS).index() < SHARDS / 2
    });
    let (local, owner) = (local.expect("some name lives on core 0"), rig.owner(0));
    let query = Query::Register { kind: Kind::Server, owner, name: &local, server: "", config: b"" };
    let mut asked = rig.begin(0, query);
    rig.flush(0);
    rig.pass(APPLY_TIME - 1);
    assert!(rig.members[0].poll(&mut asked).is_none(), "it waits for core 1");
    rig.pass(1);
    assert_eq!(rig.members[0].poll(&mut asked), Some(Ok(Answer::Done { applied: false })));
    assert!(rig.members[0].census(rig.now).expect("something changed").age >= APPLY_TIME);
    rig.settle();
    assert_eq!(rig.members[1].owner_of(Kind::Server, &local), Some(owner));
    assert_eq!(rig.members[0].census(rig.now).expect("something changed").age, 0);
}

#[test]
fn a_death_is_counted_once_however_often_the_dead_core_is_found_unreachable() {
    let mut rig = Rig::new(2);
    rig.members[0].peer_lost(rig.now, CoreId(1));
    for _ in 0..3 {
        rig.members[0].peer_unreachable(rig.now, CoreId(1));
    }
    // Of itself it hears nothing, nor is the control thread's port a core.
    rig.members[0].peer_lost(rig.now, CoreId(0));
    rig.members[0].peer_lost(rig.now, CoreId(2));
    assert_eq!(rig.members[0].losses(), 1);
}

#[test]
fn refusals_are_typed_on_every_way() {
    let mut rig = Rig::new(2);
    for at in 0..3 {
        let owner = rig.owner(at);
        let (server, transport) = (format!("s{at}"), format!("t{at}"));
        let unknown = |kind| Err(Refusal::Unknown(kind));
        assert_eq!(rig.ask(at, Query::Bind { transport: &transport, server: &server }), unknown(Kind::Server));
        assert_eq!(rig.ask(at, Query::Find { kind: Kind::Server, name: &server }), unknown(Kind::Server));
        rig.register(at, Kind::Server, &server, owner).expect("free");
        let taken = Err(Refusal::AlreadyRegistered(Kind::Server));
        assert_eq!(rig.register(at, Kind::Server, &server, owner), taken);
        assert_eq!(rig.ask(at, Query::Bind { transport: &transport, server: &server }), unknown(Kind::Transport));
        let route = Query::Route { kind: Kind::Transport, name: &transport, from: &server, message: b"m" };
        assert_eq!(rig.ask(at, route), unknown(Kind::Transport));
        assert_eq!(rig.ask(at, Query::Broadcast { server: &transport, message: b"m" }), unknown(Kind::Server));
        rig.register(at, Kind::Transport, &transport, owner).expect("free");
        assert_eq!(rig.ask(at, Query::ServerOf { transport: &transport }), Err(Refusal::NotBound));
        assert_eq!(rig.ask(at, Query::Unbind { transport: &transport }), Err(Refusal::NotBound));
        let query = Query::Register { kind: Kind::Transport, owner, name: "new", server: "nobody", config: b"" };
        assert_eq!(rig.ask(at, query), unknown(Kind::Server));
        assert_eq!(rig.ask(at, Query::Find { kind: Kind::Transport, name: "new" }), unknown(Kind::Transport));
        assert_eq!(rig.ask(at, Query::Unregister { kind: Kind::Server, name: "" }), Err(Refusal::Name { bytes: 0 }));
        let long = "x".repeat(257);
        assert_eq!(rig.register(at, Kind::Server, &long, owner), Err(Refusal::Name { bytes: 257 }));
        assert_eq!(rig.ask(at, Query::Statistics { shard: ShardId(8) }), Err(Refusal::ShardUnknown));
        rig.members[at].close_owner(owner);
        assert_eq!(rig.register(at, Kind::Server, "late", owner), Err(Refusal::OwnerGone));
        rig.settle();
        assert_eq!(rig.ask(at, Query::Find { kind: Kind::Server, name: &server }), unknown(Kind::Server));
    }
}

/// A name whose shard core 1 of two owns.
fn of_core_one(rig: &Rig) -> String {
    let far = |name: &String| rig.members[0].key(Kind::Server, name).shard(SHARDS).index() >= SHARDS / 2;
    (0..).map(name).find(far).expect("half of all names")
}

#[test]
fn a_taken_name_is_refused_where_it_is_asked_for_unless_it_is_being_ended_from_there() {
    let mut rig = Rig::new(2);
    let (name, first, second) = (of_core_one(&rig), rig.owner(0), rig.owner(0));
    let register = |owner| Query::Register { kind: Kind::Server, owner, name: &name, server: "", config: b"" };
    let unregister = Query::Unregister { kind: Kind::Server, name: &name };
    let done = Some(Ok(Answer::Done { applied: true }));
    assert_eq!(rig.ask(0, register(first)), Ok(Answer::Done { applied: true }));
    let taken = Err(Refusal::AlreadyRegistered(Kind::Server));
    assert!(matches!(rig.begin(0, register(second)), Asked::Now(answer) if answer == taken), "nobody is asked");
    rig.settle();
    let refused = |rig: &Rig| rig.members[1].shards.iter().map(|shard| shard.statistics().refused).sum::<u64>();
    assert_eq!(refused(&rig), 1, "its shard counts it");
    // What this core has asked for before goes before: the end of the entry, heard of or not, and of its owner.
    let (mut end, mut anew) = (rig.begin(0, unregister), rig.begin(0, register(second)));
    rig.settle();
    assert_eq!((rig.members[0].poll(&mut end), rig.members[0].poll(&mut anew)), (done.clone(), done.clone()));
    let Asked::Later(ticket) = rig.begin(0, unregister) else { panic!("core 1 has to be asked") };
    rig.members[0].waiting.abandon(ticket);
    let mut anew = rig.begin(0, register(first));
    rig.settle();
    assert_eq!((rig.members[0].poll(&mut anew), rig.members[0].waiting.open()), (done.clone(), 0));
    rig.members[0].close_owner(first);
    let mut anew = rig.begin(0, register(second));
    rig.settle();
    assert_eq!((rig.members[0].poll(&mut anew), refused(&rig)), (done, 1));
    assert_eq!(rig.members[1].owner_of(Kind::Server, &name), Some(second));
}

#[test]
fn cores_that_talk_stay_awake_for_a_moment_and_no_longer() {
    let mut rig = Rig::new(2);
    let (name, owner) = (of_core_one(&rig), rig.owner(0));
    assert!(rig.members.iter().all(|member| !member.lingers(rig.now)), "nobody has said anything");
    let query = Query::Register { kind: Kind::Server, owner, name: &name, server: "", config: b"" };
    let _ = rig.begin(0, query);
    rig.flush(0);
    assert!(rig.members[0].lingers(rig.now) && !rig.members[1].lingers(rig.now), "one has said something");
    rig.settle();
    assert!(rig.members[1].lingers(rig.now + LINGER - 1));
    rig.pass(LINGER);
    assert!(rig.members.iter().all(|member| !member.lingers(rig.now)), "a moment has passed");
    assert_eq!(rig.ask(2, Query::Unregister { kind: Kind::Server, name: &name }), Ok(Answer::Done { applied: true }));
    assert!(!rig.members[2].lingers(rig.now), "the control thread sleeps as it likes");
}

#[test]
fn messages_come_whole_in_order_and_once_whoever_sends_them() {
    let mut rig = Rig::new(3);
    for to in 0..4 {
        let owner = rig.owner(to);
        rig.register(to, Kind::Server, "s", owner).expect("free");
        for from in 0..4 {
            for number in 0..20u8 {
                let query = Query::Route { kind: Kind::Server, name: "s", from: "t", message: &[number] };
                assert_eq!(rig.ask(from, query), Ok(Answer::Delivered { told: 1, refused: 0 }), "{from} to {to}");
            }
            for number in 0..20u8 {
                let message = rig.members[to].take_message(owner, None).expect("it came");
                assert_eq!((message.from(), message.body(), message.kind), ("t", &[number][..], Kind::Server));
                assert_eq!(message.to, rig.members[0].key(Kind::Server, "s"));
            }
            assert!(rig.members[to].take_message(owner, None).is_none());
        }
        rig.members[to].close_owner(owner);
        rig.settle();
    }
}

#[test]
fn a_broadcast_reaches_every_bound_transport_once() {
    let mut rig = Rig::new(3);
    let owners: Vec<Owner> = (0..4).map(|at| rig.owner(at)).collect();
    rig.register(0, Kind::Server, "s", owners[0]).expect("free");
    for index in 0..60 {
        let (at, transport) = (index % 4, name(index));
        let (kind, owner) = (Kind::Transport, owners[at]);
        let server = if index < 50 { "s" } else { "" };
        let query = Query::Register { kind, owner, name: &transport, server, config: b"" };
        assert_eq!(rig.ask(at, query), Ok(Answer::Done { applied: true }));
    }
    for from in 0..4 {
        let told = rig.ask(from, Query::Broadcast { server: "s", message: b"all" });
        assert_eq!(told, Ok(Answer::Delivered { told: 50, refused: 0 }));
        let mut keys = Vec::new();
        for (at, &owner) in owners.iter().enumerate() {
            while let Some(message) = rig.members[at].take_message(owner, None) {
                assert_eq!((message.from(), message.body()), ("s", &b"all"[..]));
                keys.push(message.to);
            }
        }
        keys.sort_unstable();
        let mut bound: Vec<_> = (0..50).map(|index| rig.members[0].key(Kind::Transport, &name(index))).collect();
        bound.sort_unstable();
        assert_eq!(keys, bound, "each once");
    }
}

#[test]
fn a_full_inbox_and_a_gone_owner_are_told_to_the_sender() {
    let mut rig = Rig::new(2);
    let owner = rig.owner(0);
    rig.register(0, Kind::Server, "s", owner).expect("free");
    let large = vec![0; 1 << 20];
    let query = Query::Route { kind: Kind::Server, name: "s", from: "t", message: &large };
    for _ in 0..3 {
        assert!(rig.ask(1, query).is_ok());
    }
    assert_eq!(rig.ask(1, query), Err(Refusal::InboxFull));
    assert_eq!(rig.ask(0, query), Err(Refusal::InboxFull));
    // Sent before the news of its end has come.
    let mut asked = rig.begin(1, query);
    rig.members[0].close_owner(owner);
    rig.settle();
    assert_eq!(rig.members[1].poll(&mut asked), Some(Err(Refusal::OwnerGone)));
    assert_eq!(rig.ask(1, query), Err(Refusal::Unknown(Kind::Server)));
}

#[test]
fn a_core_that_cannot_keep_up_gets_snapshots() {
    let mut rig = Rig::new(2);
    let owner = rig.owner(0);
    // A burst in one turn, far more than may gather for a peer.
    let mut names: Vec<String> = (0..16_000).map(name).collect();
    let mut asked = Vec::new();
    for name in &names {
        asked.push(rig.begin(0, Query::Register { kind: Kind::Server, owner, name, server: "", config: b"" }));
    }
    assert!(rig.members[0].peers[1].is_behind(), "the burst was too much");
    rig.settle();
    assert!(!rig.members[0].peers[1].is_behind());
    assert!(asked.iter_mut().all(|asked| matches!(rig.members[0].poll(asked), Some(Ok(_)))));
    names.truncate(100);
    for name in &names {
        assert_eq!(rig.members[1].owner_of(Kind::Server, name), Some(owner));
    }
    assert_eq!(rig.members[1].replica.len(), rig.members[0].replica.len());
    // An outbox that is full has the same effect, and it is noticed when it has room.
    rig.outboxes[0].post(CoreId(1), Header::Registry, vec![99; OUTBOX_BYTES_MAX]);
    let Rig { members, outboxes, now, .. } = &mut rig;
    let mut full = |members: &mut Vec<Member>| {
        members[0].flush(*now, &mut outboxes[0], |outbox, to, batch| {
            outbox.post(to, Header::Registry, batch);
            outbox.has_room(to)
        });
    };
    members[0].close_owner(owner);
    full(members);
    let second = members[0].open_owner().expect("room");
    let mut asked = Vec::new();
    for name in &names {
        asked.push(
            members[0]
                .begin(*now, Query::Register { kind: Kind::Transport, owner: second, name, server: "", config: b"" }),
        );
    }
    full(members);
    assert!(members[0].peers[1].is_behind() && !members[0].has_mail(&outboxes[0]));
    let busy = asked.iter_mut().filter_map(|asked| members[0].poll(asked)).filter(|got| *got == Err(Refusal::Busy));
    assert!(busy.count() > 10, "what would have to go there is refused");
    rig.settle();
    for name in &names {
        let known = rig.members[0].owner_of(Kind::Transport, name);
        assert_eq!(rig.members[1].owner_of(Kind::Transport, name), known);
        assert_eq!(rig.members[1].owner_of(Kind::Server, name), None);
    }
    assert_eq!(rig.members[0].replica.len(), rig.members[1].replica.len());
}

#[test]
fn what_was_asked_of_a_core_that_died_or_hangs_is_answered() {
    let mut rig = Rig::new(2);
    let remote =
        (0..).map(name).find(|name| rig.members[0].key(Kind::Server, name).shard(SHARDS).index() >= SHARDS / 2);
    let (remote, owner) = (remote.expect("some name lives on core 1"), rig.owner(0));
    let query = Query::Register { kind: Kind::Server, owner, name: &remote, server: "", config: b"" };
    let mut asked = rig.begin(0, query);
    let mut list = rig.begin(0, Query::List { kind: Kind::Server });
    rig.flush(0);
    rig.die(1);
    assert_eq!(rig.members[0].poll(&mut asked), Some(Err(Refusal::ShardLost)));
    assert_eq!(rig.members[0].poll(&mut list), Some(Err(Refusal::ShardLost)));
    let mut asked = rig.begin(0, query);
    rig.pass(3_000 * MS);
    assert_eq!(rig.members[0].poll(&mut asked), Some(Err(Refusal::NoAnswer)));
    assert_eq!(rig.members[0].waiting.open(), 0);
}

#[test]
fn slow_writes_close_admission_for_all_and_it_reopens_without_writes() {
    let mut rig = Rig::new(2);
    let owner = rig.owner(0);
    assert_eq!(rig.register(0, Kind::Server, "before", owner), Ok(Answer::Done { applied: true }));
    // Ten writes to every shard that wait for 60 ms: those of core 0 asked by core 1, and the other way round.
    let mut asked = Vec::new();
    let mut counts = [0; SHARDS];
    for index in 0.. {
        let key = rig.members[0].key(Kind::Transport, &name(index));
        let shard = key.shard(SHARDS).index();
        let at = usize::from(shard < SHARDS / 2);
        if counts[shard] < 10 {
            counts[shard] += 1;
            asked.push((at, rig.begin(at, Query::Unregister { kind: Kind::Transport, name: &name(index) })));
            let owner = rig.owner(at);
            let (kind, name) = (Kind::Transport, name(index));
            let query = Query::Register { kind, owner, name: &name, server: "", config: b"" };
            asked.push((at, rig.begin(at, query)));
        }
        if counts.iter().all(|&count| count == 10) {
            break;
        }
    }
    rig.now += 60 * MS;
    rig.settle();
    for core in 0..2 {
        let status = rig.members[core].contention_status();
        assert!(status.admission_closed && status.alarmed == 8, "{status:?}");
        let refusal = Err(Refusal::AdmissionClosed { alarmed: 8, shards: 8, by_operator: false });
        let owner = rig.owner(core);
        assert_eq!(rig.register(core, Kind::Server, "during", owner), refusal);
        assert!(rig.ask(core, Query::Find { kind: Kind::Server, name: "before" }).is_ok(), "look-ups go on");
    }
    let statistics = rig.ask(2, Query::Statistics { shard: ShardId(u16::MAX) });
    let Ok(Answer::Statistics(shards)) = statistics else { panic!("{statistics:?}") };
    assert!(shards.len() == 8 && shards.iter().all(|shard| shard.alarmed && shard.mean_ns == 60 * MS));
    // Nobody writes; time alone opens it.
    for _ in 0..10 {
        rig.pass(9 * MS);
        rig.settle();
    }
    for core in 0..2 {
        let status = rig.members[core].contention_status();
        assert!(!status.admission_closed && status.alarmed == 0, "{status:?}");
        assert!(rig.members[core].deadline().is_none_or(|next| next > rig.now), "nothing keeps the core awake");
    }
    for (admission, closed) in [(Admission::On, true), (Admission::Off, false), (Admission::Auto, false)] {
        assert_eq!(rig.ask(2, Query::SetAdmission(admission)), Ok(Answer::Done { applied: true }));
        for core in 0..2 {
            let status = rig.members[core].contention_status();
            assert_eq!((status.admission, status.admission_closed), (admission, closed));
        }
    }
    rig.die(1);
    assert_eq!(rig.ask(0, Query::SetAdmission(Admission::On)), Ok(Answer::Done { applied: true }));
    rig.die(1);
    rig.settle();
    assert_eq!(rig.members[1].contention_status().admission, Admission::On, "a successor is told");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 96 }))]

    #[test]
    fn replicas_end_up_the_same_whatever_happens(
        cores in 1usize..4,
        steps in prop::collection::vec((0u8..20, 0usize..4, 0usize..12, 0usize..12), 1..150),
    ) {
        let mut rig = Rig::new(cores);
        let names: Vec<String> = (0..12).map(name).collect();
        let mut owners: Vec<Vec<Owner>> = (0..=cores).map(|at| (0..3).map(|_| rig.owner(at)).collect()).collect();
        for (step, at, one, other) in steps {
            let at = at % (cores + 1);
            let kind = if other % 2 == 0 { Kind::Server } else { Kind::Transport };
            let owner = owners[at][one % 3];
            let query = match step {
                0..=5 => {
                    let server = if other < 4 { &*names[other] } else { "" };
                    Query::Register { kind, owner, name: &names[one], server, config: b"" }
                }
                6 | 7 => Query::Unregister { kind, name: &names[one] },
                8..=10 => Query::Bind { transport: &names[one], server: &names[other] },
                11 => Query::Unbind { transport: &names[one] },
                12 => {
                    rig.members[at].close_owner(owner);
                    owners[at][one % 3] = rig.owner(at);
                    continue;
                }
                13 if at < cores => {
                    rig.die(at);
                    owners[at] = (0..3).map(|_| rig.owner(at)).collect();
                    continue;
                }
                14 => {
                    rig.flush(at);
                    continue;
                }
                15 => {
                    rig.pass(7 * MS);
                    continue;
                }
                _ => {
                    rig.flush(at);
                    rig.arrive(at, one % (cores + 1));
                    continue;
                }
            };
            let _ = rig.begin(at, query);
        }
        rig.settle();
        rig.pass(3_000 * MS);
        rig.settle();
        rig.assert_same(&names);
        for member in &rig.members {
            prop_assert_eq!(member.waiting.open(), 0, "everything was answered");
        }
        // And what ends leaves nothing.
        for (at, owners) in owners.into_iter().enumerate() {
            for owner in owners {
                rig.members[at].close_owner(owner);
            }
        }
        rig.settle();
        rig.assert_same(&names);
        prop_assert!(rig.members[..cores].iter().all(|member| member.replica.is_empty()));
    }
}
