//! RabbitMQ, through lapin with its own recovery switched off. lapin's recovery hides outages: a delivery tag of an earlier
//! connection would then acknowledge a message that was never handled.
//!
//! A *session* is a pair of connections with the topology declared. The supervisor makes one session after the other, with
//! jittered backoff, as long as the process lives. Deliveries, publishes and acknowledgements of a lost session are dropped
//! and never sent in the next one.

mod channel;
mod client;
mod connection;
mod consume;
mod delay;
mod features;
pub mod gate;
#[doc(hidden)]
pub mod parts;
mod publish;
mod queue;
mod relay;
mod topology;

pub use client::AmqpClient;
pub(super) use client::header_key;
pub(super) use connection::Endpoint;
pub use connection::{CLIENT_LOG_DIRECTIVES, is_fit_to_log};
pub use consume::{AmqpAckHandle, AmqpSubscription};
pub use publish::Publishing;
pub use topology::OperatorCommands;
