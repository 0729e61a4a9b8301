//! Routes and queues for hostile messages, apart from the routes of the load, whose events must not be lost.

use crate::schedule::BrokerKind;

/// For messages with broken or foreign headers, or with bodies that are too large.
pub const HOSTILE: &str = "hostile";
/// For events that emit to the keys that their body lists.
pub const BOTH: &str = "both";
/// For events whose plugin takes as many milliseconds as the body says.
pub const SLOW: &str = "slow";
/// For events whose plugin emits more than the limit.
pub const BIG: &str = "big";
/// For events that end in a dead-letter queue whose messages are fetched and returned.
pub const LOOKED: &str = "looked";
/// The key of a queue with almost no room.
pub const FULL: &str = "full";
/// The key of a queue with room.
pub const FREE: &str = "free";
/// The key of the queue for all other emissions.
pub const SIDE: &str = "side";
/// The first word of keys that the daemon may not publish to at times.
pub const FORBIDDEN: &str = "forbidden";

/// The queue of the emissions of these routes.
pub const SIDE_QUEUE: &str = "chaos-side";
/// The queue of the key [`FREE`].
pub const FREE_QUEUE: &str = "chaos-free";
/// A queue without a binding. A message in it was addressed by the queue's name.
pub const TRAP_QUEUE: &str = "chaos-trap";
/// Dead letters of the route `hostile`.
pub const HOSTILE_DEAD: &str = "chaos-hostile.dlq";
/// Dead letters of the route `both`.
pub const BOTH_DEAD: &str = "chaos-both.dlq";
/// Dead letters of the route `big`.
pub const BIG_DEAD: &str = "chaos-big.dlq";
/// Dead letters of the route `looked`, fetched and returned before they are taken.
pub const LOOKED_DEAD: &str = "chaos-looked.dlq";
/// The queues that sinks consume on RabbitMQ. Dead letters of `narrow` and `slow` are not consumed.
pub const QUEUES: [&str; 8] =
    [SIDE_QUEUE, FREE_QUEUE, TRAP_QUEUE, HOSTILE_DEAD, BOTH_DEAD, BIG_DEAD, "chaos-narrow.dlq", "chaos-slow.dlq"];
/// Queues of routes, which have to be empty at the end.
pub const INPUTS: [&str; 6] = ["chaos-hostile", "chaos-both", "chaos-slow", "chaos-big", "chaos-looked", "chaos-full"];

/// The `max-body` of the routes for hostile events, in bytes.
pub const BODY_MAX_BYTES: usize = 64 << 10;
/// `max_message_size` of the node.
pub const MESSAGE_MAX_BYTES: usize = 200_000;
/// `[http] max-body`, which is the default.
pub const HTTP_MAX_BYTES: usize = 1 << 20;

/// The part of routes.toml for these routes.
#[must_use]
pub fn routes(broker: BrokerKind) -> String {
    // On RabbitMQ the node refuses a large emission, and on the embedded broker the limit of the plugin's output does.
    let output = if broker == BrokerKind::Amqp { "32MiB" } else { "8MiB" };
    format!(
        r#"
[plugins.sleeper]
limits = {{ timeout = "30s" }}

[plugins.bigmouth]
limits = {{ output = "{output}", timeout = "20s" }}

[queues.{SIDE_QUEUE}]
owned = true
bind = ["{SIDE}", "{FORBIDDEN}.#"]

[queues.{FREE_QUEUE}]
owned = true
bind = "{FREE}"

[queues.{TRAP_QUEUE}]
owned = true
bind = "chaos.never"

[queues.chaos-full]
type = "classic"
max-length = 2
overflow = "reject-publish"
prefetch = 1
bind = "{FULL}"

[queues.chaos-hostile]
bind = ["{HOSTILE}", "{HOSTILE}.#"]

[routes.chaos-hostile]
queue = "chaos-hostile"
plugin = "picky"
max-body = "64KiB"
emit = {{ key = "{SIDE}" }}
retry = {{ max = 1, delay = "100ms" }}

[routes.chaos-both]
from = "{BOTH}"
plugin = "addresser"

[routes.chaos-narrow]
queue = "chaos-full"
plugin = "picky"
rate = "4/s"
emit = {{ key = "{SIDE}" }}

[routes.chaos-slow]
from = "{SLOW}"
plugin = "sleeper"
emit = {{ key = "{SIDE}" }}

[routes.chaos-big]
from = "{BIG}"
plugin = "bigmouth"
concurrency = 1
emit = {{ key = "{SIDE}" }}
retry = {{ max = 2, delay = "100ms" }}

[routes.chaos-looked]
from = "{LOOKED}"
plugin = "picky"
retry = {{ max = 0 }}
"#
    )
}

#[cfg(test)]
mod tests {
    use crate::embedded;
    use crate::schedule::BrokerKind;

    #[test]
    fn the_daemon_would_take_the_routes() {
        for broker in [BrokerKind::Amqp, BrokerKind::Embedded] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("routes.toml");
            std::fs::write(&file, crate::plan::routes(broker, trunkline_support::guests())).unwrap();
            embedded::config(&file, dir.path(), "embedded").unwrap();
        }
    }
}
