//! Keys of plugins.

pub(crate) mod limits;
pub(crate) mod plugin;
