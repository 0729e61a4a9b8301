//! `[hooks.NAME]` and `[event-types.NAME]`.

use toml::de::DeValue;

use crate::diagnostics::codes::Code;
use crate::diagnostics::place::ValuePlace;
use crate::keys::http::event_type;
use crate::keys::http::hook::{
    CODEC, EXCHANGE, HANDSHAKE_TABLE, HANDSHAKE_TOKEN, ID, KEY, KIND, PATH, PROVIDER, SCHEMA, SIGNATURE,
    SIGNATURE_HEADER, SIGNATURE_SECRET, SIGNATURE_TABLE, STATUS, STATUSES, TOKEN,
};
use crate::keys::key::{Forms, Key};
use crate::keys::section::Listed;
use crate::keys::top::{EVENT_TYPES, HOOKS};
use crate::model::broker::codec::Codec;
use crate::model::http::sender::{SenderHandshake, SenderProfile};
use crate::parse::context::{ReadContext, Text};
use crate::parse::secret::RawSecret;
use crate::parse::table::Table;
use crate::parse::value::{TomlValue, integer, place, wrong};

/// One `[hooks.NAME]`.
#[derive(Debug)]
pub(crate) struct RawHook {
    pub(crate) name: Text,
    /// `[hooks.NAME]`, for messages.
    pub(crate) title: String,
    pub(crate) place: ValuePlace,
    pub(crate) path: Option<Text>,
    /// Where `path` and `exchange` stand; the hook itself when they are absent.
    pub(crate) path_place: ValuePlace,
    pub(crate) exchange_place: ValuePlace,
    pub(crate) exchange: Option<Text>,
    pub(crate) provider: Option<SenderProfile>,
    pub(crate) kind: Option<Text>,
    pub(crate) key: Option<Text>,
    pub(crate) id: Option<Text>,
    pub(crate) codec: Codec,
    pub(crate) schema: Option<Text>,
    pub(crate) tokens: Vec<RawSecret>,
    pub(crate) signatures: Vec<RawSignature>,
    /// `token` of `handshake`.
    pub(crate) handshake: Option<RawSecret>,
    /// Whether `token` or `signature` is there, readable or not.
    pub(crate) has_guard: bool,
    pub(crate) status: Option<u16>,
}

/// `signature`
#[derive(Debug)]
pub(crate) struct RawSignature {
    /// The header in lower case. `None` if the hook has `provider`, or if the header was reported.
    pub(crate) header: Option<String>,
    pub(crate) secrets: Vec<RawSecret>,
}

pub(super) fn read_hooks(cx: &mut ReadContext<'_>, top: &Table<'_>) -> Vec<RawHook> {
    let mut hooks = Vec::new();
    for (name, table) in top.named(cx, &HOOKS) {
        let provider = table.word(cx, &PROVIDER).map(|provider| provider.value);
        if let Some(profile) = &provider {
            for key in [&CODEC as &dyn Listed, &TOKEN, &STATUS] {
                refuse_beside(cx, &table, key, profile);
            }
        }
        hooks.push(RawHook {
            name,
            path: table.text(cx, &PATH),
            path_place: table.key_place(&PATH),
            exchange_place: table.key_place(&EXCHANGE),
            exchange: table.text(cx, &EXCHANGE),
            provider,
            kind: table.text(cx, &KIND),
            key: table.text(cx, &KEY),
            id: table.text(cx, &ID),
            codec: table.word(cx, &CODEC).map_or(CODEC.fallback(), |codec| codec.value),
            schema: table.text(cx, &SCHEMA),
            tokens: secrets(cx, &table, &TOKEN),
            signatures: signatures(cx, &table, provider.as_ref()),
            handshake: handshake(cx, &table, provider.as_ref()),
            has_guard: table.has(&TOKEN) || table.has(&SIGNATURE_TABLE),
            status: status(cx, &table),
            place: table.place,
            title: table.title,
        });
    }
    hooks
}

/// Reports a key whose value a known sender determines.
fn refuse_beside(cx: &mut ReadContext<'_>, table: &Table<'_>, key: &dyn Listed, profile: &SenderProfile) {
    if table.has(key) {
        let (key_name, sender) = (key.name(), profile.name);
        let message = format!(
            "{} cannot have `{key_name}`, because `provider = \"{sender}\"` determines `{key_name}`",
            table.title
        );
        let secret = if key_name == TOKEN.name {
            ", and write the secret of the sender as `signature = { secret = { env = \"NAME\" } }`"
        } else {
            ""
        };
        cx.error(Code::BadHook, &table.key_place(key), message).help(format!("remove `{key_name}`{secret}"));
    }
}

/// A secret or a list of secrets.
fn secrets(cx: &mut ReadContext<'_>, table: &Table<'_>, key: &'static Key<Forms>) -> Vec<RawSecret> {
    let Some(value) = table.value(key) else { return Vec::new() };
    items(cx, key, "[{ env = \"NAME\" }]", value)
        .into_iter()
        .filter_map(|item| RawSecret::token(cx, key.name, item))
        .collect()
}

/// The values of a list, or the value itself. `example` is a list with one value.
fn items<'t>(
    cx: &mut ReadContext<'_>,
    key: &'static Key<Forms>,
    example: &str,
    value: &'t TomlValue<'t>,
) -> Vec<&'t TomlValue<'t>> {
    let DeValue::Array(items) = value.get_ref() else { return vec![value] };
    if items.is_empty() {
        cx.error(Code::MissingKey, &place(value), format!("the list `{}` is empty", key.name))
            .help(format!("write `{0} = {example}`, or remove `{0}`", key.name));
    }
    items.iter().collect()
}

fn status(cx: &mut ReadContext<'_>, table: &Table<'_>) -> Option<u16> {
    let given = table.value(&STATUS).and_then(|value| integer::<u16>(cx, STATUS.name, value, (0, 999)))?;
    if !STATUSES.contains(&given.value) {
        let message = format!("`status` is {}, but must be 200, 201, 202 or 204", given.value);
        cx.error(Code::BadHook, &given.place, message)
            .help("write 200, 201 or 202, or write 204 for a response without a body");
    }
    Some(given.value)
}

/// `{ header = "X-Hub-Signature-256", secret = { env = "NAME" } }`, or a list of such tables
fn signatures(cx: &mut ReadContext<'_>, table: &Table<'_>, provider: Option<&SenderProfile>) -> Vec<RawSignature> {
    let Some(value) = table.value(&SIGNATURE_TABLE) else { return Vec::new() };
    let is_list = value.get_ref().is_array();
    let example = match provider {
        Some(_) => "{ secret = { env = \"NAME\" } }",
        None => "{ header = \"X-Hub-Signature-256\", secret = { env = \"NAME\" } }",
    };
    let mut signatures = Vec::new();
    for item in items(cx, &SIGNATURE_TABLE, &format!("[{example}]"), value) {
        let Some(mut inner) = Table::open(cx, item, &SIGNATURE, "`signature`") else {
            wrong(cx, SIGNATURE_TABLE.name, item, "a table or a list of tables")
                .help(format!("write `signature = {example}`"));
            continue;
        };
        if !is_list {
            inner.place = table.key_place(&SIGNATURE_TABLE);
        }
        match provider {
            Some(profile) => refuse_beside(cx, &inner, &SIGNATURE_HEADER, profile),
            // A `provider` that cannot be used was reported.
            None if table.has(&PROVIDER) => {}
            None => inner.require(cx, &SIGNATURE_HEADER, "header = \"X-Hub-Signature-256\""),
        }
        inner.require(cx, &SIGNATURE_SECRET, "secret = { env = \"HOOK_SECRET\" }");
        let header = inner.text(cx, &SIGNATURE_HEADER).and_then(|header| header_name(cx, &header));
        signatures.push(RawSignature { header, secrets: secrets(cx, &inner, &SIGNATURE_SECRET) });
    }
    signatures
}

/// `{ token = { env = "NAME" } }`
fn handshake(cx: &mut ReadContext<'_>, table: &Table<'_>, provider: Option<&SenderProfile>) -> Option<RawSecret> {
    let inner = table.table(cx, &HANDSHAKE_TABLE)?;
    let has_token = provider.is_some_and(|profile| profile.handshake == SenderHandshake::Subscription);
    if !has_token && (provider.is_some() || !table.has(&PROVIDER)) {
        let message = format!("{} has a `handshake`, but only `provider = \"meta\"` allows a `handshake`", table.title);
        cx.error(Code::BadHook, &table.key_place(&HANDSHAKE_TABLE), message)
            .help("write `provider = \"meta\"`, or remove `handshake`");
    }
    inner.require(cx, &HANDSHAKE_TOKEN, "token = { env = \"META_VERIFY_TOKEN\" }");
    RawSecret::token(cx, HANDSHAKE_TOKEN.name, inner.value(&HANDSHAKE_TOKEN)?)
}

fn header_name(cx: &mut ReadContext<'_>, header: &Text) -> Option<String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if header.value.is_empty() || header.value.len() > 64 || !header.value.bytes().all(is_name) {
        let message = format!("`header` is {}, which is not a valid header name", header.shown());
        cx.error(Code::BadHook, &header.place, message)
            .help("use 1 to 64 letters, digits, '-' and '_', as in \"X-Hub-Signature-256\"");
        return None;
    }
    Some(header.value.to_ascii_lowercase())
}

/// One `[event-types.NAME]`.
#[derive(Debug)]
pub(crate) struct RawEventType {
    pub(crate) name: Text,
    pub(crate) key: Option<Text>,
    pub(crate) schema: Option<Text>,
    pub(crate) priority: Option<u8>,
    pub(crate) description: Option<String>,
}

pub(super) fn read_event_types(cx: &mut ReadContext<'_>, top: &Table<'_>) -> Vec<RawEventType> {
    let mut types = Vec::new();
    for (name, table) in top.named(cx, &EVENT_TYPES) {
        types.push(RawEventType {
            name,
            key: table.text(cx, &event_type::KEY),
            schema: table.text(cx, &event_type::SCHEMA),
            priority: table.integer(cx, &event_type::PRIORITY).map(|at| at.value),
            description: table.text(cx, &event_type::DESCRIPTION).map(|text| text.value),
        });
    }
    types
}
