//! Trunkline: a daemon that runs sandboxed WebAssembly plugins on RabbitMQ messages. ARCHITECTURE.md is the map.

#![deny(unsafe_code)]

pub mod daemon;
pub mod reload;
pub mod scaffold;
