//! State that outlives an event (`wasi:keyvalue`), granted by `allow.kv = true` in `[plugins.NAME]`. Each tenant has
//! its own state, and all events without a tenant share one state. A write stays when the call fails later, and a
//! redelivery writes again. [`crate::document::Document`] applies each event once.
//!
//! Every error becomes a retry, because the operator can raise a quota or make room on the disk while the event waits.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;

/// Reason why the state was not read or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(pub String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "state: {}", self.0)
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::retry(error.to_string())
    }
}

/// Returns the value of a key.
///
/// # Errors
/// Fails when the state cannot be read.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    backend::get(key)
}

/// Deserialises the JSON value of a key.
///
/// # Errors
/// Fails when the value cannot be read, or is not JSON of the type.
pub fn get_json<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    let Some(bytes) = get(key)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| Error(format!("{key:?}: {error}")))
}

/// Writes a value of at most 1 MiB under a key of at most 1 KiB.
///
/// # Errors
/// Fails when the value was not written, for example because of the quota.
pub fn set(key: &str, value: &[u8]) -> Result<(), Error> {
    backend::set(key, value)
}

/// Writes a value as JSON.
///
/// # Errors
/// Fails as [`set`] does, and when the value has no JSON form.
pub fn set_json<T: Serialize>(key: &str, value: &T) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error(format!("{key:?}: {error}")))?;
    set(key, &bytes)
}

/// Removes a key, if the key exists.
///
/// # Errors
/// Fails when the state cannot be changed.
pub fn delete(key: &str) -> Result<(), Error> {
    backend::delete(key)
}

/// Returns whether a key exists.
///
/// # Errors
/// Fails when the state cannot be read.
pub fn exists(key: &str) -> Result<bool, Error> {
    backend::exists(key)
}

/// Returns all keys, in order.
///
/// # Errors
/// Fails when the state cannot be read.
pub fn keys() -> Result<Vec<String>, Error> {
    backend::keys()
}

/// Adds to a number that begins at 0, and returns the sum. The addition is atomic.
///
/// # Errors
/// Fails when the value is not a number, or the state cannot be changed.
pub fn increment(key: &str, by: i64) -> Result<i64, Error> {
    backend::increment(key, by)
}

/// Writes a value if the key still has the value `seen`. Returns whether the value was written.
///
/// # Errors
/// Fails when the state cannot be read or changed.
pub fn compare_and_set(key: &str, seen: Option<&[u8]>, value: &[u8]) -> Result<bool, Error> {
    backend::compare_and_set(key, seen, value)
}

/// Computes a new value from the old value and returns the new value. `change` runs again when another call wrote the
/// key meanwhile.
///
/// # Errors
/// Returns the failure of `change`, or a retry when the state cannot be read or changed.
pub fn update(
    key: &str,
    mut change: impl FnMut(Option<&[u8]>) -> Result<Vec<u8>, Failure>,
) -> Result<Vec<u8>, Failure> {
    loop {
        let seen = get(key)?;
        let value = change(seen.as_deref())?;
        if compare_and_set(key, seen.as_deref(), &value)? {
            return Ok(value);
        }
    }
}

#[cfg(target_family = "wasm")]
mod backend {
    use super::Error;
    use crate::bindings::wasi::keyvalue::atomics::{self, Cas, CasError};
    use crate::bindings::wasi::keyvalue::store::{self, Bucket};

    fn error(error: store::Error) -> Error {
        Error(match error {
            store::Error::NoSuchStore => "the store does not exist".to_owned(),
            store::Error::AccessDenied => "access is denied".to_owned(),
            store::Error::Other(text) => text,
        })
    }

    fn open() -> Result<Bucket, Error> {
        store::open("default").map_err(error)
    }

    pub(super) fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
        open()?.get(key).map_err(error)
    }

    pub(super) fn set(key: &str, value: &[u8]) -> Result<(), Error> {
        open()?.set(key, value).map_err(error)
    }

    pub(super) fn delete(key: &str) -> Result<(), Error> {
        open()?.delete(key).map_err(error)
    }

    pub(super) fn exists(key: &str) -> Result<bool, Error> {
        open()?.exists(key).map_err(error)
    }

    pub(super) fn keys() -> Result<Vec<String>, Error> {
        let (bucket, mut found, mut cursor) = (open()?, Vec::new(), None);
        loop {
            let page = bucket.list_keys(cursor.as_deref()).map_err(error)?;
            found.extend(page.keys);
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(found);
            }
        }
    }

    pub(super) fn increment(key: &str, by: i64) -> Result<i64, Error> {
        atomics::increment(&open()?, key, by).map_err(error)
    }

    pub(super) fn compare_and_set(key: &str, seen: Option<&[u8]>, value: &[u8]) -> Result<bool, Error> {
        let cas = Cas::new(&open()?, key).map_err(error)?;
        if cas.current().map_err(error)?.as_deref() != seen {
            return Ok(false);
        }
        match atomics::swap(cas, value) {
            Ok(()) => Ok(true),
            Err(CasError::CasFailed(_)) => Ok(false),
            Err(CasError::StoreError(problem)) => Err(error(problem)),
        }
    }
}

#[cfg(not(target_family = "wasm"))]
use crate::testing::state as backend;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_fake_does_what_the_host_does() {
        assert_eq!(increment("n", 2), Ok(2));
        assert_eq!(increment("n", -3), Ok(-1));
        assert_eq!(get("n"), Ok(Some(b"-1".to_vec())));
        set_json("j", &[1, 2]).expect("set");
        assert_eq!(get_json::<Vec<u8>>("j"), Ok(Some(vec![1, 2])));
        assert!(increment("j", 1).is_err(), "the value is not a number");
        assert_eq!(compare_and_set("c", None, b"1"), Ok(true));
        assert_eq!(compare_and_set("c", None, b"2"), Ok(false));
        let longer = update("c", |seen| Ok([seen.unwrap_or_default(), b"+".as_slice()].concat()));
        assert_eq!(longer, Ok(b"1+".to_vec()));
        assert_eq!(keys(), Ok(vec!["c".to_owned(), "j".to_owned(), "n".to_owned()]));
        delete("c").expect("deleted");
        assert_eq!(exists("c"), Ok(false));
        testing::fail_state(Some("the disk is full"));
        assert_eq!(Failure::from(get("n").expect_err("it fails")), Failure::retry("state: the disk is full"));
        testing::fail_state(None);
    }
}
