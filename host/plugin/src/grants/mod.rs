//! Capabilities that the configuration grants to a plugin.

pub(crate) mod granted;
