//! The handlers of every path, each with its description for the OpenAPI document.

pub(crate) mod batch;
pub(crate) mod event_types;
pub(crate) mod exposition;
pub(crate) mod generation;
pub(crate) mod health;
pub(crate) mod hooks;
pub(crate) mod publish;
pub(crate) mod queues;
pub(crate) mod rollouts;
pub(crate) mod stream;
pub(crate) mod tickets;
