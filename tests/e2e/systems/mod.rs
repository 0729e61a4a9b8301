//! The systems of `examples/`, each from its own files, on both brokers.

mod event_broker;
