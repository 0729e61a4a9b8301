//! `[routes.NAME]`, with `emit`, `retry` and `schema`.

use std::time::Duration;

use crate::keys::key::{Boolean, Forms, Inner, Key, Number, Range, Size, TextValue, Texts, TimeSpan, Word};
use crate::keys::routes::archive::ARCHIVE;
use crate::keys::routes::flow::{CIRCUIT, DEDUPE, ORDER_BY, RATE, TENANT};
use crate::keys::routes::rollout::{CANARY, SHADOW};
use crate::keys::section::{Listed, Section};
use crate::model::routes::route::Unroutable;

pub(crate) static EMIT_TABLE: Key<Inner> =
    Key::table("emit", &EMIT, "The target of emissions, and the rules for emissions.");
pub(crate) static RETRY_TABLE: Key<Inner> =
    Key::table("retry", &RETRY, "The number of retries of a failed event, and the delays before the retries.");

/// A batch of an archive has at most this number of events.
pub(crate) const ARCHIVE_CONCURRENCY: u16 = 256;

pub(crate) static CONCURRENCY: Key<Range<u16>> = Key::integer(
    "concurrency",
    1,
    1024,
    "The largest number of calls of the plugin that run at the same time. An event whose emissions wait for their confirms does not count. The environment variable `WORKER_POOL_SIZE` sets the default.",
)
.or(16)
.note("256 for a route with `archive`");

pub(crate) static MAX_HOPS: Key<Range<u32>> = Key::integer(
    "max-hops",
    1,
    1000,
    "The largest number of hops in a chain of events. An event with more hops is dead-lettered with the reason `loop`.",
)
.or(16);

/// RabbitMQ accepts messages up to 128 MiB.
pub(crate) const MAX_BODY_MAX: u64 = 128 * 1024 * 1024;

pub(crate) static MAX_BODY: Key<Size> = Key::size(
    "max-body",
    1,
    MAX_BODY_MAX,
    "The largest body that the plugin receives. A message with a larger body is dead-lettered with the reason `too-large`.",
)
.or(1024 * 1024);

/// The keys that `[defaults]` accepts too.
pub(crate) static SHARED: &[&dyn Listed] =
    &[&EMIT_TABLE, &RETRY_TABLE, &CONCURRENCY, &MAX_HOPS, &MAX_BODY, &DEDUPE, &ORDER_BY, &RATE, &TENANT, &CIRCUIT];

pub(crate) static RESERVED: &[&str] = &["when"];

pub(crate) static FROM: Key<Texts> = Key::texts(
    "from",
    "a routing key or, on a topic exchange, a topic pattern",
    "The routing keys for the route's own queue. This queue has the name of the route. The daemon binds the queue to the default exchange with these keys. A route needs exactly one of `from` and `queue`.",
);

pub(crate) static QUEUE: Key<TextValue> = Key::text(
    "queue",
    "the name of a queue in `[queues]`",
    "The queue that the route consumes. A route needs exactly one of `from` and `queue`.",
);

pub(crate) static PLUGIN: Key<TextValue> = Key::text(
    "plugin",
    "the name of a plugin",
    "The plugin that handles the events. A route needs exactly one of `plugin` and `archive`.",
);

pub(crate) static ARCHIVE_TABLE: Key<Inner> = Key::table(
    "archive",
    &ARCHIVE,
    "The archive in which the route keeps the events. A route with `archive` runs no plugin. A route with `archive` cannot have `plugin`, `emit`, `canary` or `shadow`.",
);

pub(crate) static SCHEMA: Key<Forms> = Key::forms(
    "schema",
    "a string with the path of a JSON Schema, or a table `{ file, version }`",
    Some(&SCHEMA_RULE),
    "The schema that the data of events must fit. An event whose data does not fit is dead-lettered with the reason `schema`.",
);

pub(crate) static CANARY_TABLE: Key<Inner> =
    Key::table("canary", &CANARY, "The canary, which is a second plugin that handles a share of the events.");
pub(crate) static SHADOW_TABLE: Key<Inner> = Key::table(
    "shadow",
    &SHADOW,
    "The shadow, which is a second plugin that gets copies of events. The daemon never publishes the emissions of the shadow.",
);

pub(crate) static ROUTE: Section = Section {
    title: "[routes.NAME]",
    about: "A route ties one queue to one plugin or one archive.",
    example: "[routes.callback-tasks]\nfrom = \"comms.call.ended\"\nplugin = \"callback-task\"\norder-by = \"data.call_id\"\nretry = { max = 3, delay = \"2s\" }\n",
    path: &["routes", "*"],
    keys: &[SHARED, &[&FROM, &QUEUE, &PLUGIN, &ARCHIVE_TABLE, &SCHEMA, &CANARY_TABLE, &SHADOW_TABLE]],
    reserved: RESERVED,
};

pub(crate) static EMIT_EXCHANGE: Key<TextValue> = Key::text(
    "exchange",
    "the name of an exchange, or `\"\"` for the nameless exchange",
    "The exchange to which the daemon publishes the emissions.",
)
.note("the exchange to which the route's queue is bound if the queue is bound to only one exchange, else the default exchange");

pub(crate) static EMIT_KEY: Key<TextValue> = Key::text(
    "key",
    "a routing key with the optional placeholder `{type}`",
    "The routing key of emissions for which the plugin sets no routing key. `{type}` stands for the type of the emission.",
)
.or("{type}");

pub(crate) static EMIT_TYPES: Key<Texts> =
    Key::texts("types", "an event type", "The event types that the plugin may emit on this route.").note("every type");

pub(crate) static EMIT_UNROUTABLE: Key<Word<Unroutable>> = Key::word(
    "unroutable",
    &[("accept", Unroutable::Accept), ("retry", Unroutable::Retry), ("dead-letter", Unroutable::DeadLetter)],
    "The outcome of an event if no queue is bound for an emission of the event. `accept` treats the emission as published. `retry` retries the event. `dead-letter` dead-letters the event.",
)
.note("`\"accept\"` on topic, fanout and headers exchanges, else `\"retry\"`");

pub(crate) static EMIT_REPLY: Key<Boolean> = Key::boolean(
    "reply",
    "`true` sends an emission for which the plugin sets no routing key to the queue in `reply-to` of the event, with the `correlation-id` of the event. The emissions for an event without `reply-to` go to `exchange`. If the queue does not exist, the emission counts as unroutable and the event is acknowledged.",
)
.or(false);

pub(crate) static EMIT: Section = Section {
    title: "`emit` of [routes.NAME]",
    about: "The exchange and the routing key of a route's emissions, and the rules for the emissions.",
    example: "[exchanges.ai_grading]\ntype = \"direct\"\n\n[routes.grading]\nfrom = \"grading.requested\"\nplugin = \"grading-dispatcher\"\nemit = { exchange = \"ai_grading\", key = \"result\" }\n",
    path: &["routes", "*", "emit"],
    keys: &[&[&EMIT_EXCHANGE, &EMIT_KEY, &EMIT_TYPES, &EMIT_UNROUTABLE, &EMIT_REPLY]],
    reserved: &[],
};

pub(crate) static RETRY_MAX: Key<Range<u32>> =
    Key::integer("max", 0, 100, "The largest number of retries after the first attempt. `0` allows no retry.").or(5);

const DELAY_MIN: Duration = Duration::from_millis(1);
const DELAY_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

pub(crate) static RETRY_DELAY: Key<TimeSpan> =
    Key::duration("delay", DELAY_MIN, DELAY_MAX, "The delay before the first retry.").or(Duration::from_secs(1));

pub(crate) static RETRY_MULTIPLIER: Key<Number> =
    Key::number("multiplier", 1.0, 100.0, "The factor by which the delay grows from one retry to the next retry.")
        .or(2.0);

pub(crate) static RETRY_MAX_DELAY: Key<TimeSpan> =
    Key::duration("max-delay", DELAY_MIN, DELAY_MAX, "The longest delay before a retry, without jitter.")
        .or(Duration::from_secs(300));

pub(crate) static RETRY_JITTER: Key<Boolean> = Key::boolean(
    "jitter",
    "`true` lengthens each delay at random by up to an eighth. A route with `order-by` has no jitter.",
)
.or(true);

pub(crate) static RETRY: Section = Section {
    title: "`retry` of [routes.NAME]",
    about: "The delay before retry n is `delay` times `multiplier` to the power n-1. The delay is at most `max-delay`.",
    example: "[routes.callback-tasks]\nfrom = \"comms.call.ended\"\nplugin = \"callback-task\"\nretry = { max = 3, delay = \"1s\", multiplier = 5, max-delay = \"5m\" }\n",
    path: &["routes", "*", "retry"],
    keys: &[&[&RETRY_MAX, &RETRY_DELAY, &RETRY_MULTIPLIER, &RETRY_MAX_DELAY, &RETRY_JITTER]],
    reserved: &[],
};

pub(crate) static SCHEMA_FILE: Key<TextValue> = Key::text(
    "file",
    "the path of a JSON Schema",
    "The file of the schema. A relative path is resolved from the directory of routes.toml.",
)
.required();

pub(crate) static SCHEMA_VERSION: Key<Range<u32>> = Key::integer(
    "version",
    0,
    1_000_000,
    "The required version of events. An event whose attribute `version` does not begin with this number is dead-lettered with the reason `schema`.",
)
.note("every version");

pub(crate) static SCHEMA_RULE: Section = Section {
    title: "`schema` of [routes.NAME]",
    about: "A JSON Schema (drafts 4 to 2020-12) for the data of events. A `$ref` may name a file in the directory of the schema or below that directory.",
    example: "[routes.callback-tasks]\nfrom = \"comms.call.ended\"\nplugin = \"callback-task\"\nschema = { file = \"schemas/call-ended.json\", version = 1 }\n",
    path: &["routes", "*", "schema"],
    keys: &[&[&SCHEMA_FILE, &SCHEMA_VERSION]],
    reserved: &[],
};
