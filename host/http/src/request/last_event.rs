//! The id of the last event that the client of a stream received.

use axum::http::{HeaderMap, HeaderName};

use super::query;

/// The header with the id. A browser sends this header when an `EventSource` reconnects.
pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The parameter with the id, for clients that cannot set headers.
pub(crate) const LAST_EVENT_ID_PARAMETER: &str = "last-event-id";

/// The id in a request that may be invalid. The header has precedence.
pub(crate) fn last_event_id(query: Option<&str>, headers: &HeaderMap) -> Option<String> {
    let in_header = headers.get(LAST_EVENT_ID).and_then(|given| given.to_str().ok()).map(str::to_owned);
    in_header.or_else(|| query::value(query, LAST_EVENT_ID_PARAMETER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_precedence() {
        let (query, mut headers) = (Some("pattern=a&last-event-id=t.1"), HeaderMap::new());
        assert_eq!(last_event_id(None, &headers), None);
        assert_eq!(last_event_id(query, &headers).as_deref(), Some("t.1"));
        headers.insert(LAST_EVENT_ID, "t.2".parse().expect("a value"));
        assert_eq!(last_event_id(query, &headers).as_deref(), Some("t.2"));
    }
}
