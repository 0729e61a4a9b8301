//! One broker contract with two implementations: RabbitMQ (`amqp`) and the embedded broker (`embedded`).
//!
//! Promises of both implementations, held by the conformance tests:
//! - A [`Receipt`] exists only when every message of a publish is confirmed: each message is in a durable queue, or no queue
//!   was bound for it and the caller accepts that.
//! - [`Delivery`] is moved into `settle`, so a second answer does not compile. An acknowledgement needs a [`Receipt`] or an
//!   explicit reason why nothing was published, so an acknowledgement before the confirm does not compile either.
//! - A delivery that is dropped without an answer stays unacknowledged. It comes back, flagged as redelivered, when its
//!   [`Subscription`] is closed or lost.
//!
//! This crate knows no routes, no plugins and no content of messages.

#![deny(unsafe_code)]

pub mod amqp;
mod broker;
mod dead_letter;
mod dedupe;
mod delivery;
pub mod embedded;
mod error;
mod event_stream_queues;
mod flapping;
mod former_retry_queue;
mod guard;
mod publication;
mod server;
mod statistics;
mod status;
mod subscription;

pub use amqp::Publishing;
pub use broker::Broker;
pub use dead_letter::DELAYED_DEAD_LETTERS;
pub use dedupe::{DedupeLookup, DedupeRecord, SettledAs};
pub use delivery::{Deliveries, Delivery, Next, NothingPublished, Settlement};
pub use error::Error;
pub use event_stream_queues::EventStreamQueues;
pub use former_retry_queue::{FormerRetryQueue, FormerRetryQueues};
pub use publication::{Batch, Confirmed, DELAY_MAX, Passing, Permanent, Publication, Receipt, Refusal, Unpublished};
pub use server::{BrokerServer, ServerVersion};
pub use statistics::{QueueStatistics, Rates, Statistics, StatisticsSource};
pub use status::{BrokerStatus, QueueDepth};
pub use subscription::Subscription;
