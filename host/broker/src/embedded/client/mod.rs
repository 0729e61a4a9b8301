//! The interface of the embedded broker to the rest of the daemon.

mod ack;
mod broker;
mod publish;
mod statistics;
mod streams;
mod subscription;
mod topology;

#[cfg(test)]
mod tests;

pub use ack::EmbeddedAckHandle;
pub use broker::EmbeddedBroker;
pub use subscription::EmbeddedSubscription;
