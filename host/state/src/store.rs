//! The open store.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::error::{Error, unavailable};
use super::key_space::KeySpace;
use super::shared::{KeySpaceName, StateShared};
use super::table;
use super::writer::{self, StateCommand};
use trunkline_config::{Quota, state_dir};
use trunkline_event::PluginName;

const FILE: &str = "state.redb";
/// Most commands that wait for the writer. Further callers wait.
const CHANGES_MAX: usize = 1024;

/// The open store. Cheap to clone; closed with the last clone and the last [`KeySpace`].
#[derive(Clone)]
pub struct StateStore {
    shared: Arc<StateShared>,
    commands: mpsc::Sender<StateCommand>,
}

impl StateStore {
    /// Opens the store in `dir` and starts the writer. A missing directory is made.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store cannot be used, for example because another daemon has it open.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let file = dir.join(FILE);
        state_dir::make(dir).map_err(|error| unavailable(&file, &error))?;
        let database = table::open(&file)?;
        let shared = Arc::new(StateShared::new(file, database));
        let (commands, received) = mpsc::channel(CHANGES_MAX);
        writer::start(shared.clone(), received)?;
        Ok(Self { shared, commands })
    }

    /// The key space of a plugin and a tenant.
    #[must_use]
    pub fn key_space(&self, plugin: &PluginName, tenant: Option<&str>, quota: Quota) -> KeySpace {
        let tenant = tenant.map(|tenant| format!("={tenant}")).unwrap_or_default();
        let name = Arc::new(KeySpaceName { plugin: plugin.to_string(), tenant });
        KeySpace::new(self.shared.clone(), self.commands.clone(), name, quota)
    }
}

/// Whether the store in a directory has keys. A store that cannot be read counts as having keys. Its file is not changed.
#[must_use]
pub fn is_kept_in(dir: &Path) -> bool {
    let file = dir.join(FILE);
    file.exists() && table::is_used(&file)
}
