//! Our headers, none with an `x-` prefix: brokers from 4.0 on ignore or rewrite those.

use trunkline_event::Headers;

/// The route that published or gave up.
pub const ROUTE: &str = "trunkline-route";
/// The plugin that ran.
pub const PLUGIN: &str = "trunkline-plugin";
/// sha-256 of its file.
pub const PLUGIN_DIGEST: &str = "trunkline-plugin-digest";
/// Attempts begun, this message's next one included; counted by us, never by `x-death`.
pub const ATTEMPT: &str = "trunkline-attempt";
/// Id of the event that an emission follows from.
pub const CAUSE: &str = "trunkline-cause";
/// Position of an emission among its siblings, from 0.
pub const INDEX: &str = "trunkline-index";
/// Emissions between the root event and this one.
pub const HOPS: &str = "trunkline-hops";
/// Organisation.
pub const TENANT: &str = "trunkline-tenant";
/// User.
pub const USER: &str = "trunkline-user";
/// What the event is about, where the codec has no place for it.
pub const SUBJECT: &str = "trunkline-subject";
/// Why it is dead: a word of `Reason`.
pub const REASON: &str = "trunkline-reason";
/// The error text of the last attempt.
pub const ERROR: &str = "trunkline-error";
/// When the first attempt began, RFC 3339.
pub const FIRST_SEEN: &str = "trunkline-first-seen";
/// The exchange it first came from.
pub const SOURCE_EXCHANGE: &str = "trunkline-source-exchange";
/// The key it first came with.
pub const SOURCE_KEY: &str = "trunkline-source-key";
/// The last lines of the plugin's log, in a dead letter.
pub const LOG: &str = "trunkline-log";
/// On a route with `order-by`: not to be tried before, in milliseconds since the Unix epoch.
pub const DUE: &str = "trunkline-due";
/// In an entry of the list of events that wait: the key of the event, whose id is the message's.
pub const WAITING_KEY: &str = "trunkline-waiting-key";
/// In such an entry: the event's place among those of its key. A lower one is earlier.
pub const WAITING_PLACE: &str = "trunkline-waiting-place";
/// In such an entry: for how long each copy of the event is held before it comes back, in milliseconds.
pub const WAITING_ROUND: &str = "trunkline-waiting-round";
/// Marks how far a queue was read. The message is no event; the value is known to the daemon that published it.
pub const WAITING_MARK: &str = "trunkline-waiting-mark";
/// On a route that limits each tenant: when the event's turn comes, in milliseconds since the Unix epoch.
pub const TURN: &str = "trunkline-turn";
/// When it was given up, RFC 3339 in milliseconds. A message that has it is a dead letter.
pub const DEAD_AT: &str = "trunkline-dead-at";
/// How often it came back out of a dead-letter queue. A message that has it is one that was put back, or a later attempt of it.
pub const REDRIVEN: &str = "trunkline-redriven";
/// False when the id is the daemon's, because the message came without one.
pub const OWN_ID: &str = "trunkline-own-id";
/// Bytes of the body that a dead letter had before it was cut, because the broker took no more.
pub const BODY_BYTES: &str = "trunkline-body-bytes";
/// Headers of others that were left out of a copy, because they did not fit beside the daemon's.
pub const LEFT_OUT: &str = "trunkline-left-out";
/// In front of the name of a header that means something to the broker, or of a property that is no text: a copy keeps its
/// value under this name.
pub const KEPT: &str = trunkline_event::KEPT_PREFIX;
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// Whether a header of somebody else's would make RabbitMQ do something with the message: route it to further queues (`CC`,
/// `BCC`, in any case), hold it back, or count.
#[must_use]
pub fn means_something_to_the_broker(name: &str) -> bool {
    name.eq_ignore_ascii_case("cc")
        || name.eq_ignore_ascii_case("bcc")
        || name.get(..2).is_some_and(|x| x.eq_ignore_ascii_case("x-"))
}

/// Whether a message is a dead letter, as it lies in its queue. Those of versions without [`DEAD_AT`] have the reason alone.
#[must_use]
pub fn is_dead_letter(headers: &Headers) -> bool {
    headers.get(DEAD_AT).is_some() || headers.get(REASON).is_some() && headers.get(REDRIVEN).is_none()
}

/// Whether a message was put back out of a dead-letter queue: the letter itself, or a later attempt of it.
#[must_use]
pub fn is_redriven(headers: &Headers) -> bool {
    is_dead_letter(headers) || headers.get(REDRIVEN).is_some()
}

/// How often a message came back out of a dead-letter queue, this time included.
#[must_use]
pub fn times_redriven(headers: &Headers) -> i64 {
    let before = headers.int(REDRIVEN).unwrap_or_default().max(0);
    before.saturating_add(i64::from(is_dead_letter(headers)))
}

/// The attempt of a route that begins with a message. Attempts of another route, and those that a dead letter had before
/// somebody put it back, are not this one's.
#[must_use]
pub fn attempt(headers: &Headers, route: &str) -> u32 {
    let is_own = headers.text(ROUTE) == Some(route) && !is_dead_letter(headers);
    let counted = headers.int(ATTEMPT).and_then(|attempt| u32::try_from(attempt).ok());
    counted.filter(|_| is_own).unwrap_or(1).max(1)
}

/// Names of attributes are at most this long.
const ATTRIBUTE_NAME_MAX_BYTES: usize = 64;

/// Whether a header may have this name that somebody else chose: what stands in the interface. Above all, `CC` and `BCC`
/// would make RabbitMQ route to further keys.
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
