//! The HTTP listener, hooks and event types.

pub(crate) mod event_type;
pub(crate) mod hook;
pub(crate) mod listener;
pub(crate) mod placeholder;
pub(crate) mod sender;
pub(crate) mod template;
