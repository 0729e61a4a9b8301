//! The gate between the broker and lapin, on every connection, behind TLS.
//!
//! lapin ends the connection of all routes, or the process, for one message that its parser does not take: a property or a
//! header name that is not UTF-8, a table that is nested too deeply, or a frame that is larger than agreed. Brokers pass such
//! messages on as they were published. The gate rewrites such a message in a form that lapin takes, with a loss header that says
//! what is missing. The message's route then dead-letters it like any other invalid event.
//!
//! Promises: bytes that lapin takes pass unchanged, however they are split. The gate's output is always AMQP 0-9-1. Bytes that
//! are not a message end only their own connection. Memory is bounded by the largest frame. No producer can write the loss header.

mod content;
mod fields;
mod gated_transport;
mod inbound;
mod loss_header;
mod method;
mod outbound;
mod runtime;
mod table;

pub(super) use gated_transport::{GatedTransport, Socket, Transport, TransportControl};
pub use inbound::{Inbound, ProtocolViolation};
pub use loss_header::{LossHeader, UnreadableParts};
pub use outbound::{Outbound, OutboundAction};
pub(super) use runtime::GateRuntime;
