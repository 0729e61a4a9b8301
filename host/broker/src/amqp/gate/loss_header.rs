//! The loss header: a header that says what is missing from a rewritten content header.
//!
//! The name of the loss header is random for each process and never leaves it, so that no producer can write the loss header.

use std::fmt::Display;
use std::sync::Arc;

use uuid::Uuid;

use trunkline_event::{HeaderValue, Headers, KEPT_PREFIX, Message};

/// The longest text of a loss header. With it, every property and the loss header's name fit the smallest frame of AMQP.
pub(super) const TEXT_MAX: usize = 512;
/// The entry of the loss header that holds the text.
const TEXT: &str = "text";
/// Complaints beyond this length of the text are only counted.
const TEXT_FULL: usize = TEXT_MAX - 64;

/// A loss header, by the name of its header.
#[derive(Debug, Clone)]
pub struct LossHeader(Arc<str>);

impl LossHeader {
    /// A loss header with a name of 148 random bits, which cannot be guessed.
    #[must_use]
    pub fn random() -> Self {
        let [one, two] = [Uuid::now_v7(), Uuid::now_v7()];
        Self::new(&format!("trunkline-unreadable-{}{}", one.simple(), two.simple()))
    }

    /// A loss header with this name, cut to at most 128 bytes.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name[..name.floor_char_boundary(128)].into())
    }

    /// Removes the loss header from a message that arrived; none when the message came as it was published.
    #[must_use]
    pub fn take(&self, message: &mut Message) -> Option<UnreadableParts> {
        match message.properties.headers.remove(&self.0) {
            Some(HeaderValue::Table(lost)) => Some(UnreadableParts(lost)),
            Some(_) | None => None,
        }
    }

    /// Bytes of the loss header in a table, with the longest text and without kept bytes.
    pub(super) fn bytes_max(&self) -> usize {
        entry_head(&self.0) + entry_head(TEXT) + TEXT_MAX
    }

    /// Writes the loss header as an entry of a table.
    pub(super) fn write(&self, table: &mut Vec<u8>, text: &str, kept: &[(&'static str, &[u8])]) {
        let text = &text[..text.floor_char_boundary(TEXT_MAX)];
        let inside = kept.iter().map(|(name, bytes)| entry_head(name) + bytes.len()).sum::<usize>();
        write_head(table, &self.0, b'F', inside + entry_head(TEXT) + text.len());
        write_head(table, TEXT, b'S', text.len());
        table.extend(text.as_bytes());
        for (name, bytes) in kept {
            write_head(table, name, b'x', bytes.len());
            table.extend(*bytes);
        }
    }
}

/// The content of a loss header: why a message could not be read, and the unreadable parts.
#[derive(Debug)]
pub struct UnreadableParts(Headers);

impl UnreadableParts {
    /// Keeps the unreadable parts in the message as bytes, below `trunkline-kept-`. Returns why the message could not be read.
    /// The caller has removed headers with such names that other programs wrote.
    #[must_use]
    pub fn keep_in(mut self, message: &mut Message) -> String {
        let text = self.0.remove(TEXT).and_then(|text| text.as_str().map(str::to_owned));
        for (name, value) in self.0.iter() {
            message.properties.headers.set(format!("{KEPT_PREFIX}{name}"), value.clone());
        }
        text.unwrap_or_default()
    }
}

/// Bytes of an entry before a value with a length: name, type, length.
pub(super) const fn entry_head(name: &str) -> usize {
    1 + name.len() + 1 + 4
}

fn write_head(table: &mut Vec<u8>, name: &str, kind: u8, bytes: usize) {
    table.push(u8::try_from(name.len()).unwrap_or_default());
    table.extend(name.as_bytes());
    table.push(kind);
    table.extend(u32::try_from(bytes).unwrap_or_default().to_be_bytes());
}

/// The parts of a message that the gate had to leave out, and why.
#[derive(Debug, Default)]
pub(super) struct Losses {
    text: String,
    more: usize,
    /// The parts that were left out, by name, byte for byte.
    pub(super) kept: Vec<(&'static str, Vec<u8>)>,
}

impl Losses {
    pub(super) fn complain(&mut self, complaint: impl Display) {
        let complaint = complaint.to_string();
        if self.text.len() + complaint.len() + 2 > TEXT_FULL {
            self.more += 1;
            return;
        }
        if !self.text.is_empty() {
            self.text.push_str("; ");
        }
        self.text.push_str(&complaint);
    }

    /// Keeps bytes that are not the text that AMQP requires.
    pub(super) fn keep(&mut self, name: &'static str, bytes: &[u8]) {
        self.kept.push((name, bytes.to_vec()));
    }

    /// All complaints as one text.
    pub(super) fn into_text(mut self) -> String {
        if self.more > 0 {
            self.text.push_str(&format!("; and {} more", self.more));
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_event::{ExchangeName, Properties, RoutingKey};

    fn message(headers: Headers) -> Message {
        Message {
            exchange: ExchangeName::default_exchange(),
            routing_key: RoutingKey::new("q").expect("valid"),
            properties: Properties { headers, ..Properties::default() },
            body: bytes::Bytes::new(),
        }
    }

    #[test]
    fn only_a_marker_with_the_right_name_counts() {
        let (loss_header, other) = (LossHeader::random(), LossHeader::random());
        assert_ne!(loss_header.0, other.0);
        let mut lost = Headers::default();
        lost.set(TEXT, "broken");
        lost.set("message-id", HeaderValue::Bytes(vec![0xff]));
        let mut headers = Headers::default();
        headers.set("region", "eu");
        headers.set(loss_header.0.to_string(), HeaderValue::Table(lost));
        let mut arrived = message(headers);
        assert!(other.take(&mut arrived).is_none());
        let unreadable = loss_header.take(&mut arrived).expect("the marker");
        assert_eq!(unreadable.keep_in(&mut arrived), "broken");
        let headers = &arrived.properties.headers;
        assert_eq!(headers.get("trunkline-kept-message-id"), Some(&HeaderValue::Bytes(vec![0xff])));
        assert_eq!((headers.text("region"), headers.iter().count()), (Some("eu"), 2), "and the marker is gone");
        assert!(loss_header.take(&mut arrived).is_none());
    }

    #[test]
    fn complaints_have_an_end() {
        let mut lost = Losses::default();
        for number in 0..1000 {
            lost.complain(format!("header {number} is bad"));
        }
        let text = lost.into_text();
        assert!(text.starts_with("header 0 is bad; header 1 is bad; "), "{text}");
        assert!(text.ends_with(" more") && text.len() <= TEXT_MAX, "{text}");
    }
}
