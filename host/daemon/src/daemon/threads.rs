//! Threads that the system may refuse.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, available_parallelism};

use anyhow::Context;

/// Beside those that follow the number of processors: connections, stores, clocks, files, the log, and a few to spare. Compilers
/// are processes of their own, and a plugin whose compiler does not start holds only its own routes down.
const THREADS_FEW: usize = 13;

/// Whether there can be as many threads at a time as a daemon needs. tokio panics where it gets none.
///
/// # Errors
/// When there cannot, with what to do.
pub fn room_for_threads() -> anyhow::Result<()> {
    let count = 2 * available_parallelism().map_or(1, NonZero::get) + THREADS_FEW;
    let gate = Mutex::new(());
    std::thread::scope(|scope| {
        let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = || drop(gate.lock());
        let started: std::io::Result<Vec<_>> = (0..count).map(|_| Builder::new().spawn_scoped(scope, wait)).collect();
        drop(closed);
        started.map(drop)
    })
    .with_context(|| {
        format!("cannot have {count} threads at a time; raise ulimit -u, TasksMax of systemd, or pids.max of the group")
    })
}

/// Keeps the runtime's pool of threads that may block from being empty. With one in it, what is given to the pool waits
/// while the system refuses more; without, tokio panics. An idle one ends after ten seconds: call this more often.
pub(super) fn keep_one() {
    drop(tokio::task::spawn_blocking(|| ()));
}
