//! Connections by where they come from: how many each address has of those that a core serves.
//!
//! Not here: what becomes of one too many (`server/accept`). Invariant: an address is known for as long as it has
//! connections and no longer, so what is kept is bounded by how many of those there may be; whatever an IPv6 peer
//! chooses behind its /64 makes no second one of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Whom connections are counted for: an IPv4 address, or an IPv6 network of 64 bits, which one peer has to itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Origin {
    /// An address, also one that was mapped into IPv6.
    V4(u32),
    /// The first 64 bits of an address.
    V6(u64),
}

/// Most connections of one origin on one core; none for as many as come.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PeerLimits {
    /// From elsewhere.
    pub elsewhere: Option<u32>,
    /// From this host.
    pub loopback: Option<u32>,
}

/// How many connections each origin has on one core.
#[derive(Debug)]
pub struct Peers {
    limits: PeerLimits,
    open: BTreeMap<Origin, u32>,
}

impl Origin {
    /// Of an address.
    pub fn of(address: IpAddr) -> Origin {
        match address.to_canonical() {
            IpAddr::V4(address) => Origin::V4(address.to_bits()),
            IpAddr::V6(address) => Origin::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// Whether it is this host's own.
fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

impl Peers {
    /// With nobody there.
    pub fn new(limits: PeerLimits) -> Peers {
        Peers { limits, open: BTreeMap::new() }
    }

    /// Most connections from an address, if there is a limit.
    pub fn most(&self, address: IpAddr) -> Option<u32> {
        if is_loopback(address) { self.limits.loopback } else { self.limits.elsewhere }
    }

    /// Whether one more may come from an address.
    pub fn may_come(&self, address: IpAddr) -> bool {
        self.most(address).is_none_or(|most| self.open.get(&Origin::of(address)).is_none_or(|open| *open < most))
    }

    /// One more has come.
    pub fn came(&mut self, address: IpAddr) {
        // Whoever has no limit is not counted, and takes no memory.
        if self.most(address).is_some() {
            *self.open.entry(Origin::of(address)).or_default() += 1;
        }
    }

    /// One that had come is gone.
    pub fn left(&mut self, address: IpAddr) {
        let origin = Origin::of(address);
        let Some(open) = self.open.get_mut(&origin) else { return };
        *open -= 1;
        if *open == 0 {
            self.open.remove(&origin);
        }
    }

    /// Origins that are known now.
    pub fn origins(&self) -> usize {
        self.open.len()
    }

    /// Connections of all origins that have a limit.
    pub fn counted(&self) -> u64 {
        self.open.values().map(|open| u64::from(*open)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn peers(elsewhere: u32) -> Peers {
        Peers::new(PeerLimits { elsewhere: Some(elsewhere), loopback: None })
    }

    #[test]
    fn an_ipv4_address_is_one_and_an_ipv6_network_is_one() {
        let mut peers = peers(1);
        for (one, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::7", "2001:db8:0:2::1"),
        ] {
            peers.came(address(one));
            assert!(!peers.may_come(address(one)) && !peers.may_come(address(same)), "{one} and {same}");
            assert!(peers.may_come(address(other)), "{other}");
            peers.left(address(same));
            assert!(peers.may_come(address(one)));
        }
        assert_eq!(peers.origins(), 0, "who has left is forgotten");
    }

    #[test]
    fn this_host_has_a_limit_of_its_own_and_none_unless_it_is_set() {
        let mut unset = peers(1);
        let set = PeerLimits { elsewhere: None, loopback: Some(2) };
        let mut set = Peers::new(set);
        for local in ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.3"].map(address) {
            (0..1000).for_each(|_| unset.came(local));
            assert!(unset.may_come(local));
            (0..2).for_each(|_| set.came(local));
            assert!(!set.may_come(local), "{local}");
        }
        assert_eq!((unset.origins(), set.origins(), set.counted()), (0, 4, 8));
        (0..1000).for_each(|_| set.came(address("192.0.2.1")));
        assert!(set.may_come(address("192.0.2.1")) && set.origins() == 4);
    }

    proptest! {
        /// However connections come and go: no origin has more than its limit, and nothing is kept of who has none.
        #[test]
        fn no_origin_has_more_than_it_may(
            most in 1u32..5,
            steps in proptest::collection::vec((any::<bool>(), 0u16..6, any::<u64>()), 1..400),
        ) {
            let mut peers = peers(most);
            let mut open: Vec<IpAddr> = Vec::new();
            for (comes, network, host) in steps {
                let bits = (0x2001_0db8_u128 << 96) | (u128::from(network) << 64) | u128::from(host);
                let address = IpAddr::V6(Ipv6Addr::from_bits(bits));
                let here = open.iter().filter(|open| Origin::of(**open) == Origin::of(address)).count() as u32;
                if comes {
                    prop_assert_eq!(peers.may_come(address), here < most);
                    if here < most {
                        peers.came(address);
                        open.push(address);
                    }
                } else if !open.is_empty() {
                    peers.left(open.swap_remove(host as usize % open.len()));
                }
                prop_assert_eq!(peers.counted(), open.len() as u64);
                prop_assert!(peers.origins() <= open.len() && peers.origins() <= 6);
            }
        }
    }
}
