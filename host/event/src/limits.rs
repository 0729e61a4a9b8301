//! Bounds of the wire, checked before a client library gets a message. Measured on RabbitMQ 3.10.8: a longer short string
//! panics in the client library, larger headers close the connection (501), and a larger body closes the channel (406).

use std::sync::atomic::{AtomicUsize, Ordering};

/// Largest length of an AMQP 0-9-1 `shortstr`.
pub const SHORT_STRING_MAX_BYTES: usize = 255;
/// Largest encoded size of all headers together: half of the frame that every broker accepts (131 072 bytes).
pub const HEADERS_MAX_BYTES: usize = 64 * 1024;
/// Space in the frame for the other properties of a message: eight short strings, numbers, and the frame itself.
const OTHER_PROPERTIES_BYTES: usize = 3 * 1024;
/// Smallest bound of the headers: Trunkline's own headers fit, cut short.
const HEADERS_LEAST_BYTES: usize = 1024;

static HEADERS: AtomicUsize = AtomicUsize::new(HEADERS_MAX_BYTES);

/// Largest encoded size of all headers of a message, in bytes. AMQP 0-9-1 sends properties in one frame, and a broker may
/// take small frames only.
#[must_use]
pub fn headers_max_bytes() -> usize {
    HEADERS.load(Ordering::Relaxed)
}

/// Notes the largest frame that the broker of this process takes, in bytes; 0 when the broker has no bound.
pub fn agreed_frame_max(bytes: u32) {
    let room = match usize::try_from(bytes) {
        Ok(0) | Err(_) => HEADERS_MAX_BYTES,
        Ok(bytes) => bytes.saturating_sub(OTHER_PROPERTIES_BYTES).clamp(HEADERS_LEAST_BYTES, HEADERS_MAX_BYTES),
    };
    HEADERS.store(room, Ordering::Relaxed);
}

/// Largest body: the default `max_message_size` of RabbitMQ 3.10. From 4.0 on the default is 16 MiB, but a broker takes
/// back a larger body that it delivered.
pub const BODY_MAX_BYTES: usize = 128 * 1024 * 1024;

/// A bound of the wire that a message breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// A property that AMQP encodes as `shortstr` is too long.
    #[error("{field} has {bytes} bytes; the limit of AMQP is {max} bytes", max = SHORT_STRING_MAX_BYTES)]
    ShortString {
        /// The property or header name.
        field: String,
        /// Its length in bytes.
        bytes: usize,
    },
    /// All headers together are too large.
    #[error("the headers have {bytes} bytes; the limit is {max} bytes")]
    Headers {
        /// Their encoded size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The body is too large; its size in bytes.
    #[error("the body has {0} bytes; the limit is {max} bytes", max = BODY_MAX_BYTES)]
    Body(usize),
    /// `expiration` must be an integer as text, else the broker closes the channel (406).
    #[error("expiration {0:?} is not a whole number of milliseconds")]
    Expiration(String),
}
