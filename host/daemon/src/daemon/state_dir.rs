//! Taking the state directory for this process.

use std::io::Write;

use anyhow::Context;

use trunkline_config::state_dir::{self, StateDir};
use trunkline_config::{self as config, Config};

/// Takes the state directory for this process. Its files are closed to other users, and no other daemon may use it. The
/// default directory gets a `.gitignore`, because it holds keys and messages.
///
/// # Errors
/// When the directory cannot be used, or another daemon uses it.
pub fn take_state_dir(config: &Config) -> anyhow::Result<StateDir> {
    let taken = StateDir::take(&config.state_dir)?;
    if config.state_dir.ends_with(config::STATE_BESIDE) {
        let ignored = config.state_dir.join(".gitignore");
        let written = match state_dir::file(&ignored) {
            Ok(mut file) if file.metadata().is_ok_and(|metadata| metadata.len() == 0) => file.write_all(b"*\n"),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        written.with_context(|| format!("the file {} cannot be written", ignored.display()))?;
    }
    Ok(taken)
}
