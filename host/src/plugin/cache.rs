//! Compiled code on disk, keyed by the component's digest and by the engine that compiled it.
//!
//! Loading compiled code is as trusting as running a program, so only files that we wrote are read: the directory must
//! belong to this user and be writable by nobody else, and a file must carry the digest of its own content. Anything
//! else counts as absent and is compiled again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use super::Error;

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
        #[expect(unsafe_code, reason = "the one place that trusts compiled code: see the module's rule")]
        // SAFETY: the file lies in a directory that only this user can write, and its content is what `put` wrote,
        // byte for byte, as its digest says. wasmtime itself refuses code of another version or configuration.
        let component = unsafe { Component::deserialize(engine, code) };
        component.inspect_err(|error| tracing::warn!(digest, "cached code does not fit: {error:#}")).ok()
    }

    /// Writes compiled code, whole or not at all. Failing is not an error: the next start compiles again.
    pub(super) fn put(&self, digest: &str, component: &Component) {
        if let Err(error) = self.write(digest, component) {
            tracing::warn!(digest, "compiled code is not cached: {error:#}");
        }
    }

    fn write(&self, digest: &str, component: &Component) -> wasmtime::Result<()> {
        let code = component.serialize()?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(MAGIC)?;
        file.write_all(&Sha256::digest(&code))?;
        file.write_all(&code)?;
        file.as_file().sync_data()?;
        file.persist(self.path(digest))?;
        Ok(())
    }
}
