//! Bearer tokens and keys.

use crate::diagnostics::codes::Code;
use crate::model::secret::Secret;
use crate::parse::context::ReadContext;
use crate::parse::secret::RawSecret;

/// A shorter token can be guessed.
const TOKEN_MIN_BYTES: usize = 16;

/// The value of a bearer token or key, of at least 16 bytes.
pub(super) fn check(cx: &mut ReadContext<'_>, raw: &RawSecret) -> Option<Secret> {
    match raw.resolve(cx) {
        Ok(secret) if secret.expose().len() >= TOKEN_MIN_BYTES => Some(secret),
        Ok(secret) => {
            let length = secret.expose().len();
            let message = format!("the secret has {length} bytes, but must have at least {TOKEN_MIN_BYTES} bytes");
            cx.error(Code::ShortToken, &raw.place, message).help("make a longer secret with `openssl rand -hex 32`");
            None
        }
        Err(error) => {
            let help = error.remedy();
            cx.error(Code::NoToken, raw.source_place(), error.beside_excerpt()).help(help);
            None
        }
    }
}

/// The value of a token of any length. The token guards only the answer to a handshake.
pub(super) fn check_present(cx: &mut ReadContext<'_>, raw: &RawSecret) -> Option<Secret> {
    match raw.resolve(cx) {
        Ok(secret) if !secret.expose().is_empty() => Some(secret),
        Ok(_) => {
            cx.error(Code::ShortToken, &raw.place, "the token is empty")
                .help("write `token = { env = \"NAME\" }` with the token that you entered at the sender");
            None
        }
        Err(error) => {
            let help = error.remedy();
            cx.error(Code::NoToken, raw.source_place(), error.beside_excerpt()).help(help);
            None
        }
    }
}
