//! Observes the daemon from outside: its metrics and its memory. Counters start again with each process, so the gains
//! of all processes are added.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::daemon::rss_max_bytes;
use crate::http::Client;
use crate::plan::Route;
use crate::side;
use crate::usage::Usage;

const EVERY: Duration = Duration::from_millis(100);
/// Threads and descriptors are counted once a second.
const USAGE_TICKS: u64 = 10;

/// The relevant series, summed over routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Settled with any outcome but a retry.
    pub settled: u64,
    /// Settled by a copy that waits for a retry.
    pub retried: u64,
    /// Sessions after the first one.
    pub reconnects: u64,
    /// An alarm stops publishing.
    pub blocked: bool,
    /// Dead letters of the routes for hostile messages.
    pub aside_dead: u64,
    /// Messages in the embedded broker, by queue.
    pub depths: BTreeMap<String, u64>,
}

impl Metrics {
    /// Reads the text form of `/metrics`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        for line in text.lines().filter(|line| line.starts_with("trunkline_")) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters and depths")]
            let value = value.parse::<f64>().unwrap_or_default() as u64;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            match name {
                "trunkline_messages_settled_total" if labels.contains("outcome=\"retry\"") => metrics.retried += value,
                "trunkline_messages_settled_total" => {
                    metrics.settled += value;
                    let is_load = Route::ALL.iter().any(|route| labels.contains(&format!("\"{}\"", route.name())));
                    let is_aside = labels.contains("outcome=\"dead_letter\"") && !is_load;
                    metrics.aside_dead += if is_aside { value } else { 0 };
                }
                "trunkline_broker_reconnects_total" => metrics.reconnects += value,
                "trunkline_broker_blocked" => metrics.blocked = value > 0,
                "trunkline_queue_messages" => {
                    let queue = labels.split_once("queue=\"").and_then(|(_, rest)| rest.split_once('"'));
                    let queue = queue.map(|(queue, _)| queue.to_owned()).unwrap_or_default();
                    *metrics.depths.entry(queue).or_default() += value;
                }
                _ => {}
            }
        }
        metrics
    }

    /// Unsettled events in the embedded broker.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let is_input = |queue: &str| {
            let route = queue.starts_with("chaos-echo") || queue.starts_with("chaos-direct");
            route && !queue.ends_with(".dlq")
        };
        self.depths.iter().filter(|(queue, _)| is_input(queue)).map(|(_, count)| count).sum()
    }

    /// Unsettled hostile messages in the embedded broker.
    #[must_use]
    pub fn waiting_aside(&self) -> u64 {
        let is_input =
            |queue: &str| side::INPUTS.iter().any(|input| queue.starts_with(input)) && !queue.ends_with(".dlq");
        self.depths.iter().filter(|(queue, _)| is_input(queue)).map(|(_, count)| count).sum()
    }
}

/// Reads the metrics of the daemon.
///
/// # Errors
/// When the daemon does not answer.
pub async fn metrics(client: &mut Client) -> Result<Metrics> {
    let (status, text) = client.get("/metrics").await?;
    if status != 200 {
        bail!("/metrics answers {status}");
    }
    Ok(Metrics::parse(&text))
}

/// The observations so far.
#[derive(Debug, Default)]
pub struct Watch {
    /// The daemon's process id; 0 while the daemon does not run.
    pub pid: AtomicU64,
    /// Its largest memory.
    pub rss_max_bytes: AtomicU64,
    /// Samples during which publishing was blocked.
    pub blocked: AtomicU64,
    /// Unsettled events in the embedded broker.
    pub waiting: AtomicU64,
    /// Samples with an answer.
    pub looks: AtomicU64,
    /// Threads and descriptors.
    pub usage: Usage,
    sessions: Gains,
    retried: Gains,
    aside_dead: Gains,
}

/// The gain of a counter over all processes. A smaller value than before comes from a new process.
#[derive(Debug, Default)]
struct Gains {
    /// The sum, and the last value.
    seen: Mutex<(u64, u64)>,
}

impl Gains {
    fn note(&self, value: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (sum, last) = *seen;
        *seen = (sum + if value >= last { value - last } else { value }, value);
    }

    fn sum(&self) -> u64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Watch {
    /// Adds one sample.
    pub fn note(&self, metrics: &Metrics) {
        self.sessions.note(metrics.reconnects);
        self.retried.note(metrics.retried);
        self.aside_dead.note(metrics.aside_dead);
        self.blocked.fetch_add(u64::from(metrics.blocked), Ordering::Relaxed);
        self.waiting.store(metrics.waiting() + metrics.waiting_aside(), Ordering::Relaxed);
        self.looks.fetch_add(1, Ordering::Relaxed);
    }

    /// New sessions, over all processes.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.sessions.sum()
    }

    /// Copies that waited for a retry, over all processes.
    #[must_use]
    pub fn retried(&self) -> u64 {
        self.retried.sum()
    }

    /// Dead letters of the routes for hostile messages, over all processes.
    #[must_use]
    pub fn aside_dead(&self) -> u64 {
        self.aside_dead.sum()
    }

    fn note_memory(&self) {
        let pid = u32::try_from(self.pid.load(Ordering::Relaxed)).unwrap_or_default();
        if let Some(bytes) = Some(pid).filter(|pid| *pid > 0).and_then(rss_max_bytes) {
            self.rss_max_bytes.fetch_max(bytes, Ordering::Relaxed);
        }
    }

    /// Samples without end.
    pub async fn run(&self, address: SocketAddr, each: impl Fn()) {
        let mut client = Client::new(address);
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for tick in 0_u64.. {
            every.tick().await;
            self.note_memory();
            if tick % USAGE_TICKS == 0 {
                self.usage.note(u32::try_from(self.pid.load(Ordering::Relaxed)).unwrap_or_default());
            }
            if let Ok(metrics) = metrics(&mut client).await {
                self.note(&metrics);
            }
            each();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP trunkline_messages_settled_total x
trunkline_messages_settled_total{route="chaos-echo",outcome="ack"} 7
trunkline_messages_settled_total{route="chaos-echo",outcome="retry"} 2
trunkline_messages_settled_total{route="chaos-direct",outcome="dead_letter"} 1
trunkline_messages_settled_total{route="chaos-both",outcome="dead_letter"} 5
trunkline_broker_reconnects_total 3
trunkline_broker_blocked 1
trunkline_queue_messages{queue="chaos-echo",state="ready"} 4
trunkline_queue_messages{queue="chaos-echo",state="unacknowledged"} 1
trunkline_queue_messages{queue="chaos-direct.other",state="ready"} 2
trunkline_queue_messages{queue="chaos-echo.dlq",state="ready"} 9
"#;

    #[test]
    fn series_are_summed() {
        let metrics = Metrics::parse(TEXT);
        assert_eq!((metrics.settled, metrics.retried, metrics.reconnects, metrics.blocked), (13, 2, 3, true));
        assert_eq!(metrics.aside_dead, 5);
        assert_eq!(metrics.waiting(), 7, "dead letters do not wait");
    }

    #[test]
    fn a_new_process_counts_from_zero() {
        let watch = Watch::default();
        for reconnects in [0, 2, 2, 1, 4] {
            watch.note(&Metrics { reconnects, ..Metrics::default() });
        }
        assert_eq!(watch.reconnects(), 2 + 1 + 3);
    }
}
