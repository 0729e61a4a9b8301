//! The project's commands, and what the tests share with them: building components, finding a RabbitMQ and the
//! tools of other languages.

pub mod apt;
pub mod languages;
pub mod rabbitmq;
pub mod strip;
pub mod wasm;

use std::path::PathBuf;

/// The workspace's root.
#[must_use]
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}
