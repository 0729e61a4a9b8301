//! Exchanges, queues and bindings: those that are described, and those that follow from routes.

mod bindings;
mod dead_letters;
pub(crate) mod derived;
pub(crate) mod exchanges;
pub(crate) mod queues;
