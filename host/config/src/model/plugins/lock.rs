//! `plugins.lock` beside routes.toml: the files that may run, and their grants. `trunkline lock` writes it.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::plugins::allow::WrittenAllow;
use trunkline_event::PluginName;

const NAME: &str = "plugins.lock";
const VERSION: u32 = 1;
const HEAD: &str = "# `trunkline lock` wrote this file. The file lists the plugins that may run, with their digests and grants.\n\
                    # Review the changes to this file before you commit the file.\n";

/// The plugins that may run by a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockPolicy {
    /// There is no lock, or `locked = false`: every plugin may run.
    Unlocked,
    /// Only plugins of the lock may run.
    Only(PluginLock),
    /// The lock is missing or cannot be used, for this reason: no plugin may run.
    Unusable(String),
}

impl LockPolicy {
    /// Reads the lock beside a routes file, whatever the key `locked` says.
    #[must_use]
    pub fn beside(routes: &Path) -> Self {
        locked(routes, None)
    }
}

/// The content of `plugins.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginLock {
    version: u32,
    /// The plugins, sorted by name.
    #[serde(default, rename = "plugin")]
    pub plugins: Vec<LockedPlugin>,
}

/// One plugin of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPlugin {
    /// Name in routes.toml.
    pub name: PluginName,
    /// Path of the file, from the directory of routes.toml.
    pub file: String,
    /// SHA-256 of the file, in lower-case hexadecimal.
    pub sha256: String,
    /// Length of the file in bytes.
    pub size: u64,
    /// Interfaces that the plugin imports.
    pub imports: Vec<String>,
    /// Grants of the plugin.
    #[serde(default)]
    pub allow: WrittenAllow,
}

impl PluginLock {
    /// Makes a lock of these plugins.
    #[must_use]
    pub fn new(mut plugins: Vec<LockedPlugin>) -> Self {
        plugins.sort_by(|one, two| one.name.cmp(&two.name));
        Self { version: VERSION, plugins }
    }

    /// The entry of a plugin.
    #[must_use]
    pub fn find(&self, name: &PluginName) -> Option<&LockedPlugin> {
        self.plugins.iter().find(|entry| entry.name == *name)
    }

    /// Path of the lock beside a routes file.
    #[must_use]
    pub fn beside(routes: &Path) -> PathBuf {
        routes.with_file_name(NAME)
    }

    /// The lock as text.
    ///
    /// # Errors
    /// An error of the serialiser, which cannot happen.
    pub fn render(&self) -> Result<String, String> {
        let text = toml::to_string(self).map_err(|error| error.to_string())?;
        Ok(format!("{HEAD}{text}"))
    }

    /// Writes the lock as a whole or not at all, and durably.
    ///
    /// # Errors
    /// The error of the system.
    pub fn write(&self, file: &Path) -> Result<(), String> {
        let text = self.render()?;
        let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let written = || -> std::io::Result<()> {
            let mut temporary = tempfile::Builder::new().permissions(permissions()).tempfile_in(directory)?;
            temporary.write_all(text.as_bytes())?;
            temporary.as_file().sync_data()?;
            temporary.persist(file).map(drop).map_err(|error| error.error)
        };
        written().map_err(|error| format!("the file {} cannot be written: {error}", file.display()))
    }

    fn read(file: &Path) -> Result<Option<Self>, String> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("the file {} cannot be read: {error}", file.display())),
        };
        // Editors on Windows write a byte order mark.
        let lock = toml::from_str::<Self>(text.strip_prefix('\u{feff}').unwrap_or(&text)).map_err(|error| {
            let text = error.message().to_owned();
            format!(
                "the file {} is not a valid lock file: {text}; write the file again with `trunkline lock`",
                file.display()
            )
        })?;
        if lock.version != VERSION {
            let version = lock.version;
            return Err(format!(
                "the file {} has version {version}, but this program reads version {VERSION}; write the file again with `trunkline lock`",
                file.display()
            ));
        }
        Ok(Some(lock))
    }
}

/// The lock is readable by all: it is committed beside routes.toml and contains no secret.
fn permissions() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o644)
}

/// Reads the lock. `locked` is the key of routes.toml.
pub(crate) fn locked(routes: &Path, locked: Option<bool>) -> LockPolicy {
    if locked == Some(false) {
        return LockPolicy::Unlocked;
    }
    let file = PluginLock::beside(routes);
    match PluginLock::read(&file) {
        Ok(Some(lock)) => LockPolicy::Only(lock),
        Ok(None) if locked == Some(true) => LockPolicy::Unusable(format!(
            "routes.toml has `locked = true`, but the file {} does not exist; write the file with `trunkline lock`",
            file.display()
        )),
        Ok(None) => LockPolicy::Unlocked,
        Err(problem) => LockPolicy::Unusable(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> LockedPlugin {
        LockedPlugin {
            name: PluginName::new("p").expect("a name"),
            file: "plugins/p.wasm".to_owned(),
            sha256: "00".repeat(32),
            size: 7,
            imports: vec!["wasi:http/types@0.2.4".to_owned()],
            allow: WrittenAllow { http: vec!["https://a.example".to_owned()], ..WrittenAllow::default() },
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let routes = directory.path().join("routes.toml");
        assert_eq!(locked(&routes, None), LockPolicy::Unlocked);
        assert!(
            matches!(locked(&routes, Some(true)), LockPolicy::Unusable(text) if text.contains("with `trunkline lock`"))
        );
        let lock = PluginLock::new(vec![entry()]);
        lock.write(&PluginLock::beside(&routes)).expect("written");
        assert_eq!(locked(&routes, None), LockPolicy::Only(lock.clone()));
        let file = PluginLock::beside(&routes);
        let text = std::fs::read_to_string(&file).expect("a lock");
        std::fs::write(&file, format!("\u{feff}{text}")).expect("written");
        assert_eq!(locked(&routes, None), LockPolicy::Only(lock), "an editor on Windows saved the file");
        assert_eq!(locked(&routes, Some(false)), LockPolicy::Unlocked);
        std::fs::write(PluginLock::beside(&routes), "version = 1\nplugns = []\n").expect("written");
        assert!(matches!(locked(&routes, None), LockPolicy::Unusable(_)), "an unknown key is no lock");
    }
}
