//! Access to the strings of `[plugins.NAME].config` in routes.toml (`wasi:config/store`).

use std::time::Duration;

use crate::Failure;
use crate::time;

/// Returns the value of a key.
#[must_use]
pub fn get(key: &str) -> Option<String> {
    read(key)
}

/// Returns the value of a key as a number, or a default when the key is not set.
///
/// # Errors
/// Returns a retry when the value is not a number. The operator can correct the value while the event waits.
pub fn number(key: &str, default: f64) -> Result<f64, Failure> {
    parsed(key, default, "not a number", |text| text.parse().ok())
}

/// Returns the value of a key as a duration such as `90s`, `5m`, `2h` or `1d`, or a default when the key is not set.
///
/// # Errors
/// Fails as [`number`] does.
pub fn duration(key: &str, default: Duration) -> Result<Duration, Failure> {
    parsed(key, default, "not a duration such as 90s, 5m, 2h or 1d", time::parse_duration)
}

/// Returns the value of a key, read by `parse`, or a default when the key is not set. `problem` completes the sentence
/// "the value is ...", for example with "not a number".
///
/// # Errors
/// Returns a retry when `parse` returns `None`. The operator can correct the value while the event waits.
pub fn parsed<T>(key: &str, default: T, problem: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Failure> {
    match get(key) {
        None => Ok(default),
        Some(text) => parse(&text).ok_or_else(|| Failure::retry(format!("config {key:?} is {text:?}: {problem}"))),
    }
}

/// Returns the comma-separated texts of a key, trimmed and without empty texts. The list is empty when the key is not
/// set.
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
        assert!(
            matches!(failure, Err(Failure::Retry { ref reason, .. }) if reason.contains("\"long\": not a duration"))
        );
        testing::set_config("words", " a b,, c ,");
        assert_eq!((list("words"), list("none")), (vec!["a b".to_owned(), "c".to_owned()], vec![]));
    }
}
