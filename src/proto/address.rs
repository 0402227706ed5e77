//! Which networks an address belongs to, and which of them a name is allowed to lead to.
//!
//! Not here: looking names up. Whoever dials asks about the very address it dials, so that a name cannot be judged by
//! one answer and dialled by another. Invariant: an address that embeds an IPv4 address is judged by that one; those of
//! the machine's own link and of cloud metadata are refused whatever the rule.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// Which addresses may be dialled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressRule {
    /// Public and private ones.
    Any,
    /// Loopback and private ones only.
    Private,
    /// Public ones only.
    Public,
}

/// Where an address lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// This machine.
    Loopback,
    /// Never to be dialled; the text says what it is.
    Never(&'static str),
    /// Networks of an organisation: RFC 1918, RFC 6598, unique local.
    Private,
    /// All others.
    Public,
}

/// Why an address is not dialled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum AddressError {
    /// Whatever the rule.
    #[error("{address} is {what}, which is never dialled")]
    Never {
        /// The address.
        address: IpAddr,
        /// What it is.
        what: &'static str,
    },
    /// The rule is for others.
    #[error("{address} is {network}, and the rule allows {rule} addresses only")]
    OutsideRule {
        /// The address.
        address: IpAddr,
        /// Where it lies.
        network: Network,
        /// The rule.
        rule: AddressRule,
    },
}

/// Services for machines in a cloud that lie outside of the link-local networks: Alibaba, Oracle, Amazon.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

impl AddressRule {
    /// Whether this address may be dialled.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(self, address: IpAddr) -> Result<(), AddressError> {
        let network = Network::of(address);
        match (self, network) {
            (_, Network::Never(what)) => Err(AddressError::Never { address, what }),
            (AddressRule::Any, _)
            | (AddressRule::Private, Network::Loopback | Network::Private)
            | (AddressRule::Public, Network::Public) => Ok(()),
            _ => Err(AddressError::OutsideRule { address, network, rule: self }),
        }
    }
}

impl Network {
    /// Where an address lies.
    pub fn of(address: IpAddr) -> Network {
        match address {
            IpAddr::V4(v4) => Network::of_v4(v4),
            IpAddr::V6(v6) => match embedded(v6) {
                Some(v4) => Network::of_v4(v4),
                None => Network::of_v6(v6),
            },
        }
    }

    fn of_v4(v4: Ipv4Addr) -> Network {
        match v4.octets() {
            _ if METADATA_V4.contains(&v4) => Network::Never("a cloud's metadata service"),
            [0, ..] => Network::Never("no host's address"),
            [169, 254, ..] => Network::Never("link-local, where clouds keep their metadata service"),
            [224..=255, ..] => Network::Never("multicast, broadcast or reserved"),
            [127, ..] => Network::Loopback,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Network::Private,
            _ => Network::Public,
        }
    }

    fn of_v6(v6: Ipv6Addr) -> Network {
        match v6.segments()[0] {
            _ if v6 == Ipv6Addr::LOCALHOST => Network::Loopback,
            _ if v6 == METADATA_V6 => Network::Never("a cloud's metadata service"),
            0xfe80..=0xfebf => Network::Never("link-local"),
            0xff00.. => Network::Never("multicast"),
            0xfc00..=0xfdff => Network::Private,
            // All global unicast addresses that are assigned lie here.
            0x2000..=0x3fff => Network::Public,
            _ => Network::Never("no host's address"),
        }
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, translated (RFC 6052) or 6to4.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = v6.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

impl fmt::Display for AddressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressRule::Any => "any",
            AddressRule::Private => "private",
            AddressRule::Public => "public",
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Network::Loopback => "loopback",
            Network::Never(what) => what,
            Network::Private => "private",
            Network::Public => "public",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Network {
        Network::of(address.parse().expect("an address"))
    }

    #[test]
    fn every_network_is_known_at_both_of_its_ends() {
        for address in ["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(of(address), Network::Loopback, "{address}");
        }
        for address in [
            "10.0.0.0",
            "10.255.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.168.0.0",
            "192.168.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "fc00::1",
            "fdff::1",
            "::ffff:10.1.2.3",
            "64:ff9b::10.1.2.3",
            "2002:0a01:0203::1",
        ] {
            assert_eq!(of(address), Network::Private, "{address}");
        }
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "223.255.255.255",
            "2001:db8::1",
            "2606:4700::1",
            "3fff::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
        ] {
            assert_eq!(of(address), Network::Public, "{address}");
        }
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.0.0",
            "169.254.169.254",
            "169.254.255.255",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "192.0.0.192",
            "::",
            "::2",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "::127.0.0.1",
            "4000::1",
            "100::1",
        ] {
            assert!(matches!(of(address), Network::Never(_)), "{address}");
        }
    }

    #[test]
    fn a_rule_lets_only_its_networks_pass() {
        let judged = |address: &str| {
            let address = address.parse().expect("an address");
            [AddressRule::Public, AddressRule::Private, AddressRule::Any].map(|rule| rule.judge(address).is_ok())
        };
        assert_eq!(judged("1.1.1.1"), [true, false, true]);
        assert_eq!(judged("10.0.0.1"), [false, true, true]);
        assert_eq!(judged("::1"), [false, true, true]);
        assert_eq!(judged("169.254.169.254"), [false, false, false]);
        let said = |rule: AddressRule, address: &str| {
            rule.judge(address.parse().expect("an address")).expect_err(address).to_string()
        };
        assert_eq!(
            said(AddressRule::Public, "10.0.0.1"),
            "10.0.0.1 is private, and the rule allows public addresses only"
        );
        assert_eq!(
            said(AddressRule::Any, "169.254.169.254"),
            "169.254.169.254 is link-local, where clouds keep their metadata service, which is never dialled"
        );
    }
}
