//! The address and the secret of a request, from the configuration.

use trunkline_plugin::http::Request;
use trunkline_plugin::{Failure, config};

/// An address of the configured origin.
pub(crate) fn address(path: &str) -> Result<String, Failure> {
    let origin = config::get("origin").ok_or_else(|| Failure::retry("config \"origin\" is not set"))?;
    Ok(format!("{}{path}", origin.trim_end_matches('/')))
}

/// The name of a WhatsApp number as a part of an address. The name comes from a message, and must not change the rest of
/// the address.
pub(crate) fn segment(instance: &str) -> Result<&str, Failure> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if instance.is_empty() || !instance.bytes().all(is_plain) {
        return Err(Failure::reject(format!(
            "the name of the WhatsApp number is {instance:?}, but must consist of letters, digits, \"-\" and \"_\""
        )));
    }
    Ok(instance)
}

/// Adds the secret as a bearer token.
pub(crate) fn with_bearer(request: Request) -> Request {
    match config::get("SENDER_API_KEY") {
        Some(key) => request.header("authorization", &format!("Bearer {key}")),
        None => request,
    }
}
