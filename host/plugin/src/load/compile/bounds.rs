//! Limits of one compiler child, by the length of the component.

use std::time::Duration;

/// Processor time of all threads of a child. Measured on a slow core: JavaScript's interpreter (11.5 MiB) takes 29 s and
/// Python's (17.6 MiB) 25 s. The limit is three times as much.
const CPU_BASE: Duration = Duration::from_secs(10);
const CPU_PER_MIB: Duration = Duration::from_secs(6);
/// A child has a low priority and is slow on a busy machine. Only a child that hangs reaches this limit.
const WALL_PER_CPU: u32 = 30;
/// Memory of a child. Measured: 379 MiB for JavaScript's interpreter, 352 MiB for Python's, 28 MiB for a plugin in Rust.
pub(crate) const MEMORY_BASE_BYTES: u64 = 512 << 20;
pub(crate) const MEMORY_PER_MIB_BYTES: u64 = 48 << 20;

/// Limits of one compiler child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    pub(crate) memory_max_bytes: u64,
}

impl Bounds {
    /// Limits for a component of that length. A component with an interpreter of another language has 10 MiB of code and
    /// more.
    pub(crate) fn of(component_bytes: usize) -> Self {
        let mib = u32::try_from(component_bytes.saturating_sub(1 << 20) >> 20).unwrap_or(u32::MAX);
        let cpu = CPU_BASE + CPU_PER_MIB * mib;
        Self {
            cpu,
            wall: cpu * WALL_PER_CPU,
            memory_max_bytes: MEMORY_BASE_BYTES + u64::from(mib) * MEMORY_PER_MIB_BYTES,
        }
    }
}
