//! The checked form of `[http]`.

use std::net::SocketAddr;

use super::checked::Token;
use super::checked_routes::DedupeWindow;
use super::grants::Host;

/// Exchanges and queues that the daemon makes for itself have names that begin with it.
const OURS: &str = "trunkline.";

/// The HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Address.
    pub listen: SocketAddr,
    /// Names and addresses, beside those of this machine, that a request may be addressed to and a web page may come from.
    pub hosts: Vec<Host>,
    /// Bearer tokens; without any, everybody who reaches the listener may publish.
    pub tokens: Vec<Token>,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// How long the id of an accepted event is remembered.
    pub dedupe: DedupeWindow,
    /// Whether clients may use the nameless exchange and exchanges of the daemon's own.
    pub reserved: bool,
}

impl Http {
    /// Whether only this machine reaches the listener.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    /// Why clients may not use an exchange, and what lets them; none when they may.
    #[must_use]
    pub fn refuses(&self, exchange: &str) -> Option<String> {
        let why = match exchange {
            _ if self.reserved => return None,
            "" => "the nameless exchange reaches every queue by its name, also those that are not meant for clients",
            ours if ours.starts_with(OURS) => "exchanges whose names begin with `trunkline.` are the daemon's own",
            _ => return None,
        };
        Some(format!("`exchange` is {exchange:?}: {why}; write `reserved = true` in [http] to let clients use it"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn reserved_exchanges() {
        let window = DedupeWindow { window: Duration::from_secs(1), max: 1 };
        let listen = SocketAddr::from(([127, 0, 0, 1], 8000));
        let (hosts, tokens) = (Vec::new(), Vec::new());
        let mut http = Http { listen, hosts, tokens, max_body_bytes: 1, dedupe: window, reserved: false };
        assert!(http.is_local());
        for exchange in ["", "trunkline.", "trunkline.delay.05", "trunkline.delay.due"] {
            let why = http.refuses(exchange).expect(exchange);
            assert!(why.contains("`reserved = true` in [http]"), "{why}");
        }
        for exchange in ["events", "trunkline", "trunkline-events", "my.trunkline.events", "Trunkline.delay.05"] {
            assert_eq!(http.refuses(exchange), None, "{exchange}");
        }
        http.reserved = true;
        assert_eq!((http.refuses(""), http.refuses("trunkline.delay.05")), (None, None));
    }
}
