//! Questions of a plugin to its state, and the answers.

use trunkline_state::{ChangeResult, KeyPage, StateChange};

/// A question to the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StateQuestion {
    Get(String),
    Exists(String),
    Keys(Option<String>),
    GetMany(Vec<String>),
    Change(StateChange),
}

/// The answer, of the same kind as the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StateAnswer {
    Value(Option<Vec<u8>>),
    Exists(bool),
    Page(KeyPage),
    Values(KeyValues),
    Changed(ChangeResult),
}

/// Answer of `get-many`: keys with their values, in the order of the question.
pub(crate) type KeyValues = Vec<Option<(String, Vec<u8>)>>;

impl StateQuestion {
    /// Bytes of keys and values.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Get(key) | Self::Exists(key) | Self::Change(StateChange::Increment(key, _)) => key.len(),
            Self::Keys(cursor) => cursor.as_ref().map_or(0, String::len),
            Self::GetMany(keys) | Self::Change(StateChange::Delete(keys)) => keys.iter().map(String::len).sum(),
            Self::Change(StateChange::Set(pairs)) => pairs.iter().map(|(key, value)| key.len() + value.len()).sum(),
            Self::Change(StateChange::Swap { key, seen, value }) => {
                key.len() + seen.as_ref().map_or(0, Vec::len) + value.len()
            }
        }
    }
}

impl StateAnswer {
    /// Bytes of keys and values.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Value(value) | Self::Changed(ChangeResult::Other(value)) => value.as_ref().map_or(0, Vec::len),
            Self::Page(page) => page.keys.iter().map(String::len).sum(),
            Self::Values(values) => values.iter().flatten().map(|(key, value)| key.len() + value.len()).sum(),
            Self::Exists(_) | Self::Changed(ChangeResult::Done | ChangeResult::Number(_)) => 0,
        }
    }
}
