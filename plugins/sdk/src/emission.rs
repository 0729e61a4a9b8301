//! Emissions of a handler.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Failure;

/// First capacity of a JSON payload. The buffer does not grow for most payloads.
const JSON_BYTES: usize = 1024;

/// One new event. The host derives the event's id from the input, so that a redelivery gives the same id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Emission {
    /// Event type, for example `planning.task.created`.
    pub kind: String,
    /// The payload.
    pub data: Vec<u8>,
    /// Media type of `data`; `application/json` when absent.
    pub content_type: Option<String>,
    /// Routing key, instead of the route's routing key.
    pub routing_key: Option<String>,
    /// Subject of the event, as in CloudEvents 1.0.
    pub subject: Option<String>,
    /// Attributes of the event, as names and values.
    pub attributes: Vec<(String, String)>,
    /// AMQP priority, 0 to 255.
    pub priority: Option<u8>,
    /// Text from which the host derives the id, instead of the emission's position.
    pub dedupe_key: Option<String>,
    /// Delay of the delivery in milliseconds.
    pub deliver_after_ms: Option<u64>,
}

impl Emission {
    /// Creates an emission with a JSON payload.
    ///
    /// # Errors
    /// Returns a rejection when the value has no JSON form, for example a map with keys that are not strings.
    pub fn json<T: Serialize>(kind: &str, data: &T) -> Result<Self, Failure> {
        let mut bytes = Vec::with_capacity(JSON_BYTES);
        serde_json::to_writer(&mut bytes, data).map_err(|error| Failure::reject(format!("{kind}: {error}")))?;
        Ok(Self { kind: kind.to_owned(), data: bytes, ..Self::default() })
    }

    /// Creates an emission with a payload of any media type.
    #[must_use]
    pub fn bytes(kind: &str, content_type: &str, data: Vec<u8>) -> Self {
        Self { kind: kind.to_owned(), data, content_type: Some(content_type.to_owned()), ..Self::default() }
    }

    /// Sets the routing key, instead of the route's routing key.
    #[must_use]
    pub fn routing_key(self, key: impl Into<String>) -> Self {
        Self { routing_key: Some(key.into()), ..self }
    }

    /// Sets the subject.
    #[must_use]
    pub fn subject(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }

    /// Adds an attribute. A name has at most 64 lower-case letters, digits, `-` and `_`.
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

    /// Sets the text from which the id is derived, instead of the emission's position.
    #[must_use]
    pub fn dedupe_key(self, key: impl Into<String>) -> Self {
        Self { dedupe_key: Some(key.into()), ..self }
    }

    /// Delays the delivery by this time, in whole milliseconds.
    #[must_use]
    pub fn deliver_after(self, delay: Duration) -> Self {
        Self { deliver_after_ms: Some(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)), ..self }
    }

    /// Deserialises the payload, for tests.
    ///
    /// # Errors
    /// Fails when the payload does not fit the type.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.data)
    }
}
