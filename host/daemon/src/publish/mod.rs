//! Publishing events that come in over HTTP.
//!
//! An event becomes a message in the codec of its exchange, and an event with an id is published once. A client gets its
//! answer after the broker's confirm. Of two simultaneous requests with one id, one publishes and the other waits for the
//! result, also when the client of the first request has disconnected.

mod compose;
mod hook;
mod id_locks;
mod incoming;
mod publisher;

pub(crate) use id_locks::IdLocks;
pub(crate) use publisher::EventPublisher;
