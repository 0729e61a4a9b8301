//! The phase of the daemon.

use std::sync::atomic::{AtomicU8, Ordering};

/// A phase between start and stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DaemonPhase {
    /// The first generation is being loaded.
    Starting,
    /// The daemon takes events.
    Running,
    /// The daemon finishes its work.
    Draining,
}

/// The present phase, shared by tasks.
pub(super) struct PresentPhase(AtomicU8);

impl PresentPhase {
    pub(super) fn new() -> Self {
        Self(AtomicU8::new(DaemonPhase::Starting as u8))
    }

    pub(super) fn set(&self, phase: DaemonPhase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> DaemonPhase {
        match self.0.load(Ordering::Relaxed) {
            phase if phase == DaemonPhase::Starting as u8 => DaemonPhase::Starting,
            phase if phase == DaemonPhase::Running as u8 => DaemonPhase::Running,
            _ => DaemonPhase::Draining,
        }
    }
}
