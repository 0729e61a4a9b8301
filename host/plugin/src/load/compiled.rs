//! First stage of loading: machine code of a component.

use std::path::Path;

use bytes::Bytes;
use wasmtime::component::Component;

use super::cache;
use super::compile::compiler::MachineCode;
use super::compile::error::CompileError;
use super::compile::mode::{CodeKind, CompileMode};
use super::compile::report::{CompileStage, CompileWatch};
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
    /// Content of the file, if the code is quick code. The optimised code is made from this content.
    pub(crate) unoptimised: Option<Bytes>,
}

impl Compiled {
    /// Reads a file, and compiles it unless the cache has its code. A large component gets quick code first.
    ///
    /// # Errors
    /// When the file is not a component, does not meet its requirements, or cannot be compiled within the limits.
    pub async fn read(engine: &Engine, file: &Path, requirements: FileRequirements) -> Result<Self, Error> {
        let plugin = requirements.plugin().clone();
        let (read, found) = {
            let (engine, file) = (engine.clone(), file.to_owned());
            off_async_threads(move || {
                let read = ComponentFile::read(&file)?;
                requirements.check(&file, &read.bytes, &read.digest)?;
                let found = engine.cache.find(&engine.engine, &read.digest);
                Ok((read, found))
            })
            .await?
        };
        let ComponentFile { bytes, digest } = read;
        let bytes = Bytes::from(bytes);
        if let Some((component, kind)) = found {
            return Ok(Self::new(component, kind, true, digest, bytes));
        }
        let mode = CompileMode::first(engine.compiler.first_code(bytes.len()));
        let mut watch = CompileWatch::begin(engine.compiler.reporter, &plugin, mode, bytes.len());
        let permit = watch.during(CompileStage::Waits, engine.compiler.permit(mode)).await;
        // A load that waited before this one may have compiled the same file: plugins with one file share its code.
        let (digest, found) = {
            let engine = engine.clone();
            off_async_threads(move || {
                let found = engine.cache.find(&engine.engine, &digest);
                Ok((digest, found))
            })
            .await?
        };
        if let Some((component, kind)) = found {
            return Ok(Self::new(component, kind, true, digest, bytes));
        }
        let compilation = engine.compiler.compile(&engine.engine, mode, bytes.clone());
        let code = watch.during(CompileStage::Runs, compilation).await;
        let code = code.map_err(|error| compile_error(file, error))?;
        let kind = code.kind();
        let component = store(engine, &digest, code).await;
        drop(permit);
        watch.end();
        Ok(Self::new(component?, kind, false, digest, bytes))
    }

    fn new(component: Component, kind: CodeKind, is_cached: bool, digest: String, bytes: Bytes) -> Self {
        let size_bytes = bytes.len() as u64;
        let unoptimised = match kind {
            CodeKind::Quick => Some(bytes),
            CodeKind::Optimised => None,
        };
        Self { component, digest, size_bytes, is_cached, unoptimised }
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

/// Makes a component of machine code, and keeps the code in the cache.
pub(super) async fn store(engine: &Engine, digest: &str, code: MachineCode) -> Result<Component, Error> {
    let (engine, digest) = (engine.clone(), digest.to_owned());
    off_async_threads(move || {
        let component = cache::component(&engine.engine, &code).map_err(|error| Error::Link(format!("{error:#}")))?;
        engine.cache.put(&digest, &code);
        Ok(component)
    })
    .await
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
