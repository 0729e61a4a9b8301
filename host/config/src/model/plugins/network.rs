//! The policy of IP addresses that a plugin may be connected to: public ones, and networks that are granted.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(a: u16, b: u16, bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), bits)
}

/// Networks of IPv4 that are not the public internet: private, shared (CGNAT), loopback, link-local with the metadata
/// services of clouds, documentation, benchmarks, relays, multicast, reserved.
const V4_CLOSED: [Ipv4Net; 15] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];

/// Only `2000::/3` of IPv6 is given out for the internet. Everything else is closed: loopback, unique-local, link-local,
/// multicast, and the forms that carry an IPv4 address (mapped, compatible, NAT64).
const V6_OPEN: Ipv6Net = v6(0x2000, 0, 3);

/// Closed networks inside of [`V6_OPEN`]: IETF assignments with Teredo, documentation, 6to4, documentation again.
const V6_CLOSED: [Ipv6Net; 4] = [v6(0x2001, 0, 23), v6(0x2001, 0xdb8, 32), v6(0x2002, 0, 16), v6(0x3fff, 0, 20)];

/// Whether an address belongs to the public internet. An uncertain address does not.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !V4_CLOSED.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            V6_OPEN.contains(&address) && !V6_CLOSED.iter().any(|network| network.contains(&address))
        }
    }
}

/// A network (`10.1.0.0/16`) or one address of `allow.private-networks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Reads `ADDRESS` or `ADDRESS/BITS`.
    ///
    /// # Errors
    /// The problem, as the end of a sentence that begins with the text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let base = address.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let base =
            base.map_err(|_| "is not an IP address or a network; write \"10.1.0.0/16\" or \"127.0.0.1\"".to_owned())?;
        let single = IpNet::from(base);
        let Some(bits) = bits else { return Ok(Self(single)) };
        let most = single.max_prefix_len();
        let network = bits.parse().ok().and_then(|bits| IpNet::new(base, bits).ok());
        let network = network.ok_or_else(|| {
            format!(
                "has an invalid prefix length; write a number from 0 to {most} after the slash, as in \"10.1.0.0/16\""
            )
        })?;
        if network.trunc() != network {
            return Err(format!("has address bits after the prefix; write {}", network.trunc()));
        }
        Ok(Self(network))
    }

    /// Whether the network contains an address. An IPv4 address in the form `::ffff:a.b.c.d` counts as `a.b.c.d`.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.0, address) {
            (IpNet::V4(network), IpAddr::V4(address)) => network.contains(&address),
            (IpNet::V6(network), IpAddr::V6(address)) => network.contains(&address),
            (IpNet::V4(network), IpAddr::V6(address)) => {
                address.to_ipv4_mapped().is_some_and(|address| network.contains(&address))
            }
            (IpNet::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl fmt::Display for Network {
    /// A single address is written without its length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
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
            ("10.1", "not an IP address"),
            ("10.1.0.0/33", "0 to 32"),
            ("10.1.0.1/16", "write 10.1.0.0/16"),
            ("localhost", "not an IP address"),
        ] {
            let error = Network::parse(bad).expect_err(bad);
            assert!(error.contains(wanted), "{bad}: {error}");
        }
        assert_eq!(network("fd00::/8").to_string() + &network("::1").to_string(), "fd00::/8::1");
    }
}
