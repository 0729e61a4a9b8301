//! The systems of `examples/`, each with its own routes.toml, played from beginning to end on both brokers.

mod clients;
mod event_broker;
mod voice;
