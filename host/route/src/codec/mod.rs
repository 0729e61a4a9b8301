//! Codecs turn a message into an event and an event into a message, so that a plugin never sees an envelope.
//!
//! Decoding is total over hostile input: every message gives an event or a [`CodecError`] with the broken rule and its place. The
//! codecs know no routes and no retries. [`header`] names the own headers that every codec shares.

mod attribute;
mod cloudevents;
mod convert;
mod envelope;
pub mod header;
mod ocelot;
mod raw;

pub use convert::{check_attribute, check_context, decode, encode, without_coding};
pub use envelope::{CodecError, Encoded, Outgoing, given_id, new_id};

#[cfg(test)]
mod tests;
