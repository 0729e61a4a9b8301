//! What a plugin is handed.

use serde::Deserialize;

use crate::Failure;

/// One event; see `trunkline:plugin/types.event` for what the host promises of each field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// Identity, the same for every attempt.
    pub id: String,
    /// Who made it.
    pub source: String,
    /// What happened, e.g. `call.ended`.
    pub kind: String,
    /// What it is about.
    pub subject: Option<String>,
    /// When it happened, RFC 3339.
    pub time: Option<String>,
    /// Media type of `data`.
    pub content_type: String,
    /// The payload, without an envelope.
    pub data: Vec<u8>,
    /// The key it was published with.
    pub routing_key: String,
    /// The exchange it was published to.
    pub exchange: String,
    /// The organisation it belongs to; the host stamps it on every emission.
    pub tenant: Option<String>,
    /// The user it belongs to; the host stamps it on every emission.
    pub user: Option<String>,
    /// 1 for the first try.
    pub attempt: u32,
    /// Further attributes.
    pub attributes: Vec<(String, String)>,
}

impl Event {
    /// The payload as a type.
    ///
    /// # Errors
    /// A rejection that says what is wrong with the payload and where: the same bytes will not fit later either.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        // As a whole and once: serde_json's own look passes over texts that nobody asked for.
        let text = std::str::from_utf8(&self.data);
        let text = text.map_err(|error| Failure::reject(format!("{}: no UTF-8: {error}", self.kind)))?;
        serde_json::from_str(text).map_err(|error| Failure::reject(format!("{}: {error}", self.kind)))
    }

    /// The value of an attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
