//! Code that the end-to-end tests share: components, brokers, the daemon as a process, and waiting.

pub mod certificates;
pub mod compressed;
mod daemon;
pub mod frames;
pub mod handmade;
mod log;
pub mod rabbitmq;

pub use daemon::{Daemon, Ended};

use std::fs::DirBuilder;
use std::future::Future;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long `eventually` waits, unless `TRUNKLINE_TEST_PATIENCE_S` gives another time. The time ends a hang, not slow
/// work: a machine may take a minute to start a RabbitMQ or to compile all plugins.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

/// The components of the plugins in `plugins/`.
#[must_use]
pub fn plugins() -> &'static Path {
    Path::new(env!("PLUGINS_DIR"))
}

/// The components of `tests/guests`.
#[must_use]
pub fn guests() -> &'static Path {
    Path::new(env!("GUESTS_DIR"))
}

/// Shares compiled plugins among the daemons of all tests, because compiling the same plugins took most of the tests'
/// time. Compiled code is kept between runs.
pub fn share_compiled(state: &Path) {
    let shared = xtask::root().join("target/compiled");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&shared);
    made.expect("a directory below target");
    // A directory of another kind, or one that takes no files, belongs to the test itself.
    let _made = std::fs::create_dir_all(state).and_then(|()| symlink(shared, state.join("compiled")));
}

/// The longest time that a test waits for a condition.
#[must_use]
pub fn patience() -> Duration {
    let given = std::env::var("TRUNKLINE_TEST_PATIENCE_S").ok().and_then(|text| text.parse().ok());
    given.map_or(PATIENCE, Duration::from_secs)
}

/// Checks again and again until there is an answer.
///
/// # Panics
/// When [`patience`] ends.
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
