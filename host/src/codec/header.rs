//! Our headers, none with an `x-` prefix: brokers from 4.0 on ignore or rewrite those.

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
/// On a route that limits each tenant: when the event's turn comes, in milliseconds since the Unix epoch.
pub const TURN: &str = "trunkline-turn";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// Names of attributes are at most this long.
const ATTRIBUTE_NAME_MAX_BYTES: usize = 64;

/// Whether a header may have this name that somebody else chose: what stands in the interface. Above all, `CC` and `BCC`
/// would make RabbitMQ route to further keys.
#[must_use]
pub fn is_attribute_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    !name.is_empty()
        && name.len() <= ATTRIBUTE_NAME_MAX_BYTES
        && name.bytes().all(fits)
        && !name.starts_with("x-")
        && !name.starts_with("trunkline-")
        && name != TRACEPARENT
}
