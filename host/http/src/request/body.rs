//! Request bodies with limits of size and time, and the `Content-Encoding` of request bodies.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;

use crate::problem::Problem;
use trunkline_event::{ContentCodingError, decode_content};

/// Largest number of further bytes that are read of a body that is too large, so that the client can read the response.
const DISCARD_MAX_BYTES: usize = 16 << 20;
const DISCARD_WITHIN: Duration = Duration::from_secs(5);
/// Time for a whole body. A client that sends byte by byte cannot keep a connection for longer.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// Reads the body, up to `max_bytes`. A client cannot read the response if the connection closes while the client still
/// writes. The rest of a body that is too large is therefore read and discarded, up to a limit. A client that sent
/// `Expect: 100-continue` has not sent the body yet and gets the response at once.
pub(crate) async fn read(headers: &HeaderMap, body: Body, max_bytes: usize) -> Result<Vec<u8>, Problem> {
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
            let mut discarded = 0;
            let discard = async {
                while let Some(Ok(part)) = parts.next().await
                    && discarded < DISCARD_MAX_BYTES
                {
                    discarded += part.len();
                }
            };
            let _enough = tokio::time::timeout(DISCARD_WITHIN, discard).await;
            return Err(Problem::too_large());
        }
        all.extend_from_slice(&part);
    }
    Ok(all)
}

/// The decoded body, up to `max_bytes`. The result is `None` if the body has no content coding.
///
/// # Errors
/// 415 for an unsupported coding, 400 for a body that is not in the named coding, 413 for a decoded body that is too large.
pub(crate) fn decoded(headers: &HeaderMap, body: &[u8], max_bytes: usize) -> Result<Option<Vec<u8>>, Problem> {
    let mut codings = String::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let value =
            value.to_str().map_err(|_| Problem::unsupported_coding("the header `Content-Encoding` must be ASCII"))?;
        // Several headers are one list (RFC 9110 section 5.3).
        codings.push_str(value);
        codings.push(',');
    }
    decode_content(&codings, body, max_bytes).map_err(|error| match error {
        ContentCodingError::Unknown(_) | ContentCodingError::TooMany(_) => {
            Problem::unsupported_coding(error.to_string())
        }
        ContentCodingError::Broken { .. } => Problem::bad_request(error.to_string()),
        ContentCodingError::TooLarge(_) => {
            Problem::too_large_because(format!("{error}; the limit is `max-body` in [http]"))
        }
    })
}

/// Whether `Content-Type` is `application/json`.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// The header `Idempotency-Key`, bare or in quotes (a string of RFC 9651). The key is the id of an event.
///
/// # Errors
/// 400 when the key is empty, longer than 255 characters, or not plain ASCII.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let is_good = (1..=255).contains(&bare.len()) && !bare.contains(['"', '\\']);
    if is_good {
        return Ok(Some(bare.to_owned()));
    }
    Err(Problem::bad_request(
        "the header `Idempotency-Key` must have 1 to 255 ASCII characters, with or without quotation marks",
    ))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn content_encodings() {
        let decode = |values: &[&[u8]], body: &[u8]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_bytes(value).expect("a header"));
            }
            decoded(&headers, body, 8).map_err(|problem| problem.status())
        };
        // zlib with one stored block.
        let stored = |text: &[u8], sum: u32| {
            let length = u16::try_from(text.len()).expect("short");
            let block = [&[0x78, 0x01, 1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), text].concat();
            [&block[..], &sum.to_be_bytes()].concat()
        };
        let body = stored(b"{}", 0x0175_00f9);
        assert_eq!(decode(&[], b"{}"), Ok(None));
        assert_eq!(decode(&[b"identity"], b"{}"), Ok(None));
        assert_eq!(decode(&[b"utf-8"], b"{}"), Ok(None));
        assert_eq!(decode(&[b"deflate"], &body), Ok(Some(b"{}".to_vec())));
        assert_eq!(decode(&[b"identity", b"Deflate"], &body), Ok(Some(b"{}".to_vec())));
        assert_eq!(decode(&[b"deflate"], b"{}"), Err(400));
        assert_eq!(decode(&[b"deflate"], &stored(&[b'x'; 9], 0x1521_0439)), Err(413));
        for unknown in [&b"br"[..], b"zstd", b"gzip, br", b"\xff", b"gzip,gzip,gzip,gzip,gzip"] {
            assert_eq!(decode(&[unknown], b"{}"), Err(415), "{unknown:?}");
        }
    }

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
