//! The protocols of webhooks' senders: the proof of the sender, the handshake, and the events in a body.

pub(crate) mod form;
pub(crate) mod handshake;
pub(crate) mod proof;
mod signed;
