//! Routes: from the delivery of a queue to the settlement of that delivery.
//!
//! This crate keeps the delivery guarantee. A delivery is acknowledged only with a [`Receipt`](trunkline_broker::Receipt), or
//! with a named reason why nothing was published. A receipt proves that the broker has confirmed every emission of the event,
//! or its copy in a retry or dead-letter queue. In every other case, also at shutdown and after a lost session, the delivery
//! gets no answer. The broker then delivers the message again: at least once, with the same emission ids.

#![deny(unsafe_code)]

pub mod archive;
pub mod codec;
mod core;
mod executor;
mod inbound;
mod order;
mod outbound;
mod profile;
mod rollout;
mod route_runner;
#[cfg(test)]
mod simulation;

pub use rollout::{Handlers, Rollouts, RoutePlugins, Trial, TrialPhase};
pub use route_runner::{RouteRunner, Stop};
