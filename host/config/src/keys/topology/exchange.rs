//! `[exchanges.NAME]`, and `exchange` of `[defaults]`.

use crate::keys::key::{Boolean, Key, TextValue, Word};
use crate::keys::section::Section;
use crate::model::broker::codec::Codec;
use crate::model::broker::topology::ExchangeKind;

pub(crate) const KINDS: &[(&str, ExchangeKind)] = &[
    ("topic", ExchangeKind::Topic),
    ("direct", ExchangeKind::Direct),
    ("fanout", ExchangeKind::Fanout),
    ("headers", ExchangeKind::Headers),
];

pub(crate) const CODECS: &[(&str, Codec)] =
    &[("raw", Codec::Raw), ("cloudevents", Codec::Cloudevents), ("ocelot", Codec::Ocelot)];

pub(crate) static KIND: Key<Word<ExchangeKind>> = Key::word(
    "type",
    KINDS,
    "The type of the exchange. A `topic` exchange selects queues by topic pattern. A `direct` exchange selects queues by routing key. A `headers` exchange selects queues by header values. A `fanout` exchange selects every bound queue.",
)
.or("topic");

pub(crate) static OWNED: Key<Boolean> = Key::boolean(
    "owned",
    "With `true`, the daemon declares the exchange. With `false`, another program declares the exchange.",
)
.or(true);

pub(crate) static CODEC: Key<Word<Codec>> = Key::word("codec", CODECS, "The codec of messages in this exchange.")
    .note("`codec` of `[defaults]`, else `\"raw\"`");

pub(crate) static ALTERNATE: Key<TextValue> = Key::text(
    "alternate",
    "the name of an exchange",
    "The alternate exchange, which receives the messages for which no queue is bound.",
);

pub(crate) static EXCHANGE: Section = Section {
    title: "[exchanges.NAME]",
    about: "The settings of an exchange. Every exchange that a binding or a route names needs a table, except the default exchange.",
    example: "[exchanges.ai_grading]\ntype = \"direct\"\ncodec = \"raw\"\n\n[queues.writing]\nbind = { exchange = \"ai_grading\", keys = \"writing\" }\n",
    path: &["exchanges", "*"],
    keys: &[&[&KIND, &OWNED, &CODEC, &ALTERNATE]],
    reserved: &[],
};

pub(crate) static DEFAULT_NAME: Key<TextValue> = Key::text(
    "name",
    "the name of an exchange",
    "The name of the default exchange. The environment variable `DEFAULT_EXCHANGE` has precedence over `name`.",
)
.or("events");

pub(crate) static DEFAULT_KIND: Key<Word<ExchangeKind>> = Key::word(
    "type",
    KINDS,
    "The type of the default exchange. The environment variable `DEFAULT_EXCHANGE_TYPE` has precedence over `type`.",
)
.or("topic");

pub(crate) static DEFAULT_CODEC: Key<Word<Codec>> =
    Key::word("codec", CODECS, "The codec of messages in the default exchange.")
        .note("`codec` of `[defaults]`, else `\"raw\"`");

pub(crate) static DEFAULT_EXCHANGE: Section = Section {
    title: "`exchange` of [defaults]",
    about: "The default exchange. The queue of a route with `from` is bound to the default exchange. The HTTP API publishes to the default exchange if a request names no exchange.",
    example: "[defaults]\nexchange = { name = \"ocelot.events\", type = \"topic\", codec = \"ocelot\" }\n\n[routes.callback-tasks]\nfrom = \"comms.call.ended\"\nplugin = \"callback-task\"\n",
    path: &["defaults", "exchange"],
    keys: &[&[&DEFAULT_NAME, &DEFAULT_KIND, &DEFAULT_CODEC]],
    reserved: &[],
};
