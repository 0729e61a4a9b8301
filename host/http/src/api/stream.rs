//! `GET /api/v1/events/stream`: a stream of events as server-sent events.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{Extensions, HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;

use crate::backend::ApiState;
use crate::openapi::problem_response::ProblemResponse;
use crate::problem::Problem;
use crate::request::last_event::{LAST_EVENT_ID, LAST_EVENT_ID_PARAMETER, last_event_id};
use crate::request::query;
use crate::request::ticket::{TICKET, TicketLease};
use crate::view::stream::{StreamItem, StreamRequest};

/// nginx buffers responses, unless this header says `no`.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// The pause of a client before the client reconnects.
const RETRY_MS: u32 = 1000;

/// Stream events
///
/// The response is a stream of server-sent events. The first item is `event: ready`. The item of an event has no `event:`
/// line, so that `onmessage` of an `EventSource` receives the item. The `data` of the item is a StreamEvent. Each stream has
/// its own queue. A stream therefore takes no event from a route or from another stream.
///
/// A client that reconnects with the header `Last-Event-ID` or the parameter `last-event-id` resumes after the
/// event with this id. The client may reconnect to any daemon at the same broker. The client must request the exchange and the
/// patterns of the first request again. A client that reconnects within 10 minutes gets every event at least once and in order.
///
/// The item `event: gap` reports that events may have been lost. Events are lost if the client is disconnected for more than
/// 10 minutes, or if more than 50000 events wait. Events may also be lost if the stream sent more than 40 MiB or 65000 events
/// after the event with the last event id.
///
/// After 15 s without an event, the daemon sends a comment to keep the connection open. The daemon disconnects a client that
/// reads nothing for 30 s. The client may then reconnect. At most 64 streams are open at a time.
///
/// A client that cannot send a token sends a stream ticket in the parameter `ticket`. `POST /api/v1/events/stream/tickets`
/// issues a stream ticket.
#[utoipa::path(
    get,
    path = "/api/v1/events/stream",
    tag = "events",
    operation_id = "streamEvents",
    security((), ("token" = []), ("ticket" = [])),
    params(
        ("pattern" = Option<Vec<String>>, Query, description = "Topic patterns for routing keys. A pattern consists of words \
            that are separated by dots. `*` matches one word, and `#` matches any number of words. The parameter may be \
            repeated, or contain several patterns that are separated by commas. Without the parameter, the stream sends every \
            event of the exchange. A stream has at most 32 patterns. A pattern has at most 64 words, and all patterns \
            together have at most 256 words. On RabbitMQ, a pattern has at most two `#`. On a direct exchange, each value is \
            a routing key."),
        ("exchange" = Option<String>, Query, description = "Name of an exchange of routes.toml. The default is the default exchange."),
        ("last-event-id" = Option<String>, Query, description = "Id of the last event that the client \
            received, for clients that cannot set headers. The header `Last-Event-ID` has precedence."),
        ("ticket" = Option<String>, Query, description = "A stream ticket, for clients that cannot send a token."),
        ("Last-Event-ID" = Option<String>, Header, description = "Id of the last event that the client received"),
    ),
    responses(
        (status = 200, description = "The stream of events", body = String, content_type = "text/event-stream"),
        ProblemResponse<400>, ProblemResponse<401>, ProblemResponse<403>, ProblemResponse<503>,
    )
)]
pub(crate) async fn events(
    State(shared): State<ApiState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    extensions: Extensions,
) -> Response {
    let lease = extensions.get::<Arc<TicketLease>>().cloned();
    let opened = match request(query.as_deref(), &headers) {
        Ok(request) => shared.backend.stream(request).await,
        Err(problem) => Err(problem),
    };
    match opened {
        Ok(items) => {
            let frames = items.map(move |item| {
                if let (Some(lease), StreamItem::Ready(_, ready)) = (&lease, &item) {
                    lease.opened(&ready.stream);
                }
                Ok::<_, std::convert::Infallible>(frame(&item))
            });
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

fn request(query: Option<&str>, headers: &HeaderMap) -> Result<StreamRequest, Problem> {
    let mut request = StreamRequest::default();
    for (name, value) in query::parse(query, &["pattern", "exchange", LAST_EVENT_ID_PARAMETER, TICKET])? {
        match name.as_str() {
            "pattern" => request.patterns.extend(value.split(',').map(|pattern| pattern.trim().to_owned())),
            "exchange" => request.exchange = Some(value),
            // `last_event_id` reads the id.
            _ => {}
        }
    }
    // The header of a browser is newer than the id in the URL, because the page set the URL at the beginning.
    if let Some(given) = headers.get(LAST_EVENT_ID) {
        given.to_str().map_err(|_| Problem::bad_request("Last-Event-ID must be ASCII text"))?;
    }
    // The check of the stream ticket reads the same id, also if the query has several ids.
    request.last_event_id = last_event_id(query, headers).filter(|id| !id.is_empty());
    Ok(request)
}

fn frame(item: &StreamItem) -> Bytes {
    // Structures of strings cannot fail to be serialised. JSON in one line has no line break.
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
    use crate::view::stream::StreamGap;

    #[test]
    fn a_request_is_read_from_query_and_header() {
        let mut headers = HeaderMap::new();
        let query = Some("pattern=a.*,b&pattern=%23&exchange=x&last-event-id=t.1&ticket=abc");
        let read = request(query, &headers).expect("good");
        assert_eq!(read.patterns, ["a.*", "b", "#"]);
        assert_eq!((read.exchange.as_deref(), read.last_event_id.as_deref()), (Some("x"), Some("t.1")));
        headers.insert(LAST_EVENT_ID, "t.2".parse().expect("a value"));
        assert_eq!(request(None, &headers).expect("good").last_event_id.as_deref(), Some("t.2"));
        assert!(request(Some("patern=a"), &headers).is_err());
    }

    /// A stream ticket that only resumes its own stream must not open another stream with a second id.
    #[test]
    fn the_ticket_and_the_stream_have_the_same_last_event_id() {
        let none = HeaderMap::new();
        for query in
            ["last-event-id=t.1&last-event-id=", "last-event-id=t.1&pattern=a&last-event-id=u.2", "last-event-id=t.1"]
        {
            assert_eq!(request(Some(query), &none).expect("good").last_event_id.as_deref(), Some("t.1"), "{query}");
            assert_eq!(last_event_id(Some(query), &none).as_deref(), Some("t.1"), "{query}");
        }
        assert_eq!(request(Some("last-event-id=&last-event-id=t.1"), &none).expect("good").last_event_id, None);
    }

    #[test]
    fn a_frame_is_what_event_source_reads() {
        let gap = StreamGap { reason: "overflow", detail: "d".to_owned() };
        assert_eq!(frame(&StreamItem::Gap(gap)), "event: gap\ndata: {\"reason\":\"overflow\",\"detail\":\"d\"}\n\n");
        assert_eq!(frame(&StreamItem::KeepAlive), ": keep-alive\n\n");
    }
}
