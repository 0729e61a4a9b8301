//! The broker in the daemon: topic, direct, fanout and headers exchanges, and durable queues in redb.
//!
//! The embedded broker keeps these promises:
//! - A confirmed publish is on disk and survives a kill at any moment. One sync serves all publishes of a transaction.
//! - A publish of several messages is stored whole or not at all.
//! - A message that a queue gives up (TTL, length, delivery limit) moves to its dead-letter target in one transaction.
//! - After a failed write nothing is confirmed until the store was closed and opened again, which begins another
//!   session. After any failure but a full disk the file is read and checked before it is used again.
//! - One thread reads and writes the store. The lock on the state in memory is never held across a disk access.
//!
//! The folders import each other in this order: `store`, `damage`, `state`, `plan`, `writer`, `client`. The embedded
//! broker knows no route. A lock on the directory keeps a second process out.

mod client;
mod damage;
mod plan;
mod state;
mod store;
mod writer;

pub use client::{EmbeddedAckHandle, EmbeddedBroker, EmbeddedSubscription};
pub use damage::{RepairReport, messages_in, repair};
pub(crate) use store::directory;
