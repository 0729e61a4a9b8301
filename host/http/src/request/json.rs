//! Bodies that contain a JSON object.

use axum::body::Body;
use axum::http::HeaderMap;
use serde::Deserialize;

use super::body;
use crate::backend::ApiState;
use crate::problem::Problem;
use trunkline_event::without_byte_order_mark;

/// Reads a body with the `Content-Type` of JSON. [`object`] parses the text.
pub(crate) async fn read(shared: &ApiState, headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Problem> {
    let body = body::read(headers, body, shared.max_body_bytes).await?;
    if !body::is_json(headers) {
        return Err(Problem::unsupported_media_type());
    }
    Ok(body::decoded(headers, &body, shared.max_body_bytes)?.unwrap_or(body))
}

/// Parses a JSON object. The function ignores a byte order mark before the object. The function refuses a list, because serde would
/// also accept a list of the fields' values.
pub(crate) fn object<'t, T: Deserialize<'t>>(text: &'t [u8]) -> Result<T, Problem> {
    let text = without_byte_order_mark(text);
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_some_and(|first| *first != b'{') {
        return Err(Problem::bad_request("the body must be a JSON object"));
    }
    serde_json::from_slice(text)
        .map_err(|error| Problem::bad_request(format!("the JSON object is invalid for this path: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;

    #[test]
    fn a_byte_order_mark_is_left_out() {
        let read = |text: &str| object::<Map<String, Value>>(text.as_bytes()).map(|object| object.len());
        assert_eq!(read("\u{feff}{\"a\": 1}"), Ok(1));
        assert_eq!(read(" {\"a\": 1}"), Ok(1));
        assert!(read("\u{feff}[1]").is_err());
        assert!(read("\u{feff}").is_err());
    }
}
