//! `[queues.NAME]`, with `bind` and `dead-letter`.

use std::time::Duration;

use crate::keys::key::{Forms, Key, Range, TextValue, Texts, TimeSpan, Word};
use crate::keys::section::{Listed, Section};
use crate::keys::topology::exchange::CODECS;
use crate::model::broker::codec::Codec;
use crate::model::broker::topology::{Overflow, QueueKind};

pub(crate) static OWNED: Key<Forms> = Key::forms(
    "owned",
    "`true`, `\"shared\"` or `false`",
    None,
    "The programs that declare the queue. With `true`, only the daemon declares the queue. With `\"shared\"`, other programs declare the queue too. The daemon declares a missing shared queue with exactly the arguments that `[queues.NAME]` names. The keys of `[defaults]` do not apply to the arguments of a shared queue. The daemon uses an existing shared queue unchanged. With `false`, only other programs declare and bind the queue. The route is down until the queue exists. The daemon declares the dead-letter queue in every case.",
)
.note("`true` for a queue that a route consumes and for a dead-letter queue; any other queue has the arguments that its table and `[defaults]` name");

pub(crate) static ARGUMENTS: Key<Forms> = Key::forms(
    "arguments",
    "a table of argument names that begin with `x-`, with strings, numbers, `true` or `false` as values",
    None,
    "The further arguments with which other programs declare the queue. `arguments` needs `owned = \"shared\"`. An argument that has a key, such as `x-message-ttl`, is written as this key. The argument `x-dead-letter-exchange` has no key, because `dead-letter` sets only the target of the daemon's own dead letters on a shared queue.",
);

pub(crate) static KIND: Key<Word<QueueKind>> = Key::word(
    "type",
    &[("quorum", QueueKind::Quorum), ("classic", QueueKind::Classic)],
    "The type of the queue on RabbitMQ. A quorum queue is replicated. A classic queue is on one node.",
)
.or("quorum")
.note("`\"classic\"` with `max-priority`; no type for a queue that no route consumes and for a queue with `owned = \"shared\"`");

/// RabbitMQ accepts milliseconds in 32 bits, which are 49 days and some hours.
const TTL_MAX: Duration = Duration::from_secs(49 * 24 * 3600);

pub(crate) static TTL: Key<TimeSpan> = Key::duration(
    "ttl",
    Duration::from_millis(1),
    TTL_MAX,
    "The longest time that a message may wait in the queue. After this time, the broker moves the message to the dead-letter queue. The environment variable `QUEUE_TTL` sets the default in milliseconds.",
);

pub(crate) static MAX_LENGTH: Key<Range<u32>> = Key::integer(
    "max-length",
    1,
    u32::MAX,
    "The largest number of messages that may wait in the queue. The environment variable `QUEUE_MAX_LENGTH` sets the default.",
);

pub(crate) static OVERFLOW: Key<Word<Overflow>> = Key::word(
    "overflow",
    &[("drop-head", Overflow::DropHead), ("reject-publish", Overflow::RejectPublish)],
    "The effect of a new message on a full queue. `drop-head` moves the oldest message to the dead-letter queue. `reject-publish` refuses the new message.",
)
.or("drop-head");

pub(crate) static DELIVERY_LIMIT: Key<Range<u32>> = Key::integer(
    "delivery-limit",
    1,
    1_000_000,
    "The delivery limit, which is the largest number of times that a quorum queue delivers a message again. After this number, the queue moves the message to the dead-letter queue.",
)
.or(20)
.note("none on a queue without a dead-letter queue and on a queue with `owned = \"shared\"`");

pub(crate) static DEAD_LETTER: Key<Forms> = Key::forms(
    "dead-letter",
    "a string with the name of a queue, or a table `{ exchange, queue }`",
    Some(&DEAD_LETTER_TARGET),
    "The dead-letter queue, which keeps events that could not be handled.",
)
.note("`NAME.dlq` for a queue `NAME` that a route consumes or that has `owned = true`; none for any other queue");

/// The prefetch count of AMQP has 16 bits. The value 0 would mean no limit.
pub(crate) static PREFETCH: Key<Range<u16>> = Key::integer(
    "prefetch",
    1,
    u16::MAX,
    "The largest number of unsettled deliveries that the broker sends to the daemon. The environment variable `WORKER_PREFETCH_COUNT` sets the default.",
)
.or(200);

pub(crate) static CODEC: Key<Word<Codec>> = Key::word("codec", CODECS, "The codec of messages in this queue.")
    .note("the codec of the exchanges to which the queue is bound, else `codec` of `[defaults]`, else `\"raw\"`");

/// RabbitMQ has an internal queue for each priority.
pub(crate) static MAX_PRIORITY: Key<Range<u8>> = Key::integer(
    "max-priority",
    1,
    255,
    "The highest priority that a classic queue distinguishes. The queue delivers a message with a higher priority first. RabbitMQ recommends at most 10.",
);

/// The keys that `[defaults]` accepts too.
pub(crate) static SHARED: &[&dyn Listed] =
    &[&KIND, &TTL, &MAX_LENGTH, &OVERFLOW, &DELIVERY_LIMIT, &DEAD_LETTER, &PREFETCH, &CODEC, &MAX_PRIORITY];

pub(crate) static BIND: Key<Forms> = Key::forms(
    "bind",
    "a routing key, a table `{ exchange, keys }`, or a list of routing keys and tables",
    Some(&BINDING),
    "The bindings of the queue. A routing key without a table binds the queue to the default exchange.",
);

pub(crate) static QUEUE: Section = Section {
    title: "[queues.NAME]",
    about: "The settings of a queue. The queue of a route with `from` needs no table.",
    example: "[exchanges.ai_grading]\ntype = \"direct\"\n\n[queues.writing]\nbind = { exchange = \"ai_grading\", keys = \"writing\" }\nprefetch = 1\nttl = \"24h\"\n\n[routes.grading]\nqueue = \"writing\"\nplugin = \"grading-dispatcher\"\n",
    path: &["queues", "*"],
    keys: &[SHARED, &[&OWNED, &ARGUMENTS, &BIND]],
    reserved: &[],
};

pub(crate) static BINDING_EXCHANGE: Key<TextValue> =
    Key::text("exchange", "the name of an exchange", "The exchange to which the queue is bound.")
        .note("the default exchange");

pub(crate) static BINDING_KEYS: Key<Texts> = Key::texts(
    "keys",
    "a routing key or, on a topic exchange, a topic pattern",
    "The routing keys of the messages that the queue gets. A binding to a fanout exchange needs no keys.",
);

pub(crate) static BINDING_HEADERS: Key<Forms> = Key::forms(
    "headers",
    "a table of header names with strings, numbers, `true` or `false` as values",
    None,
    "The header values of the messages that the queue gets from an exchange of type `headers`.",
);

pub(crate) static BINDING_MATCH: Key<Word<bool>> = Key::word(
    "match",
    &[("all", true), ("any", false)],
    "With `all`, every header of the binding must be equal in the message. With `any`, one equal header is enough.",
)
.or("all");

pub(crate) static BINDING: Section = Section {
    title: "`bind` of [queues.NAME]",
    about: "A binding connects the queue with an exchange.",
    example: "[exchanges.documents]\ntype = \"headers\"\n\n[queues.drafts]\nbind = { exchange = \"documents\", headers = { format = \"pdf\", draft = true }, match = \"all\" }\n",
    path: &["queues", "*", "bind"],
    keys: &[&[&BINDING_EXCHANGE, &BINDING_KEYS, &BINDING_HEADERS, &BINDING_MATCH]],
    reserved: &[],
};

pub(crate) static TARGET_EXCHANGE: Key<TextValue> =
    Key::text("exchange", "the name of an exchange", "The exchange to which dead letters are published.").required();

pub(crate) static TARGET_QUEUE: Key<TextValue> = Key::text(
    "queue",
    "the name of a queue",
    "The dead-letter queue. The routing key of each dead letter is the name of the dead-letter queue.",
)
.required();

pub(crate) static DEAD_LETTER_TARGET: Section = Section {
    title: "`dead-letter` of [queues.NAME]",
    about: "A dead-letter queue that gets its dead letters through an exchange.",
    example: "[exchanges.dlx]\ntype = \"direct\"\n\n[queues.agent]\ndead-letter = { exchange = \"dlx\", queue = \"agent.dead\" }\n",
    path: &["queues", "*", "dead-letter"],
    keys: &[&[&TARGET_EXCHANGE, &TARGET_QUEUE]],
    reserved: &[],
};
