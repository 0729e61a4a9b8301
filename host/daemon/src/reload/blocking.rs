//! Work that waits for the disk, off the async threads.

/// Runs `work` on a blocking thread. The future never ends if the runtime ends first.
pub(super) async fn on_blocking_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_ending) => std::future::pending().await,
    }
}
