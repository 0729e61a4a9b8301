//! `[hooks.NAME]`.

use crate::keys::key::{Forms, Inner, Key, TextValue, Word};
use crate::keys::secret::SECRET;
use crate::keys::section::Section;
use crate::keys::topology::exchange::CODECS;
use crate::model::broker::codec::Codec;
use crate::model::http::sender::{SENDERS, SenderProfile};

pub(crate) static PATH: Key<TextValue> = Key::text(
    "path",
    "a path that begins with `/hooks/`",
    "The path at which the hook receives requests. Two hooks cannot share a path.",
)
.note("`/hooks/NAME`");

pub(crate) static EXCHANGE: Key<TextValue> =
    Key::text("exchange", "the name of an exchange", "The exchange to which the hook publishes its events.")
        .note("the default exchange");

pub(crate) static PROVIDER: Key<Word<SenderProfile>> = Key::word(
    "provider",
    SENDERS,
    "The known sender of the requests. The daemon checks the signature and answers the handshake of this sender. The daemon reads the type and the id of the event from the request.",
);

pub(crate) static KIND: Key<TextValue> = Key::text(
    "type",
    "an event type with optional placeholders `{data.FIELD}` and `{header.NAME}`",
    "The type of the event, if the envelope of the request has no type. `{data.FIELD}` stands for the value of a field of the data. `{header.NAME}` stands for the value of a header. A value may contain dots.",
)
.note("the name of the hook; with `provider`, the type that the sender documents, else the name of the hook");

pub(crate) static KEY: Key<TextValue> = Key::text(
    "key",
    "a routing key with optional placeholders `{type}`, `{data.FIELD}` and `{header.NAME}`",
    "The routing key of the event. `{type}` stands for the event type. `{data.FIELD}` stands for the value of a field of the data. `{header.NAME}` stands for the value of a header. A value cannot contain dots, unless the placeholder ends with `:dotted`. `{type}` and the default contain `-` instead of the dots of values, unless the hook has `provider`.",
)
.note("`key` of the event type, else the event type itself");

pub(crate) static ID: Key<TextValue> = Key::text(
    "id",
    "an event id with optional placeholders `{data.FIELD}`, `{header.NAME}`, `{digest}` and `{new}`",
    "The id of the event. This id replaces the id of the request. `{data.FIELD}` stands for the value of a field of the data. `{header.NAME}` stands for the value of a header. `{digest}` stands for the SHA-256 of the data. `{new}` stands for a new id. `{data.a|data.b|new}` stands for the first value that exists. If the hook accepted the id before, the daemon does not publish the event again.",
)
.note("the id of the request, else a new id; with `provider`, the id that the sender documents");

pub(crate) static CODEC: Key<Word<Codec>> =
    Key::word("codec", CODECS, "The codec with which the daemon reads the requests.").or("raw");

pub(crate) static SCHEMA: Key<TextValue> = Key::text(
    "schema",
    "the path of a JSON Schema",
    "The schema that the data of requests must fit. The daemon answers with the status 422 if the data does not fit.",
);

pub(crate) static TOKEN: Key<Forms> = Key::forms(
    "token",
    "a secret or a list of secrets of at least 16 bytes, each written as `{ env = \"NAME\" }`, `{ file = \"PATH\" }` or `\"${NAME}\"`",
    Some(&SECRET),
    "The token that a sender must send in the header `Authorization: Bearer` or `X-Hook-Token`. A list contains the old and the new token during a rotation.",
);

pub(crate) static SIGNATURE_TABLE: Key<Forms> = Key::forms(
    "signature",
    "a table `{ header, secret }` or a list of tables",
    Some(&SIGNATURE),
    "The header and the secret of the signature. Without `provider`, the signature is the HMAC-SHA256 of the request body. With `provider`, the table has only `secret`. A request needs one valid signature.",
);

pub(crate) static HANDSHAKE_TABLE: Key<Inner> = Key::table(
    "handshake",
    &HANDSHAKE,
    "The token with which the sender checks the address of the hook. Only a hook with `provider = \"meta\"` can have a `handshake`.",
);

pub(crate) const STATUS_DEFAULT: u16 = 202;
/// The statuses that the OpenAPI document describes.
pub(crate) const STATUSES: [u16; 4] = [200, 201, STATUS_DEFAULT, 204];

pub(crate) static STATUS: Key<Forms> = Key::forms(
    "status",
    "one of 200, 201, 202 and 204",
    None,
    "The HTTP status of the response after the broker has confirmed the event. The response to a repeated event has the status 200, or 204 if `status` is 204.",
)
.note("202, or 200 with `provider`");

pub(crate) static HOOK: Section = Section {
    title: "[hooks.NAME]",
    about: "A hook receives HTTP POST requests at a path and at every path below this path. The hook publishes each request as an event. If the listener is reachable beyond loopback, the hook needs `token` or `signature`. A hook with `provider` cannot have `codec`, `status` or `token`.",
    example: "[hooks.payments]\ntype = \"payment.{data.kind}\"\nkey = \"payments.{type}\"\nid = \"{data.id}\"\ntoken = { env = \"HOOK_TOKEN\" }\n",
    path: &["hooks", "*"],
    keys: &[&[
        &PATH,
        &EXCHANGE,
        &PROVIDER,
        &KIND,
        &KEY,
        &ID,
        &CODEC,
        &SCHEMA,
        &TOKEN,
        &SIGNATURE_TABLE,
        &HANDSHAKE_TABLE,
        &STATUS,
    ]],
    reserved: &[],
};

pub(crate) static SIGNATURE_HEADER: Key<TextValue> = Key::text(
    "header",
    "the name of a header",
    "The header that contains the signature in hexadecimal. The prefix `sha256=` of the signature is optional. A hook without `provider` needs `header`. A hook with `provider` cannot have `header`.",
);

pub(crate) static SIGNATURE_SECRET: Key<Forms> = Key::forms(
    "secret",
    "a secret or a list of secrets of at least 16 bytes, each written as `{ env = \"NAME\" }`, `{ file = \"PATH\" }` or `\"${NAME}\"`",
    Some(&SECRET),
    "The secret key of the HMAC, or the secret of the sender that `provider` names. A list contains the old and the new secret during a rotation.",
)
.required();

pub(crate) static SIGNATURE: Section = Section {
    title: "`signature` of [hooks.NAME]",
    about: "The signature of a request proves that the sender knows the secret.",
    example: "[hooks.github]\nsignature = { header = \"X-Hub-Signature-256\", secret = { env = \"GITHUB_SECRET\" } }\n",
    path: &["hooks", "*", "signature"],
    keys: &[&[&SIGNATURE_HEADER, &SIGNATURE_SECRET]],
    reserved: &[],
};

pub(crate) static HANDSHAKE_TOKEN: Key<Forms> = Key::forms(
    "token",
    "a secret, written as `{ env = \"NAME\" }`, `{ file = \"PATH\" }` or `\"${NAME}\"`",
    Some(&SECRET),
    "The token that the sender sends in the parameter `hub.verify_token`.",
)
.required();

pub(crate) static HANDSHAKE: Section = Section {
    title: "`handshake` of [hooks.NAME]",
    about: "The token that Meta sends in the GET request that checks the address of the hook.",
    example: "[hooks.meta]\nprovider = \"meta\"\nsignature = { secret = { env = \"META_APP_SECRET\" } }\nhandshake = { token = { env = \"META_VERIFY_TOKEN\" } }\n",
    path: &["hooks", "*", "handshake"],
    keys: &[&[&HANDSHAKE_TOKEN]],
    reserved: &[],
};
