//! Routes and queues beside those of the load: what is hostile goes in here, so that it can be told apart from events
//! that must come through.

use crate::schedule::BrokerKind;

/// Broken headers, foreign headers, bodies that are too large.
pub const HOSTILE: &str = "hostile";
/// Events that emit to the keys that their body lists.
pub const BOTH: &str = "both";
/// Events whose plugin takes as many milliseconds as the body says.
pub const SLOW: &str = "slow";
/// Events whose plugin emits more than fits.
pub const BIG: &str = "big";
/// Events that end in a dead-letter queue that is looked at again and again.
pub const LOOKED: &str = "looked";
/// Goes to a queue with hardly any room.
pub const FULL: &str = "full";
/// Goes to a queue with room.
pub const FREE: &str = "free";
/// Goes to the queue of what comes out otherwise.
pub const SIDE: &str = "side";
/// The first word of keys that the daemon may not publish to at times.
pub const FORBIDDEN: &str = "forbidden";

/// Emissions of the other routes.
pub const SIDE_QUEUE: &str = "chaos-side";
/// What went to [`FREE`].
pub const FREE_QUEUE: &str = "chaos-free";
/// Bound to nothing: what is in it came by its name.
pub const TRAP_QUEUE: &str = "chaos-trap";
/// Dead letters by route.
pub const HOSTILE_DEAD: &str = "chaos-hostile.dlq";
/// Likewise.
pub const BOTH_DEAD: &str = "chaos-both.dlq";
/// Likewise.
pub const BIG_DEAD: &str = "chaos-big.dlq";
/// Likewise; looked at before it is taken from.
pub const LOOKED_DEAD: &str = "chaos-looked.dlq";
/// What is taken from all the time, on RabbitMQ. Dead letters of `narrow` and `slow` are nobody's.
pub const QUEUES: [&str; 8] =
    [SIDE_QUEUE, FREE_QUEUE, TRAP_QUEUE, HOSTILE_DEAD, BOTH_DEAD, BIG_DEAD, "chaos-narrow.dlq", "chaos-slow.dlq"];
/// Queues of routes, which have to be empty in the end.
pub const INPUTS: [&str; 6] = ["chaos-hostile", "chaos-both", "chaos-slow", "chaos-big", "chaos-looked", "chaos-full"];

/// What a route of hostile events takes at most, in bytes.
pub const BODY_MAX_BYTES: usize = 64 << 10;
/// `max_message_size` of the node.
pub const MESSAGE_MAX_BYTES: usize = 200_000;
/// `[http] max-body`, which is the default.
pub const HTTP_MAX_BYTES: usize = 1 << 20;

/// Their part of routes.toml.
#[must_use]
pub fn routes(broker: BrokerKind) -> String {
    // On RabbitMQ it is the node that refuses what is too large, on the embedded broker the limit of the plugin's output.
    let output = if broker == BrokerKind::Amqp { "32MiB" } else { "8MiB" };
    format!(
        r#"
[plugins.sleeper]
limits = {{ timeout = "30s" }}

[plugins.bigmouth]
limits = {{ output = "{output}", timeout = "20s" }}

[queues.{SIDE_QUEUE}]
bind = ["{SIDE}", "{FORBIDDEN}.#"]

[queues.{FREE_QUEUE}]
bind = "{FREE}"

[queues.{TRAP_QUEUE}]
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
