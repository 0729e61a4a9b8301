//! Compiled code on disk, keyed by the component's digest and by the engine that compiled it.
//!
//! Loading compiled code is as dangerous as running a program, so only files that the daemon wrote are read: the folder
//! must belong to the daemon's user, no other user may write into it, and a file must carry the digest of its content.
//! Any other file counts as missing, and the component is compiled again. Code that does not come from a file must be a
//! [`MachineCode`], which only the compiler makes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use super::compile::compiler::MachineCode;
use super::compile::mode::CodeKind;
use super::error::Error;

const MAGIC: &[u8; 8] = b"TLCWASM1";
const HEADER_BYTES: usize = MAGIC.len() + 32;

/// The folder of compiled code. `engine_key` is a hash of everything that decides whether an engine accepts code.
pub(crate) struct Cache {
    dir: PathBuf,
    engine_key: String,
}

impl Cache {
    pub(crate) fn open(dir: &Path, engine: &wasmtime::Engine) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Cache { dir: dir.to_owned(), reason: error.to_string() };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let metadata = std::fs::metadata(dir).map_err(failed)?;
        // A file that this process makes belongs to the process's user.
        let probe = tempfile::tempfile_in(dir).and_then(|file| file.metadata()).map_err(failed)?;
        let is_foreign = metadata.uid() != probe.uid();
        if is_foreign || metadata.permissions().mode() & 0o022 != 0 {
            let reason = if is_foreign {
                "the directory belongs to another user"
            } else {
                "other users may write into the directory"
            };
            return Err(Error::Cache { dir: dir.to_owned(), reason: reason.to_owned() });
        }
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { dir: dir.to_owned(), engine_key: format!("{:016x}", hasher.finish()) })
    }

    fn path(&self, digest: &str, kind: CodeKind) -> PathBuf {
        let end = match kind {
            CodeKind::Quick => "quick.cwasm",
            CodeKind::Optimised => "cwasm",
        };
        self.dir.join(format!("{digest}-{}.{end}", self.engine_key))
    }

    /// The best code of a component in the folder.
    pub(crate) fn find(&self, engine: &wasmtime::Engine, digest: &str) -> Option<(Component, CodeKind)> {
        let kinds = [CodeKind::Optimised, CodeKind::Quick];
        kinds.into_iter().find_map(|kind| Some((self.get(engine, digest, kind)?, kind)))
    }

    /// The compiled component, if the folder has a complete file of it that fits the engine.
    pub(crate) fn get(&self, engine: &wasmtime::Engine, digest: &str, kind: CodeKind) -> Option<Component> {
        let bytes = std::fs::read(self.path(digest, kind)).ok()?;
        let (header, code) = bytes.split_at_checked(HEADER_BYTES)?;
        let sum = header.strip_prefix(MAGIC)?;
        if sum != Sha256::digest(code).as_slice() {
            tracing::warn!(digest, "the cached code of a plugin is damaged; the plugin is compiled again");
            return None;
        }
        trust(engine, code)
            .inspect_err(|error| tracing::warn!(digest, "the cached code of a plugin does not fit the engine; the daemon compiles the plugin again: {error:#}"))
            .ok()
    }

    /// Writes compiled code, whole or not at all. A failure is logged only, because the next start compiles again.
    pub(crate) fn put(&self, digest: &str, code: &MachineCode) {
        if let Err(error) = self.write(digest, code) {
            tracing::warn!(
                digest,
                "the compiled code of a plugin is not cached; the next start compiles the plugin again: {error:#}"
            );
        }
    }

    fn write(&self, digest: &str, code: &MachineCode) -> std::io::Result<()> {
        let (kind, code) = (code.kind(), code.bytes());
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(MAGIC)?;
        file.write_all(&Sha256::digest(code))?;
        file.write_all(code)?;
        file.as_file().sync_data()?;
        file.persist(self.path(digest, kind))?;
        match kind {
            CodeKind::Quick => Ok(()),
            // No load uses quick code beside optimised code.
            CodeKind::Optimised => match std::fs::remove_file(self.path(digest, CodeKind::Quick)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            },
        }
    }
}

/// Makes a component of code that was just compiled.
///
/// # Errors
/// When the engine of this process differs from the compiler's, or when the component needs more instances or memories
/// than the pool allows.
pub(crate) fn component(engine: &wasmtime::Engine, code: &MachineCode) -> wasmtime::Result<Component> {
    trust(engine, code.bytes())
}

#[expect(unsafe_code, reason = "the only place that trusts compiled code, by the rule of the module")]
fn trust(engine: &wasmtime::Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes are a `MachineCode`, which came from the daemon's compiler, or a file that `put` wrote of one into
    // a folder that only this user can write, with the digest that `put` added. wasmtime refuses code of another version
    // or configuration.
    unsafe { Component::deserialize(engine, code) }
}
