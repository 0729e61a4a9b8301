//! Delayed publishing on a RabbitMQ without a plugin: the levels, a message on its way, and the exchanges and queues.

mod levels;
mod parts;
mod topology;
mod wrap;

pub(crate) use levels::{DUE, is_level, own_due, queue};
pub(crate) use parts::needed_parts;
pub(crate) use topology::{consumers, count_waiting, declare_all, declare_if_complete, exists, missing_parts};
pub(crate) use wrap::{Delayed, TRIES, addressed_queue, bring_home, end_way, unwrap, wrap};
