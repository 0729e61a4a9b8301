//! Trunkline: a daemon that runs sandboxed WebAssembly plugins on RabbitMQ messages. docs/internals/architecture.md is the map.

#![deny(unsafe_code)]

pub mod daemon;
pub mod plugins;
mod publish;
pub mod reload;
mod routes;
pub mod scaffold;
mod streams;

#[cfg(test)]
mod tests;
