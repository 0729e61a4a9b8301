//! The compiler of an engine: children of the daemon, or this process.

use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::CompileError;
use super::parent;

/// Children at a time. A start with many new plugins then uses two cores, and the memory of two compilers.
const CHILDREN_MAX: usize = 2;

/// Machine code that the daemon's own compiler made of a component. Only [`Compiler`] makes one.
pub(crate) struct MachineCode(Vec<u8>);

impl MachineCode {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Compiles components, in child processes or in this process.
#[derive(Debug)]
pub struct Compiler(Process);

#[derive(Debug)]
enum Process {
    Child { permits: Semaphore },
    Own,
}

impl Compiler {
    /// Compiles in children of this program. The program must be `trunkline`: another program does not know the verb, and
    /// every plugin would be refused with the text of that program.
    #[must_use]
    pub fn in_children() -> Self {
        Self(Process::Child { permits: Semaphore::new(CHILDREN_MAX) })
    }

    /// Compiles in this process and without limits, for benchmarks, whose program is not `trunkline`.
    #[must_use]
    pub fn in_process() -> Self {
        Self(Process::Own)
    }

    /// Waits until a compiler is free. `None` means that the number of compilers has no limit.
    pub(crate) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        match &self.0 {
            // The semaphore is never closed, so there is always a permit.
            Process::Child { permits } => permits.acquire().await.ok(),
            Process::Own => None,
        }
    }

    /// Compiles a component. The caller holds a permit. Dropping the future ends the child.
    pub(crate) async fn compile(
        &self,
        engine: &wasmtime::Engine,
        component: Vec<u8>,
    ) -> Result<MachineCode, CompileError> {
        match &self.0 {
            Process::Child { .. } => parent::compile_in_child(&component).await.map(MachineCode),
            Process::Own => {
                let engine = engine.clone();
                let work = move || engine.precompile_component(&component);
                let done = tokio::task::spawn_blocking(work).await;
                let code = done.map_err(|error| CompileError::Crashed(error.to_string()))?;
                code.map(MachineCode).map_err(|error| CompileError::Refused(format!("{error:#}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_program_is_not_a_compiler() {
        // The program of this test does not know the verb.
        let engine = wasmtime::Engine::default();
        let compiled = Compiler::in_children().compile(&engine, b"\0asm".to_vec()).await;
        assert!(matches!(compiled, Err(CompileError::Crashed(_))));
    }
}
