//! Names of the daemon's own headers. None begins with `x-`, because RabbitMQ from 4.0 on ignores or rewrites such headers.

use trunkline_event::Headers;

/// The route that published the message or gave the event up.
pub const ROUTE: &str = "trunkline-route";
/// The plugin that ran.
pub const PLUGIN: &str = "trunkline-plugin";
/// SHA-256 of the plugin's file, in hexadecimal.
pub const PLUGIN_DIGEST: &str = "trunkline-plugin-digest";
/// Attempts that have begun, with the next attempt of this message. The daemon counts, never `x-death`.
pub const ATTEMPT: &str = "trunkline-attempt";
/// Id of the event that an emission follows from.
pub const CAUSE: &str = "trunkline-cause";
/// Position of an emission among its siblings, from 0.
pub const INDEX: &str = "trunkline-index";
/// Hops from the first event of the chain to this event.
pub const HOPS: &str = "trunkline-hops";
/// Tenant of the event.
pub const TENANT: &str = "trunkline-tenant";
/// User of the event.
pub const USER: &str = "trunkline-user";
/// Subject of the event, where the codec has no place for the subject.
pub const SUBJECT: &str = "trunkline-subject";
/// Reason of a dead letter: a word of `Reason`.
pub const REASON: &str = "trunkline-reason";
/// The error text of the last attempt.
pub const ERROR: &str = "trunkline-error";
/// Time of the first attempt, RFC 3339.
pub const FIRST_SEEN: &str = "trunkline-first-seen";
/// Exchange that the event was first published to.
pub const SOURCE_EXCHANGE: &str = "trunkline-source-exchange";
/// Routing key that the event was first published with.
pub const SOURCE_KEY: &str = "trunkline-source-key";
/// The last lines of the plugin's log, in a dead letter.
pub const LOG: &str = "trunkline-log";
/// On a route with `order-by`: earliest time of the next attempt, in milliseconds since the Unix epoch.
pub const DUE: &str = "trunkline-due";
/// In a waiting-list entry: the ordering key of the event. The message id is the id of the event.
pub const WAITING_KEY: &str = "trunkline-waiting-key";
/// In a waiting-list entry: the place of the event among the events of its key. A lower place is earlier.
pub const WAITING_PLACE: &str = "trunkline-waiting-place";
/// In a waiting-list entry: time for which each copy of the event is held before it comes back, in milliseconds.
pub const WAITING_ROUND: &str = "trunkline-waiting-round";
/// Token of a marker, which shows how far a queue was read. A marker is not an event; the daemon that published the marker
/// knows the token.
pub const WAITING_MARKER: &str = "trunkline-waiting-mark";
/// On a route with a rate for each tenant: time of the event's turn, in milliseconds since the Unix epoch.
pub const TURN: &str = "trunkline-turn";
/// Time at which the message's own TTL ends, in milliseconds since the Unix epoch. A copy has no TTL for the broker, because the TTL
/// would end the copy in a queue that does not dead-letter.
pub const EXPIRES: &str = "trunkline-expires";
/// Time at which the event was dead-lettered, RFC 3339 in milliseconds. A message with this header is a dead letter.
pub const DEAD_AT: &str = "trunkline-dead-at";
/// Number of redrives. A message with this header is a redriven event, or a later attempt of a redriven event.
pub const REDRIVEN: &str = "trunkline-redriven";
/// False when the daemon made the id, because the message came without an id.
pub const OWN_ID: &str = "trunkline-own-id";
/// Size of the body before a dead letter's body was cut, in bytes. The broker did not take the whole body.
pub const BODY_BYTES: &str = "trunkline-body-bytes";
/// Number of headers that were left out of a copy, because they did not fit beside the daemon's own headers.
pub const LEFT_OUT: &str = "trunkline-left-out";
/// Prefix under which a copy keeps a header that the broker would obey, or a property that is not a text.
pub const KEPT: &str = trunkline_event::KEPT_PREFIX;
/// The queue in which the broker itself gave a message up.
const FIRST_DEATH_QUEUE: &str = "x-first-death-queue";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// Whether RabbitMQ would obey a header: route the message to further queues (`CC`, `BCC`, in any case), delay it, or count.
#[must_use]
pub fn means_something_to_the_broker(name: &str) -> bool {
    name.eq_ignore_ascii_case("cc")
        || name.eq_ignore_ascii_case("bcc")
        || name.get(..2).is_some_and(|x| x.eq_ignore_ascii_case("x-"))
}

/// Whether a message is a dead letter. Dead letters of versions without [`DEAD_AT`] have the reason alone.
#[must_use]
pub fn is_dead_letter(headers: &Headers) -> bool {
    headers.get(DEAD_AT).is_some() || headers.get(REASON).is_some() && headers.get(REDRIVEN).is_none()
}

/// Whether a message is a redriven dead letter, or a later attempt of a redriven event.
#[must_use]
pub fn is_redriven(headers: &Headers) -> bool {
    is_dead_letter(headers) || headers.get(REDRIVEN).is_some()
}

/// Number of redrives of a message, with this one.
#[must_use]
pub fn times_redriven(headers: &Headers) -> i64 {
    let before = headers.int(REDRIVEN).unwrap_or_default().max(0);
    before.saturating_add(i64::from(is_dead_letter(headers)))
}

/// Whether a message is a dead letter of a route that came back into the route's queue. The broker itself dead-letters a message that
/// expires, exceeds a length or exceeds the delivery limit, and names the queue. Copies have no such headers of the broker.
#[must_use]
pub fn came_back(headers: &Headers, route: &str, queue: &str) -> bool {
    let is_dead = is_dead_letter(headers) && headers.text(ROUTE) == Some(route);
    is_dead || headers.text(FIRST_DEATH_QUEUE) == Some(queue)
}

/// The number of the attempt that a route begins with a message, from 1. Attempts of another route and attempts before a
/// redrive do not count.
#[must_use]
pub fn attempt(headers: &Headers, route: &str, queue: &str) -> u32 {
    let is_own = headers.text(ROUTE) == Some(route) && !came_back(headers, route, queue);
    let counted = headers.int(ATTEMPT).and_then(|attempt| u32::try_from(attempt).ok());
    counted.filter(|_| is_own).unwrap_or(1).max(1)
}

/// Longest name of an attribute.
const ATTRIBUTE_NAME_MAX_BYTES: usize = 64;

/// Whether an attribute that a plugin or a client names may become a header. `CC` and `BCC` would make RabbitMQ route the
/// message to further keys.
#[must_use]
pub fn is_attribute_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    !name.is_empty()
        && !means_something_to_the_broker(name)
        && name.len() <= ATTRIBUTE_NAME_MAX_BYTES
        && name.bytes().all(fits)
        && !name.starts_with("x-")
        && !name.starts_with("trunkline-")
        && name != TRACEPARENT
}

#[cfg(test)]
mod tests {
    use super::*;

    /// N5: attempts begin anew after every kind of death.
    #[test]
    fn attempts_begin_anew_when_a_dead_letter_comes_back() {
        /// Headers, with the attempt and whether the message came back.
        type DeathCase<'a> = (&'a [(&'a str, &'a str)], (u32, bool));
        let attempt_of = |more: &[(&str, &str)]| {
            let mut headers = Headers::default();
            headers.set(ROUTE, "r");
            headers.set(ATTEMPT, 6_u32);
            for (name, value) in more {
                headers.set((*name).to_owned(), *value);
            }
            (attempt(&headers, "r", "q"), came_back(&headers, "r", "q"))
        };
        let table: [DeathCase<'_>; 8] = [
            (&[], (6, false)),
            (&[(DEAD_AT, "2026-11-28T00:00:00Z"), (REASON, "trap")], (1, true)),
            (&[(REASON, "trap")], (1, true)),
            (&[(FIRST_DEATH_QUEUE, "q")], (1, true)),
            (&[(FIRST_DEATH_QUEUE, "q.retry.1000")], (6, false)),
            (&[(REASON, "trap"), (REDRIVEN, "1")], (6, false)),
            (&[(ROUTE, "another")], (1, false)),
            (&[(ROUTE, "another"), (DEAD_AT, "2026-11-28T00:00:00Z")], (1, false)),
        ];
        for (more, expected) in table {
            assert_eq!(attempt_of(more), expected, "{more:?}");
        }
    }
}
