//! The strings of `[plugins.NAME].config` in routes.toml (`wasi:config/store`).

use std::time::Duration;

use crate::Failure;
use crate::time;

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
    parsed(key, default, "no number", |text| text.parse().ok())
}

/// The value of a key as a length of time such as `90s`, `5m`, `2h` or `1d`, or a default when the key is not set.
///
/// # Errors
/// As [`number`].
pub fn duration(key: &str, default: Duration) -> Result<Duration, Failure> {
    parsed(key, default, "no length of time such as 90s, 5m, 2h or 1d", time::parse_duration)
}

/// The value of a key in a form of the plugin's own, or a default when the key is not set. `wanted` ends the sentence
/// "the value is ... and".
///
/// # Errors
/// A retry when `parse` gives nothing: an operator can mend it while the event waits.
pub fn parsed<T>(key: &str, default: T, wanted: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Failure> {
    match get(key) {
        None => Ok(default),
        Some(text) => parse(&text).ok_or_else(|| Failure::retry(format!("config {key:?} is {text:?} and {wanted}"))),
    }
}

/// The texts of a key between commas, trimmed, without empty ones; nothing when the key is not set.
#[must_use]
pub fn list(key: &str) -> Vec<String> {
    let text = get(key).unwrap_or_default();
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

#[cfg(target_family = "wasm")]
fn read(key: &str) -> Option<String> {
    crate::bindings::wasi::config::store::get(key).ok().flatten()
}

#[cfg(not(target_family = "wasm"))]
fn read(key: &str) -> Option<String> {
    crate::testing::config(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn values_have_types() {
        assert_eq!(duration("wait", Duration::from_secs(9)), Ok(Duration::from_secs(9)));
        testing::set_config("wait", "2m");
        assert_eq!(duration("wait", Duration::ZERO), Ok(Duration::from_secs(120)));
        testing::set_config("wait", "long");
        let failure = duration("wait", Duration::ZERO);
        assert!(matches!(failure, Err(Failure::Retry { ref reason, .. }) if reason.contains("\"long\" and no length")));
        testing::set_config("words", " a b,, c ,");
        assert_eq!((list("words"), list("none")), (vec!["a b".to_owned(), "c".to_owned()], vec![]));
    }
}
