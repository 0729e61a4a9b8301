//! The project's commands, and what the tests share with them: building components, finding a RabbitMQ and the
//! tools of other languages.

pub mod apt;
pub mod languages;
pub mod rabbitmq;
pub mod strip;
pub mod wasm;

use std::path::PathBuf;
use std::process::Command;

/// The workspace's root.
#[must_use]
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}

/// cargo in the workspace, as the shell that started us would run it.
#[must_use]
pub fn cargo() -> Command {
    command("cargo")
}

/// A program in the workspace that may run cargo, as the shell that started us would run it. `cargo run` gave us variables about
/// our own package, and where a build script looks at such (ring's does), cargo would build anew what is there.
#[must_use]
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text == "CARGO" || text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}
