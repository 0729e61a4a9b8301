//! What the end-to-end tests share: components, brokers, the daemon as a process, and waiting.

pub mod certificates;
mod daemon;
pub mod handmade;
pub mod rabbitmq;

pub use daemon::{Daemon, Ended};

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long `eventually` waits, unless `TRUNKLINE_TEST_PATIENCE_S` says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// The plugins that we ship, as components.
#[must_use]
pub fn plugins() -> &'static Path {
    Path::new(env!("PLUGINS_DIR"))
}

/// The components of `tests/guests`.
#[must_use]
pub fn guests() -> &'static Path {
    Path::new(env!("GUESTS_DIR"))
}

/// How patient the tests are.
#[must_use]
pub fn patience() -> Duration {
    let given = std::env::var("TRUNKLINE_TEST_PATIENCE_S").ok().and_then(|text| text.parse().ok());
    given.map_or(PATIENCE, Duration::from_secs)
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// When patience ends.
pub async fn eventually<T, F, Fut>(what: &str, mut check: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + patience();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: did not happen within {:?}", patience());
        tokio::time::sleep(PAUSE).await;
    }
}
