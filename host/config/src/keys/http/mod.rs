//! Keys of the HTTP listener, hooks and event types.

pub(crate) mod event_type;
pub(crate) mod hook;
pub(crate) mod listener;
