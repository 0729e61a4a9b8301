//! The types of the requests and the responses of the API.

pub(crate) mod event;
pub(crate) mod event_type;
pub(crate) mod generation;
pub(crate) mod health;
pub(crate) mod hook;
pub(crate) mod queue;
pub(crate) mod rollout;
pub(crate) mod stream;
