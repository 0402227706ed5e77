//! Why the registry does not do what it was asked to.
//!
//! Not here: how that is told to a client. Invariant: whoever asks hears one of these or that it was done; nothing is
//! dropped silently.

use super::names::Kind;

/// A typed refusal.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// More than half of the shards write slowly, or an operator closed admission.
    #[error("admission control is active: {}", closed(*alarmed, *shards, *by_operator))]
    AdmissionClosed {
        /// Shards with an alarm.
        alarmed: u16,
        /// Shards there are.
        shards: u16,
        /// It is the operator who closed it.
        by_operator: bool,
    },
    /// The name is taken.
    #[error("that {} is registered already; unregister it first or choose another name", kind_word(*.0))]
    AlreadyRegistered(Kind),
    /// The way to the core that would do it is full, or too much is asked at once.
    #[error("too much is under way to the core that owns this; try again shortly")]
    Busy,
    /// A configuration is too large.
    #[error("a configuration of {bytes} bytes was given, {max} are possible", max = crate::limits::REGISTRY_CONFIG_BYTES_MAX)]
    ConfigTooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The owner's inbox is full.
    #[error("the owner has not taken the messages that wait for it; try again when it has")]
    InboxFull,
    /// A name is empty or too long.
    #[error("a name of {bytes} bytes was given, 1 to {max} are possible", max = crate::limits::REGISTRY_NAME_BYTES_MAX)]
    Name {
        /// Its length.
        bytes: usize,
    },
    /// There was no answer in time.
    #[error("there was no answer in time; it may have been done, look before trying again")]
    NoAnswer,
    /// The transport is bound to nothing.
    #[error("that transport is bound to no server; bind it first")]
    NotBound,
    /// Who registered it, or was to, is gone.
    #[error("its owner is gone")]
    OwnerGone,
    /// The shard is full.
    #[error("the shard of that name is full; raise the number of shards")]
    ShardFull,
    /// The core that owned it died.
    #[error("the core that owned this was lost; look what is left and try again")]
    ShardLost,
    /// No such shard.
    #[error("there is no such shard; they are counted from 0 to one less than there are")]
    ShardUnknown,
    /// No such server or transport.
    #[error("there is no such {}; register it first", kind_word(*.0))]
    Unknown(Kind),
}

fn closed(alarmed: u16, shards: u16, by_operator: bool) -> String {
    if by_operator {
        return "an operator closed it; it is opened with `corelane shards --admission auto`".to_owned();
    }
    format!(
        "writes are slow in {alarmed} of {shards} shards, and more than half close it; try again shortly, or let \
         everything in with `corelane shards --admission off`"
    )
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Server => "server",
        Kind::Transport => "transport",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_closed_admission_is_said_and_how_it_opens() {
        let said = |by_operator| Refusal::AdmissionClosed { alarmed: 9, shards: 16, by_operator }.to_string();
        let (slow, told) = (said(false), said(true));
        assert!(slow.contains("9 of 16 shards") && slow.contains("try again shortly"), "{slow}");
        assert!(told.contains("an operator closed it") && told.contains("--admission auto"), "{told}");
        assert!(!told.contains("slow"), "nothing need be slow: {told}");
    }
}
