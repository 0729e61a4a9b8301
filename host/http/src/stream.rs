//! `GET /api/v1/events/stream`: events as they come, in the form of server-sent events.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::openapi::Answers;
use super::{Problem, Shared, query};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// nginx buffers what it passes on, unless it is told otherwise.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// What a client waits before it comes back.
const RETRY_MS: u32 = 1000;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamRequest {
    /// Exchange; the default exchange of routes.toml when absent.
    pub exchange: Option<String>,
    /// Patterns of routing keys; all when there are none.
    pub patterns: Vec<String>,
    /// The id of the last event that the client has seen, when it comes back.
    pub last_event_id: Option<String>,
}

/// What a stream gives.
#[derive(Debug)]
pub enum StreamItem {
    /// First of all: the stream is open.
    Ready(String, StreamReady),
    /// An event, with the id that the client sends when it comes back.
    Event(String, Box<StreamEvent>),
    /// Events were lost to this client.
    Gap(StreamGap),
    /// Nothing happens.
    KeepAlive,
}

/// The data of `event: ready`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StreamReady {
    /// Names this stream; the part of every `id` before the dot.
    pub stream: String,
    /// Whether it goes on where the client was.
    pub resumed: bool,
    /// Exchange.
    pub exchange: String,
    /// Patterns.
    pub patterns: Vec<String>,
    /// How long events are kept for a client that is away.
    pub expires_s: u64,
}

/// The data of `event: gap`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StreamGap {
    /// `expired` (the client was away for too long, or the queue was deleted), `overflow` (more events came than are kept)
    /// or `passed` (the last id that the client has seen is of long ago).
    pub reason: &'static str,
    /// The same as a sentence.
    pub detail: String,
}

/// An event of the stream; `data` or `data_base64`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StreamEvent {
    /// Its identity: the same when it comes twice.
    pub id: String,
    /// Type.
    pub r#type: String,
    /// Who made it.
    pub source: String,
    /// When it happened, RFC 3339, where the message says it.
    #[schema(format = DateTime)]
    pub time: Option<String>,
    /// Exchange it was published to.
    pub exchange: String,
    /// With this key.
    pub routing_key: String,
    /// Organisation.
    pub tenant: Option<String>,
    /// User.
    pub user: Option<String>,
    /// Media type of the data.
    pub content_type: String,
    /// The payload, when it is JSON: as it was published, but in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub data: Option<Box<RawValue>>,
    /// The payload, when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub data_base64: Option<String>,
    /// Further attributes.
    pub attributes: BTreeMap<String, String>,
}

/// Events as they come
///
/// Server-sent events. The first is `event: ready`; events have no `event:` line, so that `onmessage` of an `EventSource`
/// gets them, and their `data` is a StreamEvent. A stream reads from a queue of its own and takes nothing from anybody.
///
/// Who comes back with the header `Last-Event-ID` (or `?last-event-id=`), on this daemon or another one at the same broker,
/// goes on behind that event: in order, each event at least once, nothing lost within 10 minutes. `event: gap` tells when
/// something was lost after all: away for longer, more than 50000 events waiting, or a last id more than 40 MiB or 65000
/// events old. The same exchange and patterns must be asked for. Every 15 s without an event a comment keeps the connection
/// alive; a client that takes nothing for 30 s is disconnected, and may come back. At most 64 streams are open at once.
#[utoipa::path(
    get,
    path = "/api/v1/events/stream",
    tag = "events",
    operation_id = "streamEvents",
    security((), ("token" = [])),
    params(
        ("pattern" = Option<Vec<String>>, Query, description = "Patterns of routing keys: words between dots, `*` for one \
            word, `#` for any number. Repeated, or with commas between; `#` when absent. At most 32, of at most 64 words each \
            and 256 together, on RabbitMQ with at most two `#` in each. On a direct exchange, keys as they are."),
        ("exchange" = Option<String>, Query, description = "An exchange of routes.toml; its default exchange when absent"),
        ("last-event-id" = Option<String>, Query, description = "As the header, for clients that cannot set one"),
        ("Last-Event-ID" = Option<String>, Header, description = "The last id that the client has seen"),
    ),
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream"),
        Answers<400>, Answers<401>, Answers<403>, Answers<503>,
    )
)]
pub(super) async fn events(State(shared): State<Shared>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let opened = match request(query.as_deref(), &headers) {
        Ok(request) => shared.backend.stream(request).await,
        Err(problem) => Err(problem),
    };
    match opened {
        Ok(items) => {
            let frames = items.map(|item| Ok::<_, std::convert::Infallible>(frame(&item)));
            let headers = [
                (header::CONTENT_TYPE, "text/event-stream"),
                (header::CACHE_CONTROL, "no-store"),
                (ACCEL_BUFFERING, "no"),
            ];
            (headers, Body::from_stream(frames)).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

/// The events of a stream; it ends when the daemon stops, and then the client comes back elsewhere.
pub type Items = BoxStream<'static, StreamItem>;

fn request(query: Option<&str>, headers: &HeaderMap) -> Result<StreamRequest, Problem> {
    let mut request = StreamRequest::default();
    for (name, value) in query::parse(query, &["pattern", "exchange", "last-event-id"])? {
        match name.as_str() {
            "pattern" => request.patterns.extend(value.split(',').map(|pattern| pattern.trim().to_owned())),
            "exchange" => request.exchange = Some(value),
            _ => request.last_event_id = Some(value),
        }
    }
    // What a browser knows by itself is newer than what stood in the address when it began.
    if let Some(given) = headers.get(LAST_EVENT_ID) {
        let text = given.to_str().map_err(|_| Problem::bad_request("Last-Event-ID is no text"))?;
        request.last_event_id = Some(text.to_owned());
    }
    request.last_event_id = request.last_event_id.filter(|id| !id.is_empty());
    Ok(request)
}

fn frame(item: &StreamItem) -> Bytes {
    // Structures of strings cannot fail to be written; no line break is in what is written in one line.
    let json = |value: Result<String, serde_json::Error>| value.unwrap_or_default();
    let text = match item {
        StreamItem::Ready(id, ready) => {
            let data = json(serde_json::to_string(ready));
            format!("retry: {RETRY_MS}\nid: {id}\nevent: ready\ndata: {data}\n\n")
        }
        StreamItem::Event(id, event) => format!("id: {id}\ndata: {}\n\n", json(serde_json::to_string(event))),
        StreamItem::Gap(gap) => format!("event: gap\ndata: {}\n\n", json(serde_json::to_string(gap))),
        StreamItem::KeepAlive => ": keep-alive\n\n".to_owned(),
    };
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_from_query_and_header() {
        let mut headers = HeaderMap::new();
        let read = request(Some("pattern=a.*,b&pattern=%23&exchange=x&last-event-id=t.1"), &headers).expect("good");
        assert_eq!(read.patterns, ["a.*", "b", "#"]);
        assert_eq!((read.exchange.as_deref(), read.last_event_id.as_deref()), (Some("x"), Some("t.1")));
        headers.insert(LAST_EVENT_ID, "t.2".parse().expect("a value"));
        assert_eq!(request(None, &headers).expect("good").last_event_id.as_deref(), Some("t.2"));
        assert!(request(Some("patern=a"), &headers).is_err());
    }

    #[test]
    fn a_frame_is_what_event_source_reads() {
        let gap = StreamGap { reason: "overflow", detail: "d".to_owned() };
        assert_eq!(frame(&StreamItem::Gap(gap)), "event: gap\ndata: {\"reason\":\"overflow\",\"detail\":\"d\"}\n\n");
        assert_eq!(frame(&StreamItem::KeepAlive), ": keep-alive\n\n");
    }
}
