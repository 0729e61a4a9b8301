//! The gate between a broker and lapin, on every connection, behind TLS.
//!
//! lapin ends the connection of all routes, or the process, for one message that its parser does not take: a property or a
//! header's name that is not UTF-8, a table that is nested too deeply, a frame that is larger than agreed. Brokers pass
//! such messages on as they were published. Here they are written anew in a form that lapin takes, with a marker that says
//! what is missing, so that their route dead-letters them like any other event that is not valid.
//!
//! Promises: bytes that lapin takes pass unchanged, in any pieces. What is handed out is always AMQP 0-9-1. Bytes that are no
//! message end their connection only. Memory is bounded by the largest frame. No producer can write the marker.

mod content;
mod fields;
mod inbound;
mod kit;
mod marker;
mod method;
mod outbound;
mod stream;
mod table;

pub use inbound::{Inbound, Violation};
pub(super) use kit::Kit;
pub use marker::{Marker, Unreadable};
pub use outbound::{Outbound, Verdict};
pub(super) use stream::{Line, Socket, Stream, Transport};
