//! `plugins.lock`, beside routes.toml: which files may run, and with which grants. Written by `trunkline lock`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::checked::Plugin;
use super::grants::WrittenAllow;
use trunkline_event::PluginName;

const NAME: &str = "plugins.lock";
const VERSION: u32 = 1;
const HEAD: &str = "# Written by `trunkline lock`: the plugins that may run, by content, and what each may do.\n\
                    # Read the difference before you commit it.\n";

/// What holds for the plugins of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Locked {
    /// There is no lock, or `locked = false`.
    No,
    /// Only what it names may run.
    To(Lock),
    /// It should be there and cannot be used: nothing may run.
    Broken(String),
}

impl Locked {
    /// What a lock beside a routes file says, whatever `locked` does.
    #[must_use]
    pub fn beside(routes: &Path) -> Self {
        locked(routes, None)
    }
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    /// By name.
    #[serde(default, rename = "plugin")]
    pub plugins: Vec<Entry>,
}

/// One plugin of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name in routes.toml.
    pub name: PluginName,
    /// The file, as it is written from the directory of routes.toml.
    pub file: String,
    /// Digest of the file, lower-case hexadecimal.
    pub sha256: String,
    /// Length of the file in bytes.
    pub size: u64,
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// What it is granted.
    #[serde(default)]
    pub allow: WrittenAllow,
}

impl Lock {
    /// A lock of these plugins.
    #[must_use]
    pub fn new(mut plugins: Vec<Entry>) -> Self {
        plugins.sort_by(|one, two| one.name.cmp(&two.name));
        Self { version: VERSION, plugins }
    }

    /// The entry of a plugin.
    #[must_use]
    pub fn find(&self, name: &PluginName) -> Option<&Entry> {
        self.plugins.iter().find(|entry| entry.name == *name)
    }

    /// Where the lock of a routes file is.
    #[must_use]
    pub fn beside(routes: &Path) -> PathBuf {
        routes.with_file_name(NAME)
    }

    /// The lock's text.
    ///
    /// # Errors
    /// When it has no form, which cannot happen.
    pub fn render(&self) -> Result<String, String> {
        let text = toml::to_string(self).map_err(|error| error.to_string())?;
        Ok(format!("{HEAD}{text}"))
    }

    /// Writes it whole or not at all, and durably.
    ///
    /// # Errors
    /// The system's words.
    pub fn write(&self, file: &Path) -> Result<(), String> {
        let text = self.render()?;
        let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let written = || -> std::io::Result<()> {
            let mut temporary = tempfile::Builder::new().permissions(permissions()).tempfile_in(directory)?;
            temporary.write_all(text.as_bytes())?;
            temporary.as_file().sync_data()?;
            temporary.persist(file).map(drop).map_err(|error| error.error)
        };
        written().map_err(|error| format!("cannot write {}: {error}", file.display()))
    }

    fn read(file: &Path) -> Result<Option<Self>, String> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("cannot read {}: {error}", file.display())),
        };
        let lock = toml::from_str::<Self>(&text).map_err(|error| {
            let text = error.message().to_owned();
            format!("{} cannot be used: {text}; run `trunkline lock`", file.display())
        })?;
        if lock.version != VERSION {
            let version = lock.version;
            return Err(format!("{} is of version {version}; this one reads {VERSION}", file.display()));
        }
        Ok(Some(lock))
    }
}

/// Readable by all: it is committed beside routes.toml and holds nothing secret.
fn permissions() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o644)
}

/// Lays the lock over the plugins.
pub(super) fn apply(locked: &Locked, plugins: &mut BTreeMap<PluginName, Plugin>) {
    for (name, plugin) in plugins {
        plugin.locked = match locked {
            Locked::No => None,
            Locked::Broken(problem) => Some(Err(problem.clone())),
            Locked::To(lock) => Some(match lock.find(name) {
                None => Err(format!("plugin {name} is not in plugins.lock; if it may run, run `trunkline lock`")),
                Some(entry) if entry.allow != plugin.allow.written() => Err(format!(
                    "the grants of plugin {name} differ from those in plugins.lock; if they are meant, run `trunkline lock`"
                )),
                Some(entry) => Ok(entry.clone()),
            }),
        };
    }
}

/// What holds: `locked` is the key of routes.toml.
pub(super) fn locked(routes: &Path, locked: Option<bool>) -> Locked {
    if locked == Some(false) {
        return Locked::No;
    }
    let file = Lock::beside(routes);
    match Lock::read(&file) {
        Ok(Some(lock)) => Locked::To(lock),
        Ok(None) if locked == Some(true) => {
            Locked::Broken(format!("`locked = true`, and {} is not there; run `trunkline lock`", file.display()))
        }
        Ok(None) => Locked::No,
        Err(problem) => Locked::Broken(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
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
        assert_eq!(locked(&routes, None), Locked::No);
        assert!(matches!(locked(&routes, Some(true)), Locked::Broken(text) if text.contains("run `trunkline lock`")));
        let lock = Lock::new(vec![entry()]);
        lock.write(&Lock::beside(&routes)).expect("written");
        assert_eq!(locked(&routes, None), Locked::To(lock));
        assert_eq!(locked(&routes, Some(false)), Locked::No);
        std::fs::write(Lock::beside(&routes), "version = 1\nplugns = []\n").expect("written");
        assert!(matches!(locked(&routes, None), Locked::Broken(_)), "an unknown key is no lock");
    }
}
