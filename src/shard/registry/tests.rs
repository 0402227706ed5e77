//! A shard and the replica that hears of all its changes.
//!
//! Invariant: after every step the replica knows what the shard knows.

use super::*;
use crate::ids::CoreId;
use crate::shard::registry::{Names, Replica};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn owner(core: u16, slot: u32) -> Owner {
    Owner { core: CoreId(core), slot, generation: 1 }
}

struct Both {
    names: Names,
    shard: RegistryShard,
    replica: Replica,
}

impl Both {
    fn new() -> Both {
        Both { names: Names::new([5; 16]), shard: RegistryShard::new(ShardId(0)), replica: Replica::new(1) }
    }

    fn register(&mut self, kind: Kind, name: &str, owner: Owner) -> Result<(), Refusal> {
        let key = self.names.key(kind, name);
        let new = Registration { kind, key, name, config: b"{}", owner };
        self.shard.register(new, &mut |delta| self.replica.apply(delta))
    }

    fn unregister(&mut self, kind: Kind, name: &str) -> Result<(), Refusal> {
        let key = self.names.key(kind, name);
        let done = self.shard.unregister(kind, key, &mut |delta| self.replica.apply(delta));
        if done.is_ok() && kind == Kind::Server {
            self.shard.drop_server(key, &mut |delta| self.replica.apply(delta));
        }
        done
    }

    fn bind(&mut self, transport: &str, server: &str) -> Result<(), Refusal> {
        let (transport, key) = (self.names.key(Kind::Transport, transport), self.names.key(Kind::Server, server));
        self.shard.bind(transport, key, server, &mut |delta| self.replica.apply(delta))
    }

    fn server_of(&self, transport: &str) -> Option<String> {
        let key = self.names.key(Kind::Transport, transport);
        let known = self.shard.server_of(key).map(|(server, name)| (server, name.to_owned()));
        assert_eq!(self.replica.server_of(key), known.as_ref().map(|(server, _)| *server));
        known.map(|(_, name)| name)
    }
}

#[test]
fn a_name_is_taken_once_and_free_again_after() {
    let mut both = Both::new();
    assert_eq!(both.register(Kind::Server, "a", owner(0, 1)), Ok(()));
    assert_eq!(both.register(Kind::Server, "a", owner(0, 2)), Err(Refusal::AlreadyRegistered(Kind::Server)));
    assert_eq!(both.register(Kind::Transport, "a", owner(0, 3)), Ok(()), "another kind");
    let key = both.names.key(Kind::Server, "a");
    assert_eq!(both.replica.find(key), Some(owner(0, 1)));
    let entry = both.shard.find(key).expect("registered");
    assert_eq!((entry.name(), entry.config(), entry.owner()), ("a", &b"{}"[..], owner(0, 1)));
    assert_eq!(both.unregister(Kind::Server, "a"), Ok(()));
    assert_eq!(both.unregister(Kind::Server, "a"), Err(Refusal::Unknown(Kind::Server)));
    assert_eq!((both.replica.find(key), both.replica.len()), (None, 1));
    assert_eq!(both.register(Kind::Server, "a", owner(0, 2)), Ok(()));
}

#[test]
fn bindings_go_with_their_transport_and_with_their_server() {
    let mut both = Both::new();
    for name in ["s", "other"] {
        both.register(Kind::Server, name, owner(0, 1)).expect("free");
    }
    assert_eq!(both.bind("t", "s"), Err(Refusal::Unknown(Kind::Transport)));
    for name in ["t", "u"] {
        both.register(Kind::Transport, name, owner(0, 2)).expect("free");
        both.bind(name, "s").expect("both are there");
    }
    both.bind("u", "other").expect("bound anew");
    assert_eq!((both.server_of("t").as_deref(), both.server_of("u").as_deref()), (Some("s"), Some("other")));
    assert_eq!(both.shard.bound_to(both.names.key(Kind::Server, "s")).count(), 1);
    both.unregister(Kind::Server, "s").expect("there");
    assert_eq!((both.server_of("t"), both.server_of("u").as_deref()), (None, Some("other")));
    let transport = both.names.key(Kind::Transport, "t");
    assert_eq!(both.shard.unbind(transport, &mut |_| ()), Err(Refusal::NotBound));
    both.unregister(Kind::Transport, "u").expect("there");
    assert_eq!((both.server_of("u"), both.shard.statistics().bindings), (None, 0));
}

#[test]
fn what_an_owner_had_goes_with_it_and_nothing_else() {
    let mut both = Both::new();
    both.register(Kind::Server, "mine", owner(1, 7)).expect("free");
    both.register(Kind::Transport, "mine", owner(1, 7)).expect("free");
    both.register(Kind::Transport, "theirs", owner(1, 8)).expect("free");
    both.bind("mine", "mine").expect("both are there");
    let gone = owner(1, 7);
    let servers = both.shard.drop_owners(gone..=gone, &mut |delta| both.replica.apply(delta));
    assert_eq!(servers, [both.names.key(Kind::Server, "mine")]);
    assert_eq!((both.replica.len(), both.server_of("mine"), both.shard.statistics().bindings), (1, None, 0));
    both.shard.drop_owners(Owner::all_of(CoreId(1)), &mut |delta| both.replica.apply(delta));
    assert!(both.replica.is_empty() && both.shard.is_empty());
}

#[test]
fn statistics_say_what_was_written_and_begin_anew() {
    let mut shard = RegistryShard::new(ShardId(3));
    for took in 1..=12 {
        shard.note_write(100, 100 + took, 5, true);
    }
    shard.note_write(100, 113, 5, false);
    let statistics = shard.statistics();
    assert_eq!((statistics.shard, statistics.writes, statistics.refused, statistics.samples), (ShardId(3), 12, 1, 10));
    assert_eq!((statistics.mean_ns, statistics.least_ns, statistics.most_ns, statistics.alarmed), (7, 3, 12, true));
    assert!(shard.reset_stats());
    let statistics = shard.statistics();
    assert_eq!((statistics.writes, statistics.refused, statistics.samples, statistics.alarmed), (0, 0, 0, false));
}

proptest! {
    #[test]
    fn a_replica_is_what_the_shard_is(
        steps in prop::collection::vec((0u8..6, 0usize..6, 0usize..6), 1..120),
    ) {
        let name = |index: usize| format!("n{index}");
        let mut both = Both::new();
        let (mut owners, mut bound) = (BTreeMap::new(), BTreeMap::new());
        for (step, one, other) in steps {
            let kind = if other % 2 == 0 { Kind::Server } else { Kind::Transport };
            match step {
                0 | 1 => {
                    let done = both.register(kind, &name(one), owner(0, other as u32)).is_ok();
                    prop_assert_eq!(done, !owners.contains_key(&(kind, one)));
                    owners.entry((kind, one)).or_insert(owner(0, other as u32));
                }
                2 => {
                    let done = both.unregister(kind, &name(one)).is_ok();
                    prop_assert_eq!(done, owners.remove(&(kind, one)).is_some());
                }
                3 | 4 if owners.contains_key(&(Kind::Server, other)) => {
                    let done = both.bind(&name(one), &name(other)).is_ok();
                    prop_assert_eq!(done, owners.contains_key(&(Kind::Transport, one)));
                    if done { bound.insert(one, other); }
                }
                5 => {
                    let gone = owner(0, other as u32);
                    let servers = both.shard.drop_owners(gone..=gone, &mut |delta| both.replica.apply(delta));
                    for server in servers {
                        both.shard.drop_server(server, &mut |delta| both.replica.apply(delta));
                    }
                    owners.retain(|_, owner| *owner != gone);
                }
                _ => {}
            }
            bound.retain(|transport, server| {
                owners.contains_key(&(Kind::Transport, *transport)) && owners.contains_key(&(Kind::Server, *server))
            });
            let mut copy = Replica::new(1);
            both.shard.snapshot(&mut |delta| copy.apply(delta));
            for index in 0..6 {
                for kind in [Kind::Server, Kind::Transport] {
                    let key = both.names.key(kind, &name(index));
                    prop_assert_eq!(both.replica.find(key), owners.get(&(kind, index)).copied());
                    prop_assert_eq!(copy.find(key), both.replica.find(key));
                }
                prop_assert_eq!(both.server_of(&name(index)), bound.get(&index).map(|&server: &usize| name(server)));
                let key = both.names.key(Kind::Transport, &name(index));
                prop_assert_eq!(copy.server_of(key), both.replica.server_of(key));
            }
        }
    }
}
