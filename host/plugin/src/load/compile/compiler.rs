//! The compiler of an engine: children of the daemon, or this process.

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::CompileError;
use super::mode::{CodeKind, CompileMode};
use super::parent;
use super::report::{CompileReport, Reporter};

/// Children at a time that plugins wait for. A start with many new plugins then uses two cores, and the memory of two
/// compilers.
const CHILDREN_MAX: usize = 2;
/// Children at a time that make optimised code in the background, beside the others.
const BACKGROUND_MAX: usize = 1;

/// Machine code that the daemon's own compiler made of a component. Only [`Compiler`] makes one.
pub(crate) struct MachineCode {
    bytes: Vec<u8>,
    kind: CodeKind,
}

impl MachineCode {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn kind(&self) -> CodeKind {
        self.kind
    }
}

/// Compiles components, in child processes or in this process.
#[derive(Debug)]
pub struct Compiler {
    process: Process,
    pub(crate) reporter: Reporter,
}

#[derive(Debug)]
enum Process {
    Child { first: Semaphore, background: Semaphore },
    Own,
}

impl Compiler {
    /// Compiles in children of this program. The program must be `trunkline`: another program does not know the verb, and
    /// every plugin would be refused with the text of that program.
    #[must_use]
    pub fn in_children() -> Self {
        let process =
            Process::Child { first: Semaphore::new(CHILDREN_MAX), background: Semaphore::new(BACKGROUND_MAX) };
        Self { process, reporter: |report| report.log() }
    }

    /// Compiles in this process and without limits, for benchmarks, whose program is not `trunkline`.
    #[must_use]
    pub fn in_process() -> Self {
        Self { process: Process::Own, reporter: |report| report.log() }
    }

    /// Gives the reports about long compilations to a function. Without a function, the reports go to the log.
    #[must_use]
    pub fn reporting(self, reporter: fn(&CompileReport<'_>)) -> Self {
        Self { reporter, ..self }
    }

    /// The kind of the first code for a component of this length.
    pub(crate) fn first_code(&self, component_bytes: usize) -> CodeKind {
        match self.process {
            Process::Child { .. } => CodeKind::first_for(component_bytes),
            Process::Own => CodeKind::Optimised,
        }
    }

    /// Waits until a compiler is free. `None` means that the number of compilers has no limit.
    pub(crate) async fn permit(&self, mode: CompileMode) -> Option<SemaphorePermit<'_>> {
        let permits = match (&self.process, mode) {
            (Process::Child { first, .. }, CompileMode::Quick | CompileMode::Optimised) => first,
            (Process::Child { background, .. }, CompileMode::Background) => background,
            (Process::Own, _) => return None,
        };
        // The semaphore is never closed, so there is always a permit.
        permits.acquire().await.ok()
    }

    /// Compiles a component. The caller holds a permit. Dropping the future ends the child.
    pub(crate) async fn compile(
        &self,
        engine: &wasmtime::Engine,
        mode: CompileMode,
        component: Bytes,
    ) -> Result<MachineCode, CompileError> {
        let code = match &self.process {
            Process::Child { .. } => parent::compile_in_child(mode, &component).await?,
            Process::Own => {
                let engine = engine.clone();
                let work = move || engine.precompile_component(&component);
                let done = tokio::task::spawn_blocking(work).await;
                let code = done.map_err(|error| CompileError::Crashed(error.to_string()))?;
                code.map_err(|error| CompileError::Refused(format!("{error:#}")))?
            }
        };
        Ok(MachineCode { bytes: code, kind: mode.code() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_program_is_not_a_compiler() {
        // The program of this test does not know the verb.
        let engine = wasmtime::Engine::default();
        let component = Bytes::from_static(b"\0asm");
        let compiled = Compiler::in_children().compile(&engine, CompileMode::Optimised, component).await;
        assert!(matches!(compiled, Err(CompileError::Crashed(_))));
    }

    #[tokio::test]
    async fn a_background_compilation_delays_no_plugin() {
        let compiler = Compiler::in_children();
        let background = compiler.permit(CompileMode::Background).await;
        assert!(background.is_some());
        let first = compiler.permit(CompileMode::Quick).await;
        assert!(first.is_some(), "the first code has permits of its own");
        let another = futures_util::FutureExt::now_or_never(compiler.permit(CompileMode::Background));
        assert!(another.is_none(), "one compilation at a time runs in the background");
        drop((background, first));
    }
}
