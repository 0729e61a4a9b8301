//! Wall clocks that jump. Delays and TTLs are durations: no event comes years early, and none is lost.
//!
//! The clock of the machine is not changed. libfaketime shows another wall clock to the daemon, and the boot clock goes
//! on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use trunkline_support::{Daemon, eventually};

use super::keep::keep;
use super::{handled, post};
use crate::bench::Bench;

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-kept]
bind = "keep"
ttl = "1h"
[queues.$P-out]
bind = "later"
[routes.$P-later]
from = "later.in"
plugin = "delayer"
[routes.$P-echo]
from = "echo"
plugin = "echo"
"#;
/// The allowed lateness of a delayed event on a busy machine. A wrong clock would make it years.
const LATE: Duration = Duration::from_secs(30);

/// The wall clock of a daemon.
struct WallClock {
    library: PathBuf,
    file: PathBuf,
}

impl WallClock {
    fn new(bench: &Bench) -> Self {
        let find = || {
            let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
            let mut files = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
            files.find(|file| file.exists())
        };
        let library = find().or_else(|| {
            xtask::apt::install(&["libfaketime"], "install libfaketime").expect("libfaketime can be installed");
            find()
        });
        let clock = Self { library: library.expect("libfaketime is installed"), file: bench.path("clock") };
        clock.set("+0");
        clock
    }

    /// Sets the offset from the real clock.
    fn set(&self, offset: &str) {
        let temporary = self.file.with_extension("tmp");
        std::fs::write(&temporary, format!("{offset}\n")).expect("a file");
        std::fs::rename(&temporary, &self.file).expect("renamed");
    }

    async fn start(&self, bench: &Bench) -> Daemon {
        let text = |path: &Path| path.display().to_string();
        let (library, file) = (text(&self.library), text(&self.file));
        let environment = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ];
        bench.start_with(ROUTES, &environment).await
    }
}

fn ready(bench: &Bench, daemon: &Daemon, queue: &str) -> f64 {
    daemon.metric(&format!(
        "trunkline_queue_messages{{queue=\"{}-{queue}\",state=\"ready\",role=\"work\"}}",
        bench.prefix
    ))
}

/// Publishes an event that is emitted after a delay; gives its due time.
fn later(daemon: &Daemon, ms: u64) -> Instant {
    let due = Instant::now() + Duration::from_millis(ms);
    post(daemon, "later.in", json!(ms));
    due
}

/// Waits for delayed events, which must not come before their time or years later.
async fn come(bench: &Bench, daemon: &Daemon, count: f64, due: Instant) {
    eventually("delayed events", || {
        let came = ready(bench, daemon, "out");
        assert!(came < count || Instant::now() + Duration::from_millis(50) > due, "{came} came too early");
        assert!(Instant::now() < due + LATE, "{came} of {count} came");
        async move { (came >= count).then_some(()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_a_year_and_back_ends_no_delay_and_no_ttl() {
    let bench = Bench::embedded();
    let clock = WallClock::new(&bench);
    let daemon = clock.start(&bench).await;
    keep(&daemon, "x").expect("confirmed");
    let first = later(&daemon, 4_000);
    clock.set("+1y");
    // The next action of the daemon sees the new clock.
    handled(&daemon, "echo", 1).await;
    let second = later(&daemon, 5_000);
    clock.set("-1y");
    handled(&daemon, "echo", 2).await;
    let third = later(&daemon, 6_000);
    for (count, due) in [(1.0, first), (2.0, second), (3.0, third)] {
        come(&bench, &daemon, count, due).await;
    }
    assert_eq!(ready(&bench, &daemon, "kept"), 1.0, "an hour is not over");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_between_two_runs_ends_no_delay_and_no_ttl() {
    let bench = Bench::embedded();
    let clock = WallClock::new(&bench);
    let (mut kept, mut came, mut due) = (0.0, 0.0, Instant::now());
    // Ahead, 1970 (hyper panics before it), after the year 2554, back, and right again.
    for offset in ["+0", "+1y", "-56y", "+600y", "-1y", "+0"] {
        clock.set(offset);
        let daemon = clock.start(&bench).await;
        assert_eq!(ready(&bench, &daemon, "kept"), kept, "{offset}: an hour is not over");
        if came > 0.0 {
            come(&bench, &daemon, came, due).await;
        }
        // For the next run.
        due = later(&daemon, 5_000);
        keep(&daemon, "x").expect("confirmed");
        (kept, came) = (kept + 1.0, came + 1.0);
        handled(&daemon, "echo", came).await;
        assert!(daemon.terminate().await.success());
    }
}
