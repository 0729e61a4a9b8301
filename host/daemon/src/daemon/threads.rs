//! Threads that the system may refuse.

use std::num::NonZero;
use std::thread::{Builder, available_parallelism};
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use trunkline_telemetry::wait;

/// Time after which an idle thread of the runtime's pool of blocking threads ends. The pool wakes its threads in turn. A task
/// that needs a thread once a second therefore keeps a thread for each second of this time.
pub const IDLE_THREAD_ENDS_AFTER: Duration = Duration::from_secs(3);
/// Shorter than [`IDLE_THREAD_ENDS_AFTER`].
const KEEP_ONE_EVERY: Duration = Duration::from_secs(2);

/// Threads beside those that follow the number of processors: connections, stores, clocks, files, the log, and a reserve.
/// Compilers are child processes. A plugin whose compiler does not start stops only its own routes.
const THREADS_FEW: usize = 13;

/// Checks that the system allows as many threads as a daemon needs. tokio panics when it gets no thread.
///
/// # Errors
/// When the system refuses a thread. The error says what to raise.
pub fn room_for_threads() -> anyhow::Result<()> {
    let count = 2 * available_parallelism().map_or(1, NonZero::get) + THREADS_FEW;
    let gate = Mutex::new(());
    std::thread::scope(|scope| {
        let closed = gate.lock();
        let wait = || drop(gate.lock());
        let started: std::io::Result<Vec<_>> = (0..count).map(|_| Builder::new().spawn_scoped(scope, wait)).collect();
        drop(closed);
        started.map(drop)
    })
    .with_context(|| {
        format!("the daemon cannot have {count} threads at a time; raise `ulimit -u`, `TasksMax` of systemd, or `pids.max` of the control group")
    })
}

/// Keeps at least one thread in the runtime's pool of blocking threads. With one thread, work for the pool waits while the
/// system refuses further threads. Without a thread tokio panics.
pub(super) async fn keep_one() {
    let mut every = wait::every(KEEP_ONE_EVERY);
    loop {
        every.tick().await;
        drop(tokio::task::spawn_blocking(|| ()));
    }
}
