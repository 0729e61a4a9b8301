//! One call of a plugin: its store, its limits, its threads, and its outcome.

pub(crate) mod background;
pub(crate) mod backtrace;
pub(crate) mod call_data;
pub(crate) mod cpu;
pub(crate) mod debug;
pub(crate) mod failure;
pub(crate) mod invoke;
pub(crate) mod log;
pub(crate) mod memory;
pub(crate) mod redact;
pub(crate) mod stdio;
pub(crate) mod store;
