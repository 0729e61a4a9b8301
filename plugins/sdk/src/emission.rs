//! What a plugin gives back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Failure;

/// Room that most payloads fit into, so that they are not moved while they are written.
const JSON_BYTES: usize = 1024;

/// One new event. The host gives it an id that is the same when the input is delivered again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Emission {
    /// What happened.
    pub kind: String,
    /// The payload.
    pub data: Vec<u8>,
    /// Media type; `application/json` when absent.
    pub content_type: Option<String>,
    /// Overrides the route's key.
    pub routing_key: Option<String>,
    /// What it is about.
    pub subject: Option<String>,
    /// Further attributes.
    pub attributes: Vec<(String, String)>,
    /// AMQP priority.
    pub priority: Option<u8>,
    /// Takes the place of the position in the id.
    pub dedupe_key: Option<String>,
    /// Deliver no sooner than this.
    pub deliver_after_ms: Option<u64>,
}

impl Emission {
    /// An event with a JSON payload.
    ///
    /// # Errors
    /// A rejection when the value has no JSON form, such as a map whose keys are no strings.
    pub fn json<T: Serialize>(kind: &str, data: &T) -> Result<Self, Failure> {
        let mut bytes = Vec::with_capacity(JSON_BYTES);
        serde_json::to_writer(&mut bytes, data).map_err(|error| Failure::reject(format!("{kind}: {error}")))?;
        Ok(Self { kind: kind.to_owned(), data: bytes, ..Self::default() })
    }

    /// An event with any payload.
    #[must_use]
    pub fn bytes(kind: &str, content_type: &str, data: Vec<u8>) -> Self {
        Self { kind: kind.to_owned(), data, content_type: Some(content_type.to_owned()), ..Self::default() }
    }

    /// Publishes with this key instead of the route's.
    #[must_use]
    pub fn routing_key(self, key: impl Into<String>) -> Self {
        Self { routing_key: Some(key.into()), ..self }
    }

    /// Says what it is about.
    #[must_use]
    pub fn subject(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }

    /// Adds an attribute: lower-case letters, digits, `-` and `_`.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// Sets the AMQP priority.
    #[must_use]
    pub fn priority(self, priority: u8) -> Self {
        Self { priority: Some(priority), ..self }
    }

    /// Makes the id depend on this key and not on the position.
    #[must_use]
    pub fn dedupe_key(self, key: impl Into<String>) -> Self {
        Self { dedupe_key: Some(key.into()), ..self }
    }

    /// Delivers no sooner than after this time, in whole milliseconds.
    #[must_use]
    pub fn deliver_after(self, delay: Duration) -> Self {
        Self { deliver_after_ms: Some(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)), ..self }
    }

    /// The payload as a type, for tests.
    ///
    /// # Errors
    /// When the payload does not fit the type.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.data)
    }
}
