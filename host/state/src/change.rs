//! Changes of the state, their results, and their bounds.

use super::error::Error;

/// Length of the longest key in bytes.
pub const KEY_MAX_BYTES: usize = 1024;
/// Length of the longest value in bytes.
pub const VALUE_MAX_BYTES: usize = 1 << 20;
/// Most keys of one change, and most values of one read.
pub const BATCH_MAX: usize = 1000;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateChange {
    /// Writes all values, or none of them.
    Set(Vec<(String, Vec<u8>)>),
    /// Removes keys. A key that does not exist is not an error.
    Delete(Vec<String>),
    /// Adds to a decimal number. A key that does not exist counts as 0.
    Increment(String, i64),
    /// Writes a value if the key still has the value that was seen.
    Swap {
        /// The key.
        key: String,
        /// The value that was seen; `None` if the key did not exist.
        seen: Option<Vec<u8>>,
        /// The new value.
        value: Vec<u8>,
    },
}

/// Result of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeResult {
    /// The change was made.
    Done,
    /// The number after an increment.
    Number(i64),
    /// A swap was not made, because the key has this value now.
    Other(Option<Vec<u8>>),
}

/// Keys of a key space in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<String>,
    /// The last key, if further keys follow.
    pub cursor: Option<String>,
}

/// Checks a change against the bounds, whatever the store holds.
pub(crate) fn check(change: &StateChange) -> Result<(), Error> {
    let key = |key: &str| match key.len() {
        1..=KEY_MAX_BYTES => Ok(()),
        length => Err(Error::Unfit(format!("the key has {length} bytes, but must have 1 to {KEY_MAX_BYTES} bytes"))),
    };
    let value = |value: &[u8]| match value.len() {
        ..=VALUE_MAX_BYTES => Ok(()),
        length => Err(Error::Unfit(format!("the value has {length} bytes; the limit is {VALUE_MAX_BYTES} bytes"))),
    };
    let count = |count: usize| match count {
        ..=BATCH_MAX => Ok(()),
        _ => Err(Error::Unfit(format!("the host call has {count} keys; the limit is {BATCH_MAX} keys"))),
    };
    match change {
        StateChange::Set(pairs) => {
            count(pairs.len())?;
            pairs.iter().try_for_each(|(name, bytes)| key(name).and_then(|()| value(bytes)))
        }
        StateChange::Delete(keys) => count(keys.len()).and_then(|()| keys.iter().try_for_each(|name| key(name))),
        StateChange::Increment(name, _) => key(name),
        StateChange::Swap { key: name, seen: _, value: bytes } => key(name).and_then(|()| value(bytes)),
    }
}
