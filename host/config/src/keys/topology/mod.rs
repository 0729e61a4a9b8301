//! Keys of exchanges and queues.

pub(crate) mod exchange;
pub(crate) mod queue;
