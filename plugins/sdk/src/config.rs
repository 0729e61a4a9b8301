//! The strings of `[plugins.NAME].config` in routes.toml (`wasi:config/store`).

use crate::Failure;

/// The value of a key.
#[must_use]
pub fn get(key: &str) -> Option<String> {
    read(key)
}

/// The value of a key as a number, or a default when the key is not set.
///
/// # Errors
/// A retry when the value is no number: an operator can mend it while the event waits.
pub fn number(key: &str, default: f64) -> Result<f64, Failure> {
    match get(key) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| Failure::retry(format!("config {key:?} is {text:?} and no number"))),
    }
}

#[cfg(target_family = "wasm")]
fn read(key: &str) -> Option<String> {
    crate::bindings::wasi::config::store::get(key).ok().flatten()
}

#[cfg(not(target_family = "wasm"))]
fn read(key: &str) -> Option<String> {
    crate::testing::config(key)
}
