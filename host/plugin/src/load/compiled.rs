//! First stage of loading: machine code of a component.

use std::path::Path;

use wasmtime::component::Component;

use super::cache;
use super::compile::error::CompileError;
use super::error::Error;
use super::file::ComponentFile;
use super::requirements::FileRequirements;
use crate::abi::imports;
use crate::engine::shared::Engine;

/// Machine code of a component whose file met its requirements.
pub struct Compiled {
    pub(crate) component: Component,
    pub(crate) digest: String,
    size_bytes: u64,
    pub(crate) is_cached: bool,
}

impl Compiled {
    /// Reads a file, and compiles it unless the cache has its code.
    ///
    /// # Errors
    /// When the file is not a component, does not meet its requirements, or cannot be compiled within the limits.
    pub async fn read(engine: &Engine, file: &Path, requirements: FileRequirements) -> Result<Self, Error> {
        let (read, component) = {
            let (engine, file) = (engine.clone(), file.to_owned());
            off_async_threads(move || {
                let read = ComponentFile::read(&file)?;
                requirements.check(&file, &read.bytes, &read.digest)?;
                let component = engine.cache.get(&engine.engine, &read.digest);
                Ok((read, component))
            })
            .await?
        };
        let size_bytes = read.bytes.len() as u64;
        let cached = |component, digest| Self { component, digest, size_bytes, is_cached: true };
        if let Some(component) = component {
            return Ok(cached(component, read.digest));
        }
        let permit = engine.compiler.permit().await;
        // A load that waited before this one may have compiled the same file: plugins with one file share its code.
        let ComponentFile { bytes, digest } = read;
        let (digest, component) = {
            let engine = engine.clone();
            off_async_threads(move || {
                let component = engine.cache.get(&engine.engine, &digest);
                Ok((digest, component))
            })
            .await?
        };
        if let Some(component) = component {
            return Ok(cached(component, digest));
        }
        let code = engine.compiler.compile(&engine.engine, bytes).await;
        let code = code.map_err(|error| compile_error(file, error))?;
        let compiled = {
            let engine = engine.clone();
            off_async_threads(move || {
                let component =
                    cache::component(&engine.engine, &code).map_err(|error| Error::Link(format!("{error:#}")))?;
                engine.cache.put(&digest, &code);
                Ok(Self { component, digest, size_bytes, is_cached: false })
            })
            .await
        };
        drop(permit);
        compiled
    }

    /// SHA-256 of the file, in lower-case hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Length of the file in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Names of the interfaces that the component imports, sorted.
    #[must_use]
    pub fn imports(&self, engine: &Engine) -> Vec<String> {
        imports::names(&self.component, &engine.engine)
    }
}

fn compile_error(file: &Path, error: CompileError) -> Error {
    match error {
        CompileError::Refused(what) => Error::NotAComponent { file: file.to_owned(), what },
        why @ (CompileError::Cpu(_)
        | CompileError::Clock(_)
        | CompileError::Memory(_)
        | CompileError::Code(_)
        | CompileError::Crashed(_)
        | CompileError::Start(_)) => Error::Compile { file: file.to_owned(), why },
    }
}

/// Runs work that waits for the disk or for the linker on a blocking thread.
pub(crate) async fn off_async_threads<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Engine(format!("loading panicked: {error}")))?
}
