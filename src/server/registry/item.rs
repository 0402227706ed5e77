//! What cores say to each other about the registry: items, many to a parcel.
//!
//! Not here: when they are sent (`peers`) and what follows (`member`). Invariant: an item that was written is read as
//! the same; bytes that are no item end the batch, they do not end the core.

use super::inbox::Shards;
use crate::ids::{CoreId, ShardId, Ticket};
use crate::shard::registry::{Admission, Delta, Key, Kind, Owner, Record, Refusal, ShardStatistics, Tie};

/// What can be asked of the core that owns a shard, or of every core.
#[derive(Clone, Copy, PartialEq, Debug)]
#[allow(missing_docs, reason = "each stands for a method of `CoreRegistry` and has its arguments")]
pub enum Query<'a> {
    Bind {
        transport: &'a str,
        server: &'a str,
    },
    Broadcast {
        server: &'a str,
        message: &'a [u8],
    },
    Find {
        kind: Kind,
        name: &'a str,
    },
    List {
        kind: Kind,
    },
    Register {
        kind: Kind,
        owner: Owner,
        name: &'a str,
        server: &'a str,
        config: &'a [u8],
    },
    Reset,
    Route {
        kind: Kind,
        name: &'a str,
        from: &'a str,
        message: &'a [u8],
    },
    ServerOf {
        transport: &'a str,
    },
    SetAdmission(Admission),
    /// Of one shard, or with `u16::MAX` of all that the core owns.
    Statistics {
        shard: ShardId,
    },
    Status,
    Unbind {
        transport: &'a str,
    },
    Unregister {
        kind: Kind,
        name: &'a str,
    },
}

/// One item.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Item<'a> {
    /// A core's shards with an alarm.
    Alarmed(u16),
    /// An answer to a ticket; `part` of one if it comes from a core that another one passed the request on to.
    Answer { ticket: Ticket, part: bool, reply: Reply<'a> },
    /// The reader's deltas were applied up to this version.
    Applied(u64),
    /// A request, asked for at that time. The key is of the name that brings it to its reader, if one does: whoever
    /// asks has had to make it.
    Ask { ticket: Ticket, since: u64, key: Key, op: Query<'a> },
    /// A message for an owner of the reader's.
    Deliver { origin: CoreId, ticket: Ticket, to: Owner, kind: Kind, key: Key, from: &'a str, message: &'a [u8] },
    /// A message for many owners of the reader's, each for one of their transports: 20 bytes each.
    DeliverMany { origin: CoreId, ticket: Ticket, from: &'a str, message: &'a [u8], receivers: &'a [u8] },
    /// A change of a shard of the writer's.
    Delta(Delta),
    /// A snapshot of a shard of the writer's: deltas that make it what it is follow, then `Whole`.
    Begin(ShardId),
    /// The writer has begun another life and knows nothing.
    Hello,
    /// An owner of the writer's is gone; it registered in shards of these bits ([`Shards`]) only.
    OwnerGone { slot: u32, generation: u32, shards: Shards },
    /// The writer refused a registration, because it knows that the name of this key is taken.
    Refused(Key),
    /// All of the writer's deltas up to this version have been sent.
    Version(u64),
    /// All that the writer had when it was greeted has been sent; and so admission is set.
    Welcome(Admission),
    /// The snapshot of that shard ends here.
    Whole(ShardId),
}

/// What comes back.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Reply<'a> {
    /// Told to so many owners, refused by so many; so many other cores will say the same.
    Delivered { told: u32, refused: u32, forwarded: u16 },
    /// It is done; every live core knows, or not in time.
    Done { applied: bool },
    /// An entry.
    Entry { owner: Owner, config: &'a [u8] },
    /// A name.
    Name(&'a str),
    /// Names, each behind its length (two bytes); `more` of them follow.
    Names { more: bool, names: &'a [u8] },
    /// It is not done.
    Refused(Refusal),
    /// Shards, one behind the other.
    Statistics(&'a [u8]),
    /// Admission and alarms as that core knows them.
    Status { closed: bool, admission: Admission, alarmed: u16, shards: u16 },
}

/// Bytes of one receiver in `DeliverMany`.
pub(super) const RECEIVER_BYTES: usize = 20;
/// Bytes of one shard in `Statistics`.
const STATISTICS_BYTES: usize = 2 + 3 * 4 + 2 * 8 + 4 + 3 * 8 + 1;

/// Writes items one behind the other.
pub(super) struct Writer<'o>(pub &'o mut Vec<u8>);

impl Writer<'_> {
    fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.u16(text.len() as u16);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn key(&mut self, key: Key) -> &mut Self {
        self.0.extend_from_slice(&key.to_bytes());
        self
    }

    fn owner(&mut self, owner: Owner) -> &mut Self {
        self.u16(owner.core.0).u32(owner.slot).u32(owner.generation)
    }

    fn ticket(&mut self, ticket: Ticket) -> &mut Self {
        self.u32(ticket.index).u32(ticket.generation)
    }

    pub(super) fn item(&mut self, item: &Item<'_>) {
        match item {
            Item::Alarmed(shards) => self.u8(0).u16(*shards),
            Item::Answer { ticket, part, reply } => self.u8(1).ticket(*ticket).u8(u8::from(*part)).reply(reply),
            Item::Applied(version) => self.u8(2).u64(*version),
            Item::Ask { ticket, since, key, op } => self.u8(3).ticket(*ticket).u64(*since).key(*key).op(op),
            Item::Deliver { origin, ticket, to, kind, key, from, message } => {
                self.u8(4).u16(origin.0).ticket(*ticket).owner(*to).u8(*kind as u8).key(*key).text(from).bytes(message)
            }
            Item::DeliverMany { origin, ticket, from, message, receivers } => {
                self.u8(5).u16(origin.0).ticket(*ticket).text(from).bytes(message).bytes(receivers)
            }
            Item::Delta(Delta::New(record)) => self.u8(6).u8(record.kind as u8).key(record.key).owner(record.owner()),
            Item::Delta(Delta::Gone(kind, key)) => self.u8(7).u8(*kind as u8).key(*key),
            Item::Delta(Delta::Bound(tie)) => self.u8(8).key(tie.transport).key(tie.server),
            Item::Delta(Delta::Unbound(transport)) => self.u8(9).key(*transport),
            Item::Begin(shard) => self.u8(10).u16(shard.0),
            Item::Hello => self.u8(11),
            Item::OwnerGone { slot, generation, shards } => self.u8(12).u32(*slot).u32(*generation).u64(shards.0),
            Item::Version(version) => self.u8(13).u64(*version),
            Item::Welcome(admission) => self.u8(14).u8(*admission as u8),
            Item::Whole(shard) => self.u8(15).u16(shard.0),
            Item::Refused(key) => self.u8(16).key(*key),
        };
    }

    fn op(&mut self, op: &Query<'_>) -> &mut Self {
        match *op {
            Query::Bind { transport, server } => self.u8(0).text(transport).text(server),
            Query::Broadcast { server, message } => self.u8(1).text(server).bytes(message),
            Query::Find { kind, name } => self.u8(2).u8(kind as u8).text(name),
            Query::List { kind } => self.u8(3).u8(kind as u8),
            Query::Register { kind, owner, name, server, config } => {
                self.u8(4).u8(kind as u8).owner(owner).text(name).text(server).bytes(config)
            }
            Query::Reset => self.u8(5),
            Query::Route { kind, name, from, message } => {
                self.u8(6).u8(kind as u8).text(name).text(from).bytes(message)
            }
            Query::ServerOf { transport } => self.u8(7).text(transport),
            Query::SetAdmission(admission) => self.u8(8).u8(admission as u8),
            Query::Statistics { shard } => self.u8(9).u16(shard.0),
            Query::Status => self.u8(10),
            Query::Unbind { transport } => self.u8(11).text(transport),
            Query::Unregister { kind, name } => self.u8(12).u8(kind as u8).text(name),
        }
    }

    fn reply(&mut self, reply: &Reply<'_>) -> &mut Self {
        match reply {
            Reply::Delivered { told, refused, forwarded } => self.u8(0).u32(*told).u32(*refused).u16(*forwarded),
            Reply::Done { applied } => self.u8(1).u8(u8::from(*applied)),
            Reply::Entry { owner, config } => self.u8(2).owner(*owner).bytes(config),
            Reply::Name(name) => self.u8(3).text(name),
            Reply::Names { more, names } => self.u8(4).u8(u8::from(*more)).bytes(names),
            Reply::Refused(refusal) => self.u8(5).refusal(refusal),
            Reply::Statistics(shards) => self.u8(6).bytes(shards),
            Reply::Status { closed, admission, alarmed, shards } => {
                self.u8(7).u8(u8::from(*closed)).u8(*admission as u8).u16(*alarmed).u16(*shards)
            }
        }
    }

    fn refusal(&mut self, refusal: &Refusal) -> &mut Self {
        match *refusal {
            Refusal::AdmissionClosed { alarmed, shards, by_operator } => {
                self.u8(0).u16(alarmed).u16(shards).u8(u8::from(by_operator))
            }
            Refusal::AlreadyRegistered(kind) => self.u8(1).u8(kind as u8),
            Refusal::Busy => self.u8(2),
            Refusal::ConfigTooLarge { bytes } => self.u8(3).u64(bytes as u64),
            Refusal::InboxFull => self.u8(4),
            Refusal::Name { bytes } => self.u8(5).u64(bytes as u64),
            Refusal::NoAnswer => self.u8(6),
            Refusal::NotBound => self.u8(7),
            Refusal::OwnerGone => self.u8(8),
            Refusal::ShardFull => self.u8(9),
            Refusal::ShardLost => self.u8(10),
            Refusal::ShardUnknown => self.u8(11),
            Refusal::Unknown(kind) => self.u8(12).u8(kind as u8),
        }
    }

    /// One shard of `Reply::Statistics`.
    pub(super) fn statistics(&mut self, of: &ShardStatistics) {
        self.u16(of.shard.0).u32(of.servers).u32(of.transports).u32(of.bindings).u64(of.writes).u64(of.refused);
        self.u32(of.samples).u64(of.mean_ns).u64(of.least_ns).u64(of.most_ns).u8(u8::from(of.alarmed));
    }

    /// One name of `Reply::Names`.
    pub(super) fn name(&mut self, name: &str) {
        self.text(name);
    }

    /// One receiver of `DeliverMany`.
    pub(super) fn receiver(&mut self, key: Key, owner: Owner) {
        self.key(key).u32(owner.slot).u32(owner.generation);
    }
}

/// Reads items.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Iterator for Reader<'a> {
    type Item = Item<'a>;

    /// The next item; none at the end, or where the bytes are no item.
    fn next(&mut self) -> Option<Item<'a>> {
        Some(match self.u8()? {
            0 => Item::Alarmed(self.u16()?),
            1 => Item::Answer { ticket: self.ticket()?, part: self.u8()? != 0, reply: self.reply()? },
            2 => Item::Applied(self.u64()?),
            3 => Item::Ask { ticket: self.ticket()?, since: self.u64()?, key: self.key()?, op: self.op()? },
            4 => Item::Deliver {
                origin: CoreId(self.u16()?),
                ticket: self.ticket()?,
                to: self.owner()?,
                kind: self.kind()?,
                key: self.key()?,
                from: self.text()?,
                message: self.bytes()?,
            },
            5 => Item::DeliverMany {
                origin: CoreId(self.u16()?),
                ticket: self.ticket()?,
                from: self.text()?,
                message: self.bytes()?,
                receivers: self.bytes()?,
            },
            6 => {
                let (kind, key) = (self.kind()?, self.key()?);
                Item::Delta(Delta::New(Record::new(kind, key, self.owner()?)))
            }
            7 => Item::Delta(Delta::Gone(self.kind()?, self.key()?)),
            8 => Item::Delta(Delta::Bound(Tie { transport: self.key()?, server: self.key()? })),
            9 => Item::Delta(Delta::Unbound(self.key()?)),
            10 => Item::Begin(ShardId(self.u16()?)),
            11 => Item::Hello,
            12 => Item::OwnerGone { slot: self.u32()?, generation: self.u32()?, shards: Shards(self.u64()?) },
            13 => Item::Version(self.u64()?),
            14 => Item::Welcome(Admission::from_number(self.u8()?)?),
            15 => Item::Whole(ShardId(self.u16()?)),
            16 => Item::Refused(self.key()?),
            _ => return None,
        })
    }
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.slice(length as usize)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.u16()?;
        std::str::from_utf8(self.slice(usize::from(length))?).ok()
    }

    fn key(&mut self) -> Option<Key> {
        self.take().map(Key::from_bytes)
    }

    fn kind(&mut self) -> Option<Kind> {
        Kind::from_number(self.u8()?)
    }

    fn owner(&mut self) -> Option<Owner> {
        Some(Owner { core: CoreId(self.u16()?), slot: self.u32()?, generation: self.u32()? })
    }

    fn ticket(&mut self) -> Option<Ticket> {
        Some(Ticket { index: self.u32()?, generation: self.u32()? })
    }

    fn op(&mut self) -> Option<Query<'a>> {
        Some(match self.u8()? {
            0 => Query::Bind { transport: self.text()?, server: self.text()? },
            1 => Query::Broadcast { server: self.text()?, message: self.bytes()? },
            2 => Query::Find { kind: self.kind()?, name: self.text()? },
            3 => Query::List { kind: self.kind()? },
            4 => Query::Register {
                kind: self.kind()?,
                owner: self.owner()?,
                name: self.text()?,
                server: self.text()?,
                config: self.bytes()?,
            },
            5 => Query::Reset,
            6 => Query::Route { kind: self.kind()?, name: self.text()?, from: self.text()?, message: self.bytes()? },
            7 => Query::ServerOf { transport: self.text()? },
            8 => Query::SetAdmission(Admission::from_number(self.u8()?)?),
            9 => Query::Statistics { shard: ShardId(self.u16()?) },
            10 => Query::Status,
            11 => Query::Unbind { transport: self.text()? },
            12 => Query::Unregister { kind: self.kind()?, name: self.text()? },
            _ => return None,
        })
    }

    fn reply(&mut self) -> Option<Reply<'a>> {
        Some(match self.u8()? {
            0 => Reply::Delivered { told: self.u32()?, refused: self.u32()?, forwarded: self.u16()? },
            1 => Reply::Done { applied: self.u8()? != 0 },
            2 => Reply::Entry { owner: self.owner()?, config: self.bytes()? },
            3 => Reply::Name(self.text()?),
            4 => Reply::Names { more: self.u8()? != 0, names: self.bytes()? },
            5 => Reply::Refused(self.refusal()?),
            6 => Reply::Statistics(self.bytes()?),
            7 => Reply::Status {
                closed: self.u8()? != 0,
                admission: Admission::from_number(self.u8()?)?,
                alarmed: self.u16()?,
                shards: self.u16()?,
            },
            _ => return None,
        })
    }

    fn refusal(&mut self) -> Option<Refusal> {
        Some(match self.u8()? {
            0 => Refusal::AdmissionClosed { alarmed: self.u16()?, shards: self.u16()?, by_operator: self.u8()? != 0 },
            1 => Refusal::AlreadyRegistered(self.kind()?),
            2 => Refusal::Busy,
            3 => Refusal::ConfigTooLarge { bytes: self.u64()? as usize },
            4 => Refusal::InboxFull,
            5 => Refusal::Name { bytes: self.u64()? as usize },
            6 => Refusal::NoAnswer,
            7 => Refusal::NotBound,
            8 => Refusal::OwnerGone,
            9 => Refusal::ShardFull,
            10 => Refusal::ShardLost,
            11 => Refusal::ShardUnknown,
            12 => Refusal::Unknown(self.kind()?),
            _ => return None,
        })
    }

    /// The names of `Reply::Names`.
    pub(super) fn names(mut self) -> impl Iterator<Item = &'a str> {
        std::iter::from_fn(move || self.text())
    }

    /// The shards of `Reply::Statistics`.
    pub(super) fn statistics(mut self) -> impl Iterator<Item = ShardStatistics> {
        std::iter::from_fn(move || {
            let shard = self.slice(STATISTICS_BYTES).map(Reader);
            let mut shard = shard?;
            Some(ShardStatistics {
                shard: ShardId(shard.u16()?),
                servers: shard.u32()?,
                transports: shard.u32()?,
                bindings: shard.u32()?,
                writes: shard.u64()?,
                refused: shard.u64()?,
                samples: shard.u32()?,
                mean_ns: shard.u64()?,
                least_ns: shard.u64()?,
                most_ns: shard.u64()?,
                alarmed: shard.u8()? != 0,
            })
        })
    }

    /// The receivers of `DeliverMany`, whose core it is.
    pub(super) fn receivers(mut self, core: CoreId) -> impl Iterator<Item = (Key, Owner)> {
        std::iter::from_fn(move || {
            let key = self.key()?;
            Some((key, Owner { core, slot: self.u32()?, generation: self.u32()? }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::registry::Names;

    #[test]
    fn every_item_is_read_as_it_was_written() {
        let ticket = Ticket { index: 1, generation: 2 };
        let owner = Owner { core: CoreId(3), slot: 4, generation: 5 };
        let key = Names::new([1; 16]).key(Kind::Transport, "t");
        let (kind, name, message) = (Kind::Transport, "näme", &b"message"[..]);
        let mut items = vec![
            Item::Alarmed(7),
            Item::Applied(8),
            Item::Deliver { origin: CoreId(9), ticket, to: owner, kind, key, from: name, message },
            Item::DeliverMany { origin: CoreId(9), ticket, from: name, message, receivers: b"rrrr" },
            Item::Delta(Delta::New(Record::new(kind, key, owner))),
            Item::Delta(Delta::Gone(kind, key)),
            Item::Delta(Delta::Bound(Tie { transport: key, server: key })),
            Item::Delta(Delta::Unbound(key)),
            Item::Begin(ShardId(11)),
            Item::Hello,
            Item::OwnerGone { slot: 12, generation: 13, shards: Shards(14) },
            Item::Refused(key),
            Item::Version(14),
            Item::Welcome(Admission::On),
            Item::Whole(ShardId(15)),
        ];
        let ops = [
            Query::Bind { transport: name, server: "s" },
            Query::Broadcast { server: name, message },
            Query::Find { kind, name },
            Query::List { kind },
            Query::Register { kind, owner, name, server: "", config: message },
            Query::Reset,
            Query::Route { kind, name, from: "f", message },
            Query::ServerOf { transport: name },
            Query::SetAdmission(Admission::Off),
            Query::Statistics { shard: ShardId(3) },
            Query::Status,
            Query::Unbind { transport: name },
            Query::Unregister { kind, name },
        ];
        items.extend(ops.into_iter().map(|op| Item::Ask { ticket, since: 15, key, op }));
        let refusals = [
            Refusal::AdmissionClosed { alarmed: 1, shards: 2, by_operator: true },
            Refusal::AlreadyRegistered(kind),
            Refusal::Busy,
            Refusal::ConfigTooLarge { bytes: 3 },
            Refusal::InboxFull,
            Refusal::Name { bytes: 4 },
            Refusal::NoAnswer,
            Refusal::NotBound,
            Refusal::OwnerGone,
            Refusal::ShardFull,
            Refusal::ShardLost,
            Refusal::ShardUnknown,
            Refusal::Unknown(kind),
        ];
        let replies = [
            Reply::Delivered { told: 1, refused: 2, forwarded: 3 },
            Reply::Done { applied: true },
            Reply::Entry { owner, config: message },
            Reply::Name(name),
            Reply::Names { more: true, names: message },
            Reply::Statistics(message),
            Reply::Status { closed: true, admission: Admission::On, alarmed: 1, shards: 2 },
        ];
        let replies = replies.into_iter().chain(refusals.into_iter().map(Reply::Refused));
        items.extend(replies.map(|reply| Item::Answer { ticket, part: true, reply }));
        let mut bytes = Vec::new();
        items.iter().for_each(|item| Writer(&mut bytes).item(item));
        assert_eq!(Reader(&bytes).collect::<Vec<_>>(), items);
        // Whatever is cut off or spoilt ends the batch.
        for end in 0..bytes.len() {
            let read: Vec<_> = Reader(&bytes[..end]).collect();
            assert_eq!(read, items[..read.len()]);
        }
        assert_eq!(Reader(&[99, 1, 2]).next(), None);
    }

    #[test]
    fn lists_inside_items_are_read_as_they_were_written() {
        let statistics = ShardStatistics {
            shard: ShardId(1),
            servers: 2,
            transports: 3,
            bindings: 4,
            writes: 5,
            refused: 6,
            samples: 7,
            mean_ns: 8,
            least_ns: 9,
            most_ns: 10,
            alarmed: true,
        };
        let mut bytes = Vec::new();
        (0..3).for_each(|_| Writer(&mut bytes).statistics(&statistics));
        assert_eq!(Reader(&bytes).statistics().collect::<Vec<_>>(), [statistics; 3]);
        bytes.clear();
        ["a", "", "c"].iter().for_each(|name| Writer(&mut bytes).name(name));
        assert_eq!(Reader(&bytes).names().collect::<Vec<_>>(), ["a", "", "c"]);
        bytes.clear();
        let owner = Owner { core: CoreId(2), slot: 3, generation: 4 };
        Writer(&mut bytes).receiver(Key::MOST, owner);
        assert_eq!(
            (bytes.len(), Reader(&bytes).receivers(CoreId(2)).next()),
            (RECEIVER_BYTES, Some((Key::MOST, owner)))
        );
    }
}
