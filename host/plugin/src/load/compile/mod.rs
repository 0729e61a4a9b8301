//! Compiling a component in a child process with limits on memory, processor time and wall clock.
//!
//! A compiler is not a sandbox: 1.4 MB of hostile WebAssembly keep Cranelift busy for 38 s and take half a GiB, and an
//! allocation that fails aborts its process. Only the child is slow or ends then, and the daemon runs on. The child is
//! the daemon's own program under a hidden verb. It gets no environment and no files, only the component on its stdin.
//! Its code is trusted, because it comes over the pipe of a child that the daemon started.

pub(crate) mod bounds;
pub(crate) mod child;
pub(crate) mod compiler;
pub(crate) mod error;
pub(crate) mod mode;
pub(crate) mod parent;
pub(crate) mod protocol;
pub(crate) mod report;
