//! Limits on linear memory and tables of an instance.

use wasmtime::ResourceLimiter;

/// Elements of all tables of an instance together.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 10_000;

/// Counts all linear memories of an instance together, and all its tables together, so that several small ones have the
/// same limit as one.
pub(crate) struct MemoryLimiter {
    pub(crate) used_bytes: u64,
    max_bytes: u64,
    table_elements: usize,
    /// The resource of which the guest asked for more than its limit.
    pub(crate) denied: Option<Denied>,
}

/// A resource with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    Memory,
    Table,
}

impl MemoryLimiter {
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self { used_bytes: 0, max_bytes, table_elements: 0, denied: None }
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.used_bytes + desired.saturating_sub(current) as u64;
        if wanted > self.max_bytes {
            self.denied = Some(Denied::Memory);
            return Ok(false);
        }
        self.used_bytes = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.table_elements + desired.saturating_sub(current);
        if wanted > TABLE_ELEMENTS_MAX {
            self.denied = Some(Denied::Table);
            return Ok(false);
        }
        self.table_elements = wanted;
        Ok(true)
    }
}
