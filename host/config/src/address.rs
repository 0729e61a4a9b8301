//! IP addresses that a plugin may be connected to: the public ones, and networks that are listed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks of IPv4 that are not the public internet: private, shared (CGNAT), loopback, link-local with the metadata
/// services of clouds, documentation, benchmarks, relays, multicast, reserved.
const V4_CLOSED: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Of IPv6 only `2000::/3` is given out for the internet, so everything else is closed: loopback, unique-local,
/// link-local, multicast, and the forms that carry an IPv4 address (mapped, compatible, NAT64). Inside of it these are:
/// IETF assignments with Teredo, documentation, 6to4, documentation again.
const V6_OPEN: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const V6_CLOSED: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether an address belongs to the public internet. What is not certain is not.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !V4_CLOSED.iter().any(|(base, bits)| same_v4(*base, address, *bits)),
        IpAddr::V6(address) => {
            same_v6(V6_OPEN.0, address, V6_OPEN.1)
                && !V6_CLOSED.iter().any(|(base, bits)| same_v6(*base, address, *bits))
        }
    }
}

fn same_v4(one: Ipv4Addr, two: Ipv4Addr, bits: u8) -> bool {
    let differing = one.to_bits() ^ two.to_bits();
    differing.leading_zeros() >= u32::from(bits)
}

fn same_v6(one: Ipv6Addr, two: Ipv6Addr, bits: u8) -> bool {
    let differing = one.to_bits() ^ two.to_bits();
    differing.leading_zeros() >= u32::from(bits)
}

/// A network (`10.1.0.0/16`) or one address of `allow.private-networks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `ADDRESS` or `ADDRESS/BITS`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let base = address.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let base = base.map_err(|_| "is no IP address or network".to_owned())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|bits| *bits <= most)
                .ok_or_else(|| format!("has a length that is no number from 0 to {most}"))?,
        };
        let network = Self { base, bits };
        let begin = network.begin();
        if begin != base {
            return Err(format!("has bits beyond its length; the network is {begin}/{bits}"));
        }
        Ok(network)
    }

    fn begin(&self) -> IpAddr {
        match self.base {
            IpAddr::V4(base) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(base.to_bits() & mask))
            }
            IpAddr::V6(base) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(base.to_bits() & mask))
            }
        }
    }

    /// Whether the address lies in it. An IPv4 address in the form `::ffff:a.b.c.d` lies where `a.b.c.d` does.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => same_v4(base, address, self.bits),
            (IpAddr::V6(base), IpAddr::V6(address)) => same_v6(base, address, self.bits),
            (IpAddr::V4(base), IpAddr::V6(address)) => {
                address.to_ipv4_mapped().is_some_and(|address| same_v4(base, address, self.bits))
            }
            (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.base, self.bits) {
            (IpAddr::V4(base), 32) => base.fmt(f),
            (IpAddr::V6(base), 128) => base.fmt(f),
            (base, bits) => write!(f, "{base}/{bits}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_public() {
        for public in
            ["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "2606:4700::1"]
        {
            assert!(is_public(public.parse().expect(public)), "{public}");
        }
        for closed in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::7f00:1",
            "::8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
        ] {
            assert!(!is_public(closed.parse().expect(closed)), "{closed}");
        }
    }

    #[test]
    fn networks() {
        let network = |text: &str| Network::parse(text).expect(text);
        let has = |text: &str, address: &str| network(text).contains(address.parse().expect(address));
        assert!(has("10.1.0.0/16", "10.1.255.255") && !has("10.1.0.0/16", "10.2.0.0"));
        assert!(has("127.0.0.1", "127.0.0.1") && !has("127.0.0.1", "127.0.0.2"));
        assert!(has("127.0.0.1", "::ffff:127.0.0.1"), "the same host in another form");
        assert!(has("fd00::/8", "fd12::1") && !has("fd00::/8", "fc12::1") && !has("::/0", "10.0.0.1"));
        assert!(has("0.0.0.0/0", "10.0.0.1"));
        for (bad, wanted) in [
            ("10.1", "no IP address"),
            ("10.1.0.0/33", "0 to 32"),
            ("10.1.0.1/16", "is 10.1.0.0/16"),
            ("localhost", "no IP address"),
        ] {
            let error = Network::parse(bad).expect_err(bad);
            assert!(error.contains(wanted), "{bad}: {error}");
        }
        assert_eq!(network("fd00::/8").to_string() + &network("::1").to_string(), "fd00::/8::1");
    }
}
