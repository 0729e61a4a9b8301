//! A section of routes.toml: a table of the file, and the keys that the table accepts.

use crate::keys::shape::KeyEntry;

/// A key without the type of its value, as sections list it.
pub(crate) trait Listed: Sync {
    fn name(&self) -> &'static str;
    fn entry(&self, section: &Section) -> KeyEntry;
}

/// A section. Keys that several sections share are in separate lists.
pub(crate) struct Section {
    /// Heading of the reference page: `[queues.NAME]`, or `archive` of `[routes.NAME]`.
    pub(crate) title: &'static str,
    /// Description of the section for users, in one or more sentences.
    pub(crate) about: &'static str,
    /// A short example file that contains the section.
    pub(crate) example: &'static str,
    /// Path of the section's table from the top of the file. `*` stands for any name.
    pub(crate) path: &'static [&'static str],
    pub(crate) keys: &'static [&'static [&'static dyn Listed]],
    /// Reserved keys. A reserved key is part of the format, but this version refuses the key.
    pub(crate) reserved: &'static [&'static str],
}

impl std::fmt::Debug for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.title)
    }
}

impl Section {
    pub(crate) fn listed(&self) -> impl Iterator<Item = &'static dyn Listed> {
        self.keys.iter().copied().flatten().copied()
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.listed().map(|key| key.name()).collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.listed().any(|key| key.name() == name)
    }

    pub(crate) fn entries(&self) -> Vec<KeyEntry> {
        self.listed().map(|key| key.entry(self)).collect()
    }
}
