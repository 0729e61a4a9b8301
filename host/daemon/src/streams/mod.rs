//! Streams of events to HTTP clients.
//!
//! A client that reconnects in time with the id of its last event gets every event after that one, at least once and in
//! order, from any daemon at the same broker. Each stream has a queue of its own
//! ([`EventStreamQueues`](trunkline_broker::EventStreamQueues)). Events that were sent stay unacknowledged until the buffers
//! between the daemon and the client cannot hold them any more (`window`). The queue gives them again when the client
//! reconnects (`running_stream`).

mod event;
mod frames;
mod registry;
mod resume_point;
mod running_stream;
mod selection;
mod window;

pub(crate) use registry::Streams;
