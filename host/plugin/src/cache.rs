//! Compiled code on disk, keyed by the component's digest and by the engine that compiled it.
//!
//! Loading compiled code is as trusting as running a program, so only files that we wrote are read: the directory must
//! belong to this user and be writable by nobody else, and a file must carry the digest of its own content. Anything
//! else counts as absent and is compiled again. What was never in a file must be a [`Code`], which only `compile` makes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use super::Error;
use super::compile::Code;

const MAGIC: &[u8; 8] = b"TLCWASM1";
const HEADER_BYTES: usize = MAGIC.len() + 32;

pub(super) struct Cache {
    dir: PathBuf,
    engine_key: String,
}

impl Cache {
    pub(super) fn open(dir: &Path, engine: &wasmtime::Engine) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Cache { dir: dir.to_owned(), reason: error.to_string() };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let facts = std::fs::metadata(dir).map_err(failed)?;
        // What this process creates belongs to the user it runs as; comparing with a file of ours needs no libc call.
        let probe = tempfile::tempfile_in(dir).and_then(|file| file.metadata()).map_err(failed)?;
        let foreign = facts.uid() != probe.uid();
        if foreign || facts.permissions().mode() & 0o022 != 0 {
            let reason = if foreign { "it belongs to another user" } else { "others may write into it" };
            return Err(Error::Cache { dir: dir.to_owned(), reason: reason.to_owned() });
        }
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { dir: dir.to_owned(), engine_key: format!("{:016x}", hasher.finish()) })
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.dir.join(format!("{digest}-{}.cwasm", self.engine_key))
    }

    /// The compiled component, if a whole and fitting file of ours is there.
    pub(super) fn get(&self, engine: &wasmtime::Engine, digest: &str) -> Option<Component> {
        let bytes = std::fs::read(self.path(digest)).ok()?;
        let (header, code) = bytes.split_at_checked(HEADER_BYTES)?;
        let sum = header.strip_prefix(MAGIC)?;
        if sum != Sha256::digest(code).as_slice() {
            tracing::warn!(digest, "cached code is damaged; compiling again");
            return None;
        }
        trust(engine, code).inspect_err(|error| tracing::warn!(digest, "cached code does not fit: {error:#}")).ok()
    }

    /// Writes compiled code, whole or not at all. Failing is not an error: the next start compiles again.
    pub(super) fn put(&self, digest: &str, code: &Code) {
        if let Err(error) = self.write(digest, code.bytes()) {
            tracing::warn!(digest, "compiled code is not cached: {error:#}");
        }
    }

    fn write(&self, digest: &str, code: &[u8]) -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(MAGIC)?;
        file.write_all(&Sha256::digest(code))?;
        file.write_all(code)?;
        file.as_file().sync_data()?;
        file.persist(self.path(digest))?;
        Ok(())
    }
}

/// The component of code that was just compiled.
///
/// # Errors
/// When the engine of this process is another than the compiler's, or cannot hold so many instances or memories.
pub(super) fn component(engine: &wasmtime::Engine, code: &Code) -> wasmtime::Result<Component> {
    trust(engine, code.bytes())
}

#[expect(unsafe_code, reason = "the one place that trusts compiled code: see the module's rule")]
fn trust(engine: &wasmtime::Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes are what a compiler of ours answered over its pipe (a `Code`), or they lie in a directory that
    // only this user can write and are what `put` wrote of such an answer, byte for byte, as their digest says.
    // wasmtime itself refuses code of another version or configuration.
    unsafe { Component::deserialize(engine, code) }
}
