//! The signed bytes of requests, for the signature scheme of each sender. The tests are in `proof`.

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use trunkline_config::{MacDigits, STANDARD_SECRET_PREFIX, Secret, SignatureScheme};

use crate::problem::Problem;

/// Largest difference of a signed timestamp from the daemon's clock, in seconds. An older request may be a replay.
const TIMESTAMP_SECONDS_MAX: u64 = 300;
/// Largest number of signatures of one request. A sender sends two signatures during a rotation.
const SIGNATURES_MAX: usize = 16;

/// The prefixes of the headers of Standard Webhooks. Svix has a prefix of its own.
const STANDARD_PREFIXES: [&str; 2] = ["webhook", "svix"];

/// The signed bytes of a request, in parts, and the signatures of the request.
#[derive(Debug, Default)]
pub(super) struct SignedRequest<'a> {
    pub(super) parts: Vec<&'a [u8]>,
    pub(super) signatures: Vec<Vec<u8>>,
}

/// The response to a wrong signature.
pub(super) fn wrong() -> Problem {
    Problem::unauthorized_because(
        "the signature of the request is missing or wrong; sign the request with the secret of the hook",
    )
}

/// The text of a header.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

/// The bytes of a signature. The list is empty if the text is not a signature.
pub(super) fn mac(text: &str, digits: MacDigits) -> Vec<Vec<u8>> {
    let decoded = match digits {
        MacDigits::Hex => hex::decode(text).ok(),
        MacDigits::Base64 => STANDARD.decode(text).ok(),
    };
    decoded.into_iter().collect()
}

/// The key of the HMAC.
pub(super) fn key(scheme: SignatureScheme, secret: &Secret) -> Vec<u8> {
    let text = secret.expose();
    match scheme {
        SignatureScheme::Standard => {
            STANDARD.decode(text.strip_prefix(STANDARD_SECRET_PREFIX).unwrap_or(text)).unwrap_or_default()
        }
        // A secret without the prefix is the secret in the header and signs nothing.
        SignatureScheme::PlainOrStandard { .. } => {
            let base64 = text.strip_prefix(STANDARD_SECRET_PREFIX);
            base64.and_then(|base64| STANDARD.decode(base64).ok()).unwrap_or_default()
        }
        SignatureScheme::OfBody { .. }
        | SignatureScheme::Plain { .. }
        | SignatureScheme::InAddress { .. }
        | SignatureScheme::Stripe
        | SignatureScheme::Slack => text.as_bytes().to_vec(),
    }
}

/// Whether one of the signatures is valid for the bytes.
pub(super) fn is_signed(key: &[u8], request: &SignedRequest<'_>) -> bool {
    // With an empty key, every sender could sign a request.
    let Some(mut mac) = Hmac::<Sha256>::new_from_slice(key).ok().filter(|_| !key.is_empty()) else { return false };
    for part in &request.parts {
        mac.update(part);
    }
    request.signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok())
}

/// Checks that a signed timestamp is not too old and not too far in the future.
fn check_time(given: &str, now: u64) -> Result<(), Problem> {
    let time = given.parse::<u64>().map_err(|_not_a_number| wrong())?;
    if time.abs_diff(now) <= TIMESTAMP_SECONDS_MAX {
        return Ok(());
    }
    let why = format!(
        "the timestamp of the request differs from the daemon's clock by {} s; the limit is {TIMESTAMP_SECONDS_MAX} s",
        time.abs_diff(now)
    );
    Err(Problem::unauthorized_because(why))
}

/// The signed request of Stripe.
///
/// # Errors
/// 401 if a part is missing or the timestamp differs too much from the clock.
pub(super) fn stripe<'a>(headers: &'a HeaderMap, body: &'a [u8], now: u64) -> Result<SignedRequest<'a>, Problem> {
    let given = text(headers, "stripe-signature").ok_or_else(wrong)?;
    let mut request = SignedRequest::default();
    for (name, value) in given.split(',').take(SIGNATURES_MAX).filter_map(|part| part.trim().split_once('=')) {
        match name {
            "t" if request.parts.is_empty() => {
                check_time(value, now)?;
                request.parts = vec![value.as_bytes(), b".", body];
            }
            "v1" => request.signatures.extend(mac(value, MacDigits::Hex)),
            // Other names belong to other schemes.
            _ => {}
        }
    }
    // Without a timestamp, the signed bytes are unknown.
    if request.parts.is_empty() { Err(wrong()) } else { Ok(request) }
}

pub(super) fn slack<'a>(headers: &'a HeaderMap, body: &'a [u8], now: u64) -> Result<SignedRequest<'a>, Problem> {
    let time = text(headers, "x-slack-request-timestamp").ok_or_else(wrong)?;
    let given = text(headers, "x-slack-signature").and_then(|given| given.strip_prefix("v0=")).ok_or_else(wrong)?;
    check_time(time, now)?;
    Ok(SignedRequest {
        parts: vec![b"v0:".as_slice(), time.as_bytes(), b":", body],
        signatures: mac(given, MacDigits::Hex),
    })
}

/// Whether a request has a signature of Standard Webhooks, valid or not.
pub(super) fn has_standard(headers: &HeaderMap) -> bool {
    STANDARD_PREFIXES.iter().any(|prefix| headers.contains_key(format!("{prefix}-signature")))
}

pub(super) fn standard<'a>(headers: &'a HeaderMap, body: &'a [u8], now: u64) -> Result<SignedRequest<'a>, Problem> {
    let part = |name: &str| {
        let [own, svix] = STANDARD_PREFIXES.map(|prefix| text(headers, &format!("{prefix}-{name}")));
        own.or(svix).ok_or_else(wrong)
    };
    let (id, time, given) = (part("id")?, part("timestamp")?, part("signature")?);
    check_time(time, now)?;
    let versions = given.split_whitespace().take(SIGNATURES_MAX).filter_map(|one| one.strip_prefix("v1,"));
    let signatures = versions.flat_map(|one| mac(one, MacDigits::Base64)).collect();
    Ok(SignedRequest { parts: vec![id.as_bytes(), b".", time.as_bytes(), b".", body], signatures })
}
