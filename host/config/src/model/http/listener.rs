//! The HTTP listener.

use std::net::SocketAddr;

use crate::model::plugins::origin::OriginHost;
use crate::model::routes::flow::DedupeWindow;
use crate::model::secret::Secret;

/// Prefix of the names of the daemon's own exchanges and queues.
const OURS: &str = "trunkline.";

/// Whether a name belongs to an exchange or a queue of the daemon.
#[must_use]
pub fn is_own_name(name: &str) -> bool {
    name.starts_with(OURS)
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Address.
    pub listen: SocketAddr,
    /// Names and addresses that a request may be addressed to and that a web page may come from, beside those of this machine.
    pub hosts: Vec<OriginHost>,
    /// Bearer tokens. Without any, every client that reaches the listener may publish.
    pub tokens: Vec<Secret>,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// The dedupe window of accepted events.
    pub dedupe: DedupeWindow,
    /// Whether clients may use the nameless exchange and the daemon's own exchanges.
    pub reserved: bool,
}

impl Http {
    /// Whether only this machine reaches the listener.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    /// The reason why clients may not use an exchange; `None` when they may.
    #[must_use]
    pub fn refuses(&self, exchange: &str) -> Option<String> {
        let why = match exchange {
            _ if self.reserved => return None,
            "" => {
                "the nameless exchange reaches every queue by the queue's name, including queues that are not for clients"
            }
            ours if is_own_name(ours) => "names that begin with `trunkline.` belong to exchanges of the daemon",
            _ => return None,
        };
        Some(format!("`exchange` is {exchange:?}: {why}; write `reserved = true` in [http] to allow this exchange"))
    }

    /// The reason why clients may not name a queue for replies; `None` when they may. A reply goes to the nameless exchange.
    #[must_use]
    pub fn refuses_reply_to(&self, queue: &str) -> Option<String> {
        if self.reserved {
            return None;
        }
        Some(format!(
            "`reply_to` is {queue:?}: a reply reaches every queue by the queue's name, including queues that are not for \
             clients; write `reserved = true` in [http] to allow `reply_to`"
        ))
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
        assert!(http.refuses_reply_to("answers").is_some_and(|why| why.contains("`reserved = true` in [http]")));
        http.reserved = true;
        assert_eq!(http.refuses_reply_to("answers"), None);
        assert_eq!((http.refuses(""), http.refuses("trunkline.delay.05")), (None, None));
    }
}
