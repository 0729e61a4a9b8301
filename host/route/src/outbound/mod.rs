//! From a plan to the messages that are published.

pub(crate) mod copies;
pub(crate) mod emit;
pub(crate) mod plan;
