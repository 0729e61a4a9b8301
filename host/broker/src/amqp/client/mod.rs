//! The client of one RabbitMQ: its supervisor, its sessions, and everything that outlives them.

mod active_session;
mod broker;
mod dedupe_store;
mod event_stream;
mod former_retry_queues;
mod header_key;
mod management;
mod open;
mod statistics;
mod supervisor;
mod topology;

pub use broker::AmqpClient;
pub(crate) use header_key::header_key;
