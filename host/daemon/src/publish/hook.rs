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
/// Largest number of `ce-` headers of a CloudEvent.
const CLOUDEVENT_HEADERS_MAX: usize = 64;
const CLOUD_EVENT: &str = "application/cloudevents+json";
/// A number of JSON that is not a 64-bit integer is exact below this value.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

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
    /// Each part of the value is a word, which may contain brackets. Some types of Stripe contain brackets.
    KeptWithBrackets,
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
        (true, Some(_)) => (values.kind(hook, ValueDots::KeptWithBrackets)?, None),
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
    let source = if is_plain { values.source(hook) } else { event.source };
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
    let count = request.cloudevent.len();
    if codec == Codec::Cloudevents && count > CLOUDEVENT_HEADERS_MAX {
        return Err(Problem::unpublishable(format!(
            "the request has {count} `ce-` headers; a CloudEvent may have at most {CLOUDEVENT_HEADERS_MAX} `ce-` headers"
        )));
    }
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

    /// The source of a request without an envelope.
    fn source(&self, hook: &Hook) -> String {
        let is_short = |value: &String| value.len() <= VALUE_BYTES_MAX;
        let fill = |template: &Template| template.fill(|_, source| self.value(source).filter(is_short)).ok();
        hook.sources.iter().find_map(fill).filter(|source| !source.is_empty()).unwrap_or_else(|| hook.path.clone())
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

/// A value of the request in a type or a key. The value may contain only letters, digits, `-` and `_`, and brackets in the type
/// of a known sender. Other characters could change the queues that get the event.
fn words(value: &str, dots: ValueDots) -> Option<String> {
    let is_bracket = |byte: u8| dots == ValueDots::KeptWithBrackets && matches!(byte, b'[' | b']');
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || is_bracket(byte);
    let words = value.trim_matches('/').split(['.', '/']).collect::<Vec<_>>();
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(is_plain);
    if !words.iter().all(is_word) || value.len() > VALUE_BYTES_MAX {
        return None;
    }
    match dots {
        ValueDots::Kept | ValueDots::KeptWithBrackets => Some(words.join(".")),
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

/// The text of a value. A large number that is not a 64-bit integer is rounded and has no text, because two different ids could
/// have the same text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => {
            let is_exact = !number.is_f64() || number.as_f64().is_some_and(|number| number.abs() < EXACT_BELOW);
            is_exact.then(|| number.to_string())
        }
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests;
