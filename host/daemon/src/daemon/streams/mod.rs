//! Streams of events to HTTP clients: who has one open, how many, and their end.
//!
//! Promises at least once and in order for a client that comes back in time, with the id that it saw last, to any daemon
//! at the same broker. Each stream has a queue of its own ([`Tap`]); what was sent stays unacknowledged for so long that
//! everything between us and the client has room for less (`pump`), and comes again when the client does.

mod event;
mod frames;
mod pump;
mod source;
mod window;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use frames::{Frame, Frames};
use pump::{Pump, Seen, Source};
use source::{fingerprint, source};
use trunkline_broker::{Broker, Error, Tap};
use trunkline_config::{Codec, Config};
use trunkline_event::{ExchangeName, QueueName, RoutingKey};
use trunkline_http::{Items, Problem, StreamRequest};
use trunkline_telemetry as telemetry;

/// Streams at once.
const STREAMS_MAX: usize = 64;
/// New streams within the time that their queues outlive them: what a client that never comes back may leave behind.
const CREATED_MAX: usize = 512;
/// How long events are kept for a client that is away.
const EXPIRES: Duration = Duration::from_secs(600);
/// Events that are kept for it.
const WAITING_MAX: u32 = 50_000;
/// Frames between the broker and the connection; all else waits in the broker.
const FRAMES_MAX: usize = 16;
/// What they may take, or one of them.
const FRAMES_BYTES: usize = 256 << 10;
/// What an older connection of the same stream gets to end.
const HANDOVER_WITHIN: Duration = Duration::from_secs(5);

/// Every open stream.
pub(super) struct Streams {
    places: Arc<Semaphore>,
    open: Mutex<HashMap<String, Open>>,
    created: Mutex<VecDeque<Instant>>,
    stop: CancellationToken,
    pumps: Mutex<JoinSet<()>>,
}

/// A stream's connection.
#[derive(Clone)]
struct Open {
    number: Uuid,
    /// Cancelled when the same client comes again.
    leave: CancellationToken,
    /// Cancelled when the last has been given back to the broker.
    left: CancellationToken,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(STREAMS_MAX)),
            open: Mutex::default(),
            created: Mutex::default(),
            stop: CancellationToken::new(),
            pumps: Mutex::default(),
        }
    }

    /// Opens a stream, or goes on with one.
    pub(super) async fn open(
        self: &Arc<Self>,
        config: &Config,
        broker: &Broker,
        request: StreamRequest,
    ) -> Result<Items, Problem> {
        let (exchange, keys) = source(config, &request)?;
        let source = fingerprint(&exchange, &keys);
        let (token, seen) = match &request.last_event_id {
            Some(id) => came_back(id, &source)?,
            None => (new_token(&source), Seen::Everything),
        };
        if self.stop.is_cancelled() {
            return Err(Problem::unavailable("the daemon stops"));
        }
        self.hand_over(&token).await;
        let place =
            self.places.clone().try_acquire_owned().map_err(|_| {
                Problem::unavailable(format!("{STREAMS_MAX} streams are open, and there may be no more"))
            })?;
        let tap = tap(&token, exchange, keys)?;
        let resumed = seen != Seen::Everything && broker.tap_consumers(&tap).await.map_err(problem)?.is_some();
        if !resumed {
            self.count_created()?;
        }
        // For one that is there this changes nothing, unless its other queue was lost.
        broker.open_tap(&tap).await.map_err(problem)?;
        let codec = config.topology.exchanges.get(&tap.exchange).map_or(Codec::Raw, |exchange| exchange.codec);
        let (frames, items) = Frames::new(FRAMES_MAX, FRAMES_BYTES);
        let open = Open { number: Uuid::now_v7(), leave: self.stop.child_token(), left: CancellationToken::new() };
        let source = Source { broker: broker.clone(), tap, codec, token: token.clone() };
        let work = Pump::begin(source, frames, open.leave.clone()).run(seen, resumed);
        self.lock_open().insert(token.clone(), open.clone());
        let streams = self.clone();
        let task = async move {
            telemetry::stream_opened();
            work.await;
            streams.lock_open().retain(|_, other| other.number != open.number);
            open.left.cancel();
            drop(place);
            // Who sees it closed may open another.
            telemetry::stream_closed();
        };
        let mut pumps = self.pumps.lock().unwrap_or_else(PoisonError::into_inner);
        while pumps.try_join_next().is_some() {}
        pumps.spawn(task);
        drop(pumps);
        let next = async |mut items: mpsc::Receiver<Frame>| items.recv().await.map(|Frame { item, .. }| (item, items));
        Ok(futures_util::stream::unfold(items, next).boxed())
    }

    /// Ends every stream and takes no new ones: their clients go to another daemon.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Returns when what was not acknowledged is with the broker again.
    pub(super) async fn ended(&self) {
        let mut pumps = std::mem::take(&mut *self.pumps.lock().unwrap_or_else(PoisonError::into_inner));
        while pumps.join_next().await.is_some() {}
    }

    /// Ends the connection that this daemon still has for the same stream: its client is gone, or it would not be here.
    async fn hand_over(&self, token: &str) {
        let before = self.lock_open().get(token).cloned();
        if let Some(before) = before {
            before.leave.cancel();
            let _stuck = tokio::time::timeout(HANDOVER_WITHIN, before.left.cancelled()).await;
        }
    }

    fn count_created(&self) -> Result<(), Problem> {
        let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        while created.front().is_some_and(|at| at.elapsed() >= EXPIRES) {
            created.pop_front();
        }
        if created.len() >= CREATED_MAX {
            return Err(Problem::unavailable(format!(
                "{CREATED_MAX} streams were begun within {} minutes; go on with one, by its last event id",
                EXPIRES.as_secs() / 60
            )));
        }
        created.push_back(Instant::now());
        Ok(())
    }

    fn lock_open(&self) -> std::sync::MutexGuard<'_, HashMap<String, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn problem(error: Error) -> Problem {
    Problem::unavailable(error.to_string())
}

fn new_token(source: &str) -> String {
    format!("{}-{source}", Uuid::now_v7().simple())
}

/// The token and the event of a last event id, if they can be ours and fit what is asked for.
fn came_back(id: &str, source: &str) -> Result<(String, Seen), Problem> {
    let is_hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let not_ours = || Problem::bad_request("the last event id is none that a stream of Trunkline gave");
    let (token, event) = id.split_once('.').ok_or_else(not_ours)?;
    let (unique, of) = token.split_once('-').ok_or_else(not_ours)?;
    if !is_hex(unique, 32) || !is_hex(of, 8) || !(event == "0" || is_hex(event, 16)) {
        return Err(not_ours());
    }
    if of != source {
        return Err(Problem::bad_request("the last event id is of a stream with another exchange or other patterns"));
    }
    let seen = if event == "0" { Seen::Nothing } else { Seen::UpTo(event.to_owned()) };
    Ok((token.to_owned(), seen))
}

fn tap(token: &str, exchange: ExchangeName, keys: Vec<RoutingKey>) -> Result<Tap, Problem> {
    let name = |text: String| QueueName::new(text).map_err(|error| Problem::bad_request(error.to_string()));
    Ok(Tap {
        queue: name(format!("trunkline.stream.{token}"))?,
        overflow: name(format!("trunkline.stream.{token}.lost"))?,
        exchange,
        keys,
        expires: EXPIRES,
        max_length: WAITING_MAX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_event_id_is_taken_only_for_what_it_was_given() {
        let keys = |texts: &[&str]| texts.iter().map(|text| RoutingKey::new(text).expect("a key")).collect::<Vec<_>>();
        let exchange = ExchangeName::new("events").expect("a name");
        let source = fingerprint(&exchange, &keys(&["a", "b"]));
        assert_ne!(source, fingerprint(&exchange, &keys(&["ab"])));
        let token = new_token(&source);
        assert_eq!(came_back(&format!("{token}.0"), &source).expect("ours"), (token.clone(), Seen::Nothing));
        let event = "0123456789abcdef";
        let seen = Seen::UpTo(event.to_owned());
        assert_eq!(came_back(&format!("{token}.{event}"), &source).expect("ours"), (token.clone(), seen));
        assert!(came_back(&format!("{token}.{event}"), "00000000").is_err(), "other patterns");
        for bad in ["", "x", "a-b.c", &token, &format!("{token}.0123456789ABCDEF"), &format!("{token}.#")] {
            assert!(came_back(bad, &source).is_err(), "{bad}");
        }
    }
}
