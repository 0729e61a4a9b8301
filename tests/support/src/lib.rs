//! What the end-to-end tests share: components, brokers, the daemon as a process, and waiting.

pub mod certificates;
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

/// How long `eventually` waits, unless `TRUNKLINE_TEST_PATIENCE_S` says otherwise. It is for what hangs, not for what is
/// slow: a machine may take a minute to start a RabbitMQ or to compile everybody's plugins.
const PATIENCE: Duration = Duration::from_secs(120);
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

/// Lets a daemon with this state directory find what others of the tests have compiled, and leave what it compiles: they
/// run the same plugins, and compiling them took most of the tests' time. What was compiled is kept between runs.
pub fn share_compiled(state: &Path) {
    let shared = xtask::root().join("target/compiled");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&shared);
    made.expect("a directory below target");
    // A directory of another kind, or one that takes no files, is the test's own matter.
    let _made = std::fs::create_dir_all(state).and_then(|()| symlink(shared, state.join("compiled")));
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
