//! The words of the domain, without I/O: messages, events, outcomes, reasons, names, topic patterns, and the signature of
//! the daemon's own headers.
//!
//! A *delivery* brings a [`Message`]. An [`Event`] is the part of the message that a plugin receives, and an [`Emission`] is
//! a new event that a plugin returns. This crate knows no broker, no engine and no file.

#![deny(unsafe_code)]

mod byte_order_mark;
mod clock;
mod content_coding;
mod emission_id;
mod event;
mod header_key;
mod headers;
pub mod limits;
mod message;
mod name;
mod outcome;
mod pattern;
mod reason;

pub use byte_order_mark::without_byte_order_mark;
pub use clock::{millis, now_ms, timestamp_since_epoch};
pub use content_coding::{CONTENT_CODINGS, ContentCodingError, decode_compression, decode_content};
pub use emission_id::emission_id;
pub use event::{Emission, Event};
pub use header_key::{HeaderKey, KEY_MIN_BYTES, OWN_PREFIX, Trust};
pub use headers::{HeaderValue, Headers};
pub use limits::LimitError;
pub use message::{KEPT_PREFIX, Message, Properties};
pub use name::{ExchangeName, NameError, PATTERN_WORDS_MAX, PluginName, QueueName, RouteName, RoutingKey};
pub use outcome::{CallFailure, CallOutcome};
pub use pattern::PatternSet;
pub use reason::Reason;
