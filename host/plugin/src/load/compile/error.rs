//! Errors of compiling a component.

use std::time::Duration;

/// Reason why a component has no machine code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The file is not a valid component. Holds the compiler's text.
    #[error("{0}")]
    Refused(String),
    /// The child reached its limit of processor time.
    #[error("the compilation needs more than {} s of processor time", .0.as_secs())]
    Cpu(Duration),
    /// The child reached its limit of wall clock.
    #[error("the compilation is not complete after {} s", .0.as_secs())]
    Clock(Duration),
    /// The child reached its limit of memory, in bytes.
    #[error("the compilation needs more than {} MiB of memory", .0 >> 20)]
    Memory(u64),
    /// The machine code is longer than this limit, in bytes.
    #[error("the machine code is larger than {} MiB", .0 >> 20)]
    Code(u64),
    /// The child ended in another way: a fault of the compiler, or a signal from outside.
    #[error("the compiler crashed ({0})")]
    Crashed(String),
    /// The system refused to start the child.
    #[error("the compiler cannot be started: {0}")]
    Start(String),
}
