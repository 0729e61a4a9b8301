//! `[broker]`.

use std::time::Duration;

use crate::keys::key::{Forms, Inner, Key, Range, TextValue, TimeSpan, Word};
use crate::keys::secret::SECRET;
use crate::keys::section::Section;
use crate::model::broker::topology::TopologyMode;

pub(crate) static URL: Key<TextValue> = Key::text(
    "url",
    "either the URL `amqp://USER:PASSWORD@HOST:PORT/VHOST` (`amqps://` for TLS) or `embedded`",
    "The address of RabbitMQ. The user, the password and the virtual host are percent-encoded. A URL without a virtual host means the virtual host `/`. `--broker`, `RABBITMQ_URL` and `RABBITMQ_HOST` have precedence over `url`. The daemon combines `RABBITMQ_HOST` with `RABBITMQ_PORT`, `RABBITMQ_USER`, `RABBITMQ_PASSWORD` and `RABBITMQ_VHOST`.",
)
.note("the embedded broker");

pub(crate) static MANAGEMENT_URL: Key<TextValue> = Key::text(
    "management-url",
    "the URL `http://USER:PASSWORD@HOST:PORT`",
    "The address of RabbitMQ's management plugin, which reports unacknowledged messages and rates. If the address has no credentials, the daemon uses the credentials of `url`.",
);

pub(crate) static PREFETCH: Key<Range<u16>> =
    Key::integer("prefetch", 1, u16::MAX, "The default of `prefetch` for queues, if `[defaults]` has no `prefetch`.");

pub(crate) static TOPOLOGY: Key<Word<TopologyMode>> = Key::word(
    "topology",
    &[("declare", TopologyMode::Declare), ("check", TopologyMode::Check)],
    "With `declare`, the daemon creates missing exchanges, queues and bindings. With `check`, the daemon only checks that the exchanges and the queues exist.",
)
.or("declare");

pub(crate) static TLS_TABLE: Key<Inner> =
    Key::table("tls", &TLS, "The certificates and the private key for an `amqps://` URL.")
        .note("the system's root certificates");

pub(crate) static HEADER_KEY: Key<Forms> = Key::forms(
    "header-key",
    "a secret of at least 16 bytes, written as `{ env = \"NAME\" }`, `{ file = \"PATH\" }` or `\"${NAME}\"`",
    Some(&SECRET),
    "The header key, with which the daemon signs its own headers. Daemons that share queues need the same header key.",
)
.note("a random header key, which the daemon keeps in the state directory");

pub(crate) static POLL: Key<TimeSpan> = Key::duration(
    "poll",
    Duration::from_secs(1),
    Duration::from_secs(3600),
    "The time after which the daemon asks RabbitMQ again for the messages and consumers of each queue. The answers are metrics, such as `trunkline_queue_messages`.",
)
.or(Duration::from_secs(15));

pub(crate) static CA: Key<TextValue> = Key::text(
    "ca",
    "the path of a PEM file",
    "The certificates of the authorities that the daemon trusts. One of the authorities must have signed the broker's certificate.",
)
.note("the system's root certificates");

pub(crate) static CERT: Key<TextValue> = Key::text(
    "cert",
    "the path of a PEM file",
    "The client certificate of the daemon, followed by the intermediate certificates. `cert` needs `key`.",
);

pub(crate) static KEY: Key<TextValue> =
    Key::text("key", "the path of a PEM file", "The unencrypted private key of `cert`. `key` needs `cert`.");

pub(crate) static BROKER: Section = Section {
    title: "[broker]",
    about: "The broker that the daemon connects to. If no broker is configured, the daemon uses its embedded broker. A change to the table [broker] needs a restart of the daemon.",
    example: "[broker]\nurl = \"amqp://trunkline:${RABBITMQ_PASSWORD}@rabbit.example.com:5672/%2F\"\nmanagement-url = \"http://rabbit.example.com:15672\"\n",
    path: &["broker"],
    keys: &[&[&URL, &MANAGEMENT_URL, &PREFETCH, &TOPOLOGY, &TLS_TABLE, &HEADER_KEY, &POLL]],
    reserved: &[],
};

pub(crate) static TLS: Section = Section {
    title: "`tls` of [broker]",
    about: "The certificates and the private key for an `amqps://` URL. The daemon reads the files again for every session. A renewed certificate therefore needs no restart.",
    example: "[broker]\nurl = \"amqps://rabbit.example.com:5671/%2F\"\ntls = { ca = \"ca.pem\", cert = \"client.pem\", key = \"client.key\" }\n",
    path: &["broker", "tls"],
    keys: &[&[&CA, &CERT, &KEY]],
    reserved: &[],
};
