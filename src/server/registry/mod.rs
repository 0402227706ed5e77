//! The registry over all cores: who is asked, who is told, and how a core's tasks use it.
//!
//! Reading order: `item` is what cores say to each other; `peers` gathers it and knows how far each has followed;
//! `waiting` holds the tickets; `inbox` the owners and their messages; `member` is the machine of one port, `owning`
//! its side as the owner of shards; `here` is what a core's tasks see.
//! Not here: one shard's own state (`shard::registry`), rings, clocks. Invariant: no central place: a name's shard is
//! owned by one core, every core reads its own replica, and nobody waits for a core longer than 50 ms to hear that a
//! write was done.

mod here;
mod inbox;
mod item;
mod losses;
mod member;
mod owning;
mod peers;
mod waiting;

pub use here::{Asking, CoreRegistry, Ownership, RegistryClock, Written};
pub use inbox::Message;
pub use item::Query;
pub use member::{Asked, Census, Founding, Member};
pub use waiting::Answer;

#[cfg(test)]
mod tests;
