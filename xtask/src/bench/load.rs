//! Load for a daemon over HTTP: events in batches or one by one, from several connections, and the wait for their outcomes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use super::daemon::BenchDaemon;
use super::http::{HttpConnection, metric};

/// The events of a batch.
pub(crate) const BATCH: u64 = 100;
/// Time between two looks at the metrics. A look costs the daemon a few milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Limit for the time without a settled event.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// Events that several connections publish.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// The JSON of one event.
    pub(crate) event: String,
    pub(crate) connections: u64,
    pub(crate) events: u64,
    /// Whether an event is a request of its own.
    pub(crate) is_single: bool,
}

/// An event of a type, whose data is JSON of about that many bytes.
pub(crate) fn event(kind: &str, bytes: usize) -> String {
    let pad = "x".repeat(bytes.saturating_sub(60));
    format!(r#"{{"type":"{kind}","data":{{"id":123456,"customer":{{"n":42}},"pad":"{pad}"}}}}"#)
}

impl Load {
    /// Publishes all events and gives the time until the last confirm.
    pub(crate) fn publish(&self, address: &str) -> Result<Duration> {
        let in_request = if self.is_single { 1 } else { BATCH };
        let (path, body) = if self.is_single {
            ("/api/v1/events", self.event.clone())
        } else {
            let events = vec![self.event.as_str(); usize::try_from(BATCH)?].join(",");
            ("/api/v1/events/batch", format!(r#"{{"events":[{events}]}}"#))
        };
        let requests = self.events.div_ceil(in_request);
        let next = AtomicU64::new(0);
        let connections = (0..self.connections).map(|_| HttpConnection::open(address)).collect::<Result<Vec<_>>>()?;
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let running: Vec<_> = connections
                .into_iter()
                .map(|mut connection| {
                    let (next, body) = (&next, &body);
                    scope.spawn(move || -> Result<()> {
                        while next.fetch_add(1, Ordering::Relaxed) < requests {
                            connection.post(path, body)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            let mut results =
                running.into_iter().map(|thread| thread.join().map_err(|_panic| anyhow!("a connection panicked"))?);
            results.try_for_each(|result| result)
        })?;
        Ok(begun.elapsed())
    }
}

/// Waits until the daemon has settled that many events.
pub(crate) fn wait_until_settled(daemon: &mut BenchDaemon, events: u64) -> Result<()> {
    let mut connection = HttpConnection::open(daemon.address())?;
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let wanted = events as f64;
    let (mut last, mut changed) = (0.0, Instant::now());
    loop {
        let settled = metric(&mut connection, "trunkline_messages_settled_total{")?;
        if settled >= wanted {
            return Ok(());
        }
        if settled > last {
            (last, changed) = (settled, Instant::now());
        }
        daemon.program.check()?;
        if changed.elapsed() > STALLED_AFTER {
            bail!("only {settled} of {events} events were settled:\n{}", daemon.program.last_lines());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
