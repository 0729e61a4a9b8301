//! A request to a hook as an event.

use std::cell::OnceCell;

use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use trunkline_config::{Codec, Hook, PathStep, Placeholder, SenderForm, Template, ValueSource};
use trunkline_event::{Event, ExchangeName, HeaderValue, Headers, Message, Properties, RoutingKey};
use trunkline_http::{HookRequest, Problem};
use trunkline_route::codec;

use super::compose;
use super::incoming::IncomingEvent;

/// The source that a codec gives an event of a message without exchange and queue.
const NO_SOURCE: &str = "/queue/";
/// Largest length of an inserted value, in bytes. A type, a routing key and an id cannot be longer than this length.
const VALUE_BYTES_MAX: usize = 255;
const CLOUD_EVENT: &str = "application/cloudevents+json";

/// The values that fill the templates of a hook.
struct TemplateValues<'r> {
    data: &'r Value,
    headers: &'r [(String, String)],
    /// The data as bytes, unchanged.
    bytes: &'r [u8],
    /// The new id, if a template needed a new id.
    new_id: OnceCell<String>,
}

/// The dots of a value in a type or a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueDots {
    /// Each part of the value is a word.
    Kept,
    /// The value is one word, with `-` instead of each dot.
    Replaced,
    /// A value with a dot is not allowed.
    Refused,
}

/// The event of a request to a hook.
pub(super) fn incoming(hook: &Hook, request: HookRequest) -> Result<IncomingEvent, Problem> {
    let given = request.id.clone();
    let headers = request.headers.clone();
    let codec = codec_of(hook, request.content_type.as_deref());
    let event = decode(codec, request)?;
    // A request without an envelope has no source.
    let is_plain = event.source.is_empty() || event.source == NO_SOURCE;
    if let Some(schema) = &hook.schema {
        compose::check(schema, &event.data, "the schema of the hook")?;
    }
    let reads_data = hook.templates().any(Template::reads_data);
    // Data that is not JSON has no fields.
    let data = if reads_data { serde_json::from_slice(&event.data).unwrap_or_default() } else { Value::Null };
    let values = TemplateValues { data: &data, headers: &headers, bytes: &event.data, new_id: OnceCell::new() };
    // The sender chooses the complete type of an envelope. A known sender has a fixed set of types.
    let (kind, default_key) = match (event.kind.is_empty(), &hook.provider) {
        (true, None) => (values.kind(hook, ValueDots::Kept)?, Some(values.kind(hook, ValueDots::Replaced)?)),
        (true, Some(_)) => (values.kind(hook, ValueDots::Kept)?, None),
        (false, _) => (event.kind, None),
    };
    let one_word_each = default_key.as_ref().unwrap_or(&kind);
    let routing_key = hook.key.as_ref().map(|key| values.key(key, &kind, one_word_each)).transpose()?;
    let own = given.or(event.own_id.then_some(event.id));
    let id = match &hook.ids[..] {
        [] => own,
        // The id of the envelope of a known sender is the id of the event.
        _ if !hook.id_is_written && codec != hook.codec && own.is_some() => own,
        ids => values.id(ids)?,
    };
    let source = if is_plain { hook.path.clone() } else { event.source };
    Ok(IncomingEvent {
        id,
        kind,
        content_type: event.content_type,
        source,
        subject: event.subject,
        time: event.time,
        exchange: Some(hook.exchange.to_string()),
        routing_key,
        default_key,
        priority: None,
        reply_to: None,
        correlation_id: None,
        tenant: event.tenant,
        user: event.user,
        attributes: event.attributes,
        data: event.data,
    })
}

/// The codec of a request. A known sender of lists of events may also send CloudEvents.
fn codec_of(hook: &Hook, content_type: Option<&str>) -> Codec {
    let form = hook.provider.as_ref().map(|provider| provider.profile.form);
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if form == Some(SenderForm::Events) && media_type.eq_ignore_ascii_case(CLOUD_EVENT) {
        return Codec::Cloudevents;
    }
    hook.codec
}

/// Decodes the request like a message of the codec. The type is empty when the request has none.
fn decode(codec: Codec, request: HookRequest) -> Result<Event, Problem> {
    let empty = RoutingKey::new("").map_err(|error| Problem::unpublishable(error.to_string()))?;
    let headers =
        request.cloudevent.into_iter().map(|(name, value)| (format!("cloudEvents:{name}"), HeaderValue::from(value)));
    let message = Message {
        exchange: ExchangeName::default_exchange(),
        routing_key: empty,
        properties: Properties {
            message_id: request.id,
            content_type: request.content_type,
            headers: if codec == Codec::Cloudevents { headers.collect() } else { Headers::default() },
            ..Properties::default()
        },
        body: request.body,
    };
    let bytes = message.body.len();
    codec::decode(codec, &message, bytes).map_err(|error| Problem::unpublishable(error.to_string()))
}

impl TemplateValues<'_> {
    /// The type, from the first template that the request can fill.
    fn kind(&self, hook: &Hook, dots: ValueDots) -> Result<String, Problem> {
        let fill = |template: &Template| {
            let word = |source: &ValueSource| self.value(source).and_then(|value| words(&value, dots));
            template.fill(|_, source| word(source)).map_err(|none| {
                missing("type", none, "of only letters, digits, '-' and '_', with '.' or '/' between the words")
            })
        };
        first(&hook.kinds, fill)
    }

    /// The routing key. `one_word_each` is the type in which each value of the request is one word.
    fn key(&self, template: &Template, kind: &str, one_word_each: &str) -> Result<String, Problem> {
        let value = |placeholder: &Placeholder, source: &ValueSource| match (source, placeholder.is_dotted()) {
            (ValueSource::Type, true) => Some(kind.to_owned()),
            (ValueSource::Type, false) => Some(one_word_each.to_owned()),
            (source, true) => self.value(source).and_then(|value| words(&value, ValueDots::Kept)),
            (source, false) => self.value(source).and_then(|value| words(&value, ValueDots::Refused)),
        };
        let of = "of only letters, digits, '-' and '_'; write `:dotted` at the end of the placeholder to allow dots";
        template.fill(value).map_err(|none| missing("key", none, of))
    }

    /// The id. The result is `None` for a new id.
    fn id(&self, templates: &[Template]) -> Result<Option<String>, Problem> {
        let fill = |template: &Template| {
            let is_id = |value: &String| !value.is_empty() && value.len() <= VALUE_BYTES_MAX;
            template
                .fill(|_, source| self.value(source).filter(is_id))
                .map_err(|none| missing("id", none, "that is not empty and has at most 255 bytes"))
        };
        let id = first(templates, fill)?;
        // No request repeats a new id, so the daemon needs no dedupe record.
        Ok(Some(id).filter(|id| self.new_id.get() != Some(id)))
    }

    fn value(&self, source: &ValueSource) -> Option<String> {
        match source {
            ValueSource::Data(path) => scalar(path.iter().try_fold(self.data, step)?),
            ValueSource::Header(wanted) => {
                self.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
            }
            ValueSource::Beside(field) => {
                let mut others = self.data.as_object()?.keys().filter(|name| *name != field);
                others.next().filter(|_| others.next().is_none()).cloned()
            }
            ValueSource::Digest => Some(hex::encode(Sha256::digest(self.bytes))),
            ValueSource::New => Some(self.new_id.get_or_init(|| Uuid::now_v7().to_string()).clone()),
            // The method `key` inserts the type.
            ValueSource::Type => None,
        }
    }
}

/// The text of the first template that the request can fill, else the problem of the last template.
fn first(templates: &[Template], fill: impl Fn(&Template) -> Result<String, Problem>) -> Result<String, Problem> {
    let mut filled = Err(Problem::unpublishable("the hook has no template"));
    for template in templates {
        filled = fill(template);
        if filled.is_ok() {
            break;
        }
    }
    filled
}

/// A value of the request in a type or a key. The value may contain only letters, digits, `-` and `_`. Other characters could
/// change the queues that get the event.
fn words(value: &str, dots: ValueDots) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let words = value.trim_matches('/').split(['.', '/']).collect::<Vec<_>>();
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(is_plain);
    if !words.iter().all(is_word) || value.len() > VALUE_BYTES_MAX {
        return None;
    }
    match dots {
        ValueDots::Kept => Some(words.join(".")),
        ValueDots::Replaced => Some(words.join("-")),
        ValueDots::Refused => (value == words[0]).then(|| value.to_owned()),
    }
}

fn missing(name: &str, none: &Placeholder, of: &str) -> Problem {
    Problem::unpublishable(format!(
        "`{name}` of the hook needs a value for {{{}}}, which must be a text or a number {of}",
        none.written()
    ))
}

fn step<'v>(value: &'v Value, step: &PathStep) -> Option<&'v Value> {
    match step {
        PathStep::Field(name) => value.get(name),
        PathStep::Place(place) => value.get(*place),
        PathStep::Only => value.as_array().filter(|list| list.len() == 1).and_then(|list| list.first()),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use trunkline_config::Sources;

    use super::*;

    fn hook(keys: &str) -> Hook {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("routes.toml");
        std::fs::write(&file, format!("[hooks.h]\n{keys}\n")).expect("a file");
        let environment = [("HOME".to_owned(), "/tmp".to_owned())].into();
        let loaded = trunkline_config::load(&Sources { file, environment, ..Sources::default() });
        let loaded = loaded.unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
        loaded.config.hooks["h"].clone()
    }

    fn request(headers: &[(&str, &str)], body: &str) -> HookRequest {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        HookRequest {
            id: None,
            content_type: Some("application/json".to_owned()),
            cloudevent: Vec::new(),
            headers: headers.iter().map(owned).collect(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    /// Type, key and id.
    fn filled(keys: &str, headers: &[(&str, &str)], body: &str) -> (String, Option<String>, Option<String>) {
        let event =
            incoming(&hook(keys), request(headers, body)).unwrap_or_else(|problem| panic!("{keys}: {problem:?}"));
        (event.kind, event.routing_key.or(event.default_key), event.id)
    }

    #[test]
    fn dotted_names_are_types_and_single_words_of_keys() {
        let body = r#"{"event": "messages.upsert", "list": [{"id": 7}, {"id": 8}], "one": [{"id": "x"}]}"#;
        let text = |text: &str| Some(text.to_owned());
        let kind = "type = \"wa.{data.event}\"";
        for (keys, expected) in [
            ("", text("wa.messages-upsert")),
            ("key = \"in.{type}\"", text("in.wa.messages-upsert")),
            ("key = \"in.{type:dotted}\"", text("in.wa.messages.upsert")),
            ("key = \"in.{data.event:dotted}.x\"", text("in.messages.upsert.x")),
            ("key = \"in.{data.list[1].id}\"", text("in.8")),
            ("key = \"in.{data.one[only].id}\"", text("in.x")),
        ] {
            let (filled_kind, key, id) = filled(&format!("{kind}\n{keys}"), &[], body);
            assert_eq!((filled_kind.as_str(), key, id), ("wa.messages.upsert", expected, None), "{keys}");
        }
        for bad in ["key = \"{data.event}\"", "key = \"{data.list[only].id}\"", "key = \"{data.list[2].id}\""] {
            assert!(incoming(&hook(bad), request(&[], body)).is_err(), "{bad}");
        }
        for bad in ["a..b", ".a", "a.", "a b", "a.#", "*", "", "a\\u0000", "ä"] {
            let body = format!("{{\"event\": \"{bad}\"}}");
            for keys in [kind, "key = \"{data.event:dotted}\""] {
                assert!(incoming(&hook(keys), request(&[], &body)).is_err(), "{keys} {bad}");
            }
        }
    }

    #[test]
    fn headers_and_fallbacks() {
        let headers = [("x-github-event", "issues"), ("x-github-delivery", "d-1"), ("x-topic", "orders/create")];
        let keys = "type = \"{header.X-GitHub-Event}.{data.action}\"\nid = \"{data.id|header.X-GitHub-Delivery}\"";
        let (kind, key, id) = filled(keys, &headers, r#"{"action": "opened"}"#);
        assert_eq!(
            (kind.as_str(), key.as_deref(), id.as_deref()),
            ("issues.opened", Some("issues.opened"), Some("d-1"))
        );
        assert_eq!(filled("type = \"{header.X-Topic}\"", &headers, "{}").0, "orders.create");
        let id = |id: &str, body: &str| filled(&format!("id = \"{id}\""), &headers, body).2;
        assert_eq!(id("{data.id|header.X-GitHub-Delivery|new}", r#"{"id": 17}"#).as_deref(), Some("17"));
        assert_eq!(id("{data.id|new}", "{}"), None, "a new id is made later");
        let new = id("wa-{data.id|new}", "[]").expect("an id");
        assert!(new.len() == 39 && new.starts_with("wa-"), "{new}");
        assert_eq!(id("{digest}", "[1]"), id("{digest}", "[1]"));
        assert_ne!(id("{digest}", "[1]"), id("{digest}", "[ 1]"));
        let long = format!(r#"{{"id": "{}"}}"#, "x".repeat(256));
        assert_eq!(id("{data.id|header.X-GitHub-Delivery}", &long).as_deref(), Some("d-1"));
    }

    /// Provider, headers and body of a request, and the expected type and id.
    type SenderCase<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str, &'a str);

    /// The bodies are from the senders' documentation.
    #[test]
    fn known_senders_give_type_and_id() {
        let meta = r#"{"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages",
            "value": {"messages": [{"id": "wamid.1"}]}}]}]}"#;
        let status = r#"{"object": "whatsapp_business_account", "entry": [{"changes": [{"field": "messages",
            "value": {"statuses": [{"id": "wamid.1", "status": "read"}]}}]}]}"#;
        let wasender = r#"{"event": "messages.upsert", "data": {"messages": [{"key": {"id": "3EB0"}}]}}"#;
        let received = r#"{"event": "messages.received", "data": {"messages": {"key": {"id": "3EB0"}}}}"#;
        let github = [("x-github-event", "issues"), ("x-github-delivery", "72d3162e")];
        let gitlab = [("idempotency-key", "f5e5f430")];
        let shopify = [("x-shopify-topic", "orders/create"), ("x-shopify-event-id", "98880550")];
        let merge = r#"{"object_kind": "merge_request", "object_attributes": {"action": "open"}}"#;
        let cases: [SenderCase<'_>; 15] = [
            ("meta", &[], meta, "whatsapp_business_account.messages", "wamid.1"),
            ("meta", &[], status, "whatsapp_business_account.messages", "wamid.1.read"),
            ("wasender", &[], wasender, "messages.upsert", "messages.upsert.3EB0"),
            ("wasender", &[], received, "messages.received", "messages.received.3EB0"),
            ("github", &github, r#"{"action": "opened"}"#, "issues.opened", "72d3162e"),
            ("github", &github, "{}", "issues", "72d3162e"),
            ("gitlab", &gitlab, merge, "merge_request.open", "f5e5f430"),
            ("gitlab", &gitlab, r#"{"object_kind": "push"}"#, "push", "f5e5f430"),
            ("stripe", &[], r#"{"id": "evt_1", "type": "invoice.paid"}"#, "invoice.paid", "evt_1"),
            ("slack", &[], r#"{"event_id": "Ev1", "event": {"type": "app_mention"}}"#, "app_mention", "Ev1"),
            ("slack", &[], r#"{"command": "/deploy", "trigger_id": "3.4"}"#, "command.deploy", "3.4"),
            ("shopify", &shopify, "{}", "orders.create", "98880550.orders/create"),
            ("standard", &[("webhook-id", "msg_1")], r#"{"type": "user.created"}"#, "user.created", "msg_1"),
            ("telegram", &[], r#"{"update_id": 10000, "message": {}}"#, "message", "10000"),
            (
                "event-grid",
                &[],
                r#"{"id": "e", "eventType": "Microsoft.Storage.BlobCreated"}"#,
                "Microsoft.Storage.BlobCreated",
                "e",
            ),
        ];
        for (provider, headers, body, kind, id) in cases {
            let (filled_kind, key, filled_id) = filled(&format!("provider = \"{provider}\""), headers, body);
            assert_eq!((filled_kind.as_str(), key, filled_id.as_deref()), (kind, None, Some(id)), "{provider} {body}");
            // A request with an unknown structure becomes an event too.
            let (kind, _, id) = filled(&format!("provider = \"{provider}\""), &[], "[]");
            assert!(kind == "h" && id.is_some_and(|id| id.len() == 64), "{provider}");
        }
        let two = r#"{"object": "page", "entry": [{"changes": [{"field": "feed"}]}, {}]}"#;
        let (kind, _, id) = filled("provider = \"meta\"", &[], two);
        assert!(
            kind == "page.feed" && id.is_some_and(|id| id.len() == 64),
            "the id of a list is the digest of the data"
        );
    }

    #[test]
    fn event_grid_may_send_cloudevents() {
        let body =
            r#"{"specversion": "1.0", "id": "c-1", "source": "/s", "type": "sky.blue", "data": {"id": "inner"}}"#;
        for (keys, id) in [("", "c-1"), ("id = \"own-{data.id}\"", "own-inner")] {
            let request = HookRequest {
                content_type: Some("application/cloudevents+json; charset=utf-8".to_owned()),
                ..request(&[], body)
            };
            let event = incoming(&hook(&format!("provider = \"event-grid\"\n{keys}")), request).expect("an event");
            assert_eq!((event.kind.as_str(), event.id.as_deref(), event.source.as_str()), ("sky.blue", Some(id), "/s"));
        }
    }
}
