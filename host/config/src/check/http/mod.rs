//! `[http]`, `[hooks.NAME]` and `[event-types.NAME]`.

pub(crate) mod event_types;
pub(crate) mod hooks;
pub(crate) mod listener;
