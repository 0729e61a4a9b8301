//! Bodies of requests: bounded, and thrown away politely when they are too large.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;

use super::Problem;

/// What is taken of a body that is too large, so that its sender gets to read the answer.
const THROWN_AWAY_MAX_BYTES: usize = 16 << 20;
const THROW_AWAY_FOR: Duration = Duration::from_secs(5);
/// How long a body may take: who sends it byte by byte holds a connection no longer.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// The body, if it is not too large. A client that sends one that is would not see the answer when its connection was
/// closed while it writes: what comes is thrown away for a while first, unless the client waits to be asked for it.
pub(super) async fn read(headers: &HeaderMap, body: Body, max_bytes: usize) -> Result<Vec<u8>, Problem> {
    let read = tokio::time::timeout(BODY_WITHIN, read_all(headers, body, max_bytes));
    read.await.unwrap_or_else(|_elapsed| Err(Problem::too_slow()))
}

async fn read_all(headers: &HeaderMap, body: Body, max_bytes: usize) -> Result<Vec<u8>, Problem> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if headers.contains_key(header::EXPECT) && length.is_some_and(|length| length > max_bytes) {
        return Err(Problem::too_large());
    }
    let mut parts = body.into_data_stream();
    let mut all = Vec::with_capacity(length.unwrap_or_default().min(max_bytes));
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| Problem::bad_request(error.to_string()))?;
        if all.len() + part.len() > max_bytes {
            let mut thrown_away = 0;
            let throw_away = async {
                while let Some(Ok(part)) = parts.next().await
                    && thrown_away < THROWN_AWAY_MAX_BYTES
                {
                    thrown_away += part.len();
                }
            };
            let _enough = tokio::time::timeout(THROW_AWAY_FOR, throw_away).await;
            return Err(Problem::too_large());
        }
        all.extend_from_slice(&part);
    }
    Ok(all)
}

/// Whether the body says that it is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// The header `Idempotency-Key`, bare or in quotes (a string of RFC 9651), which is the id of an event.
///
/// # Errors
/// When it can be none.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let is_good = (1..=255).contains(&bare.len()) && !bare.contains(['"', '\\']);
    if is_good {
        return Ok(Some(bare.to_owned()));
    }
    Err(Problem::bad_request("Idempotency-Key is 1 to 255 characters of ASCII, bare or in quotes"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn idempotency_keys() {
        let key = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", HeaderValue::from_bytes(value).expect("a header"));
            idempotency_key(&headers)
        };
        assert_eq!(idempotency_key(&HeaderMap::new()), Ok(None));
        assert_eq!(key(b"8e03978e-40d5"), Ok(Some("8e03978e-40d5".to_owned())));
        assert_eq!(key(b" \"8e03978e-40d5\" "), Ok(Some("8e03978e-40d5".to_owned())));
        for bad in [&b""[..], b"\"\"", b"\"a", b"a\\b", "ä".as_bytes(), &[b'k'; 256]] {
            assert!(key(bad).is_err(), "{bad:?}");
        }
    }
}
