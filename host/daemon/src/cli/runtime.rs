//! The async runtime of a verb.

use trunkline::daemon;

/// Starts the runtime. The threads are checked first, because tokio panics when it gets no thread.
pub(super) fn start() -> anyhow::Result<tokio::runtime::Runtime> {
    daemon::room_for_threads()?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.enable_all().thread_keep_alive(daemon::IDLE_THREAD_ENDS_AFTER).build()?)
}
