//! Loading, in stages that cannot be skipped: `Compiled`, `Linked`, `Described`, `Ready`. Each stage is made from the one
//! before. Only `Ready` can be called. Optimised code replaces its quick code, and nothing else of it changes.

pub(crate) mod cache;
pub(crate) mod compile;
pub(crate) mod compiled;
pub(crate) mod current;
pub(crate) mod described;
pub(crate) mod error;
pub(crate) mod file;
pub(crate) mod linked;
pub(crate) mod optimise;
pub(crate) mod plugin_code;
pub(crate) mod plugins;
pub(crate) mod ready;
pub(crate) mod requirements;
