//! The open streams of the daemon, their number, and their end.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::frames::{Frames, StreamFrame};
use super::resume_point::{self, ResumePoint, new_token};
use super::running_stream::{RunningStream, StreamSource};
use super::selection::{fingerprint, select};
use trunkline_broker::{Broker, Error, EventStreamQueues};
use trunkline_config::{Codec, Config};
use trunkline_event::{ExchangeName, QueueName, RoutingKey};
use trunkline_http::{Problem, StreamItems, StreamRequest};
use trunkline_telemetry as telemetry;

/// Open streams at a time.
const STREAMS_MAX: usize = 64;
/// New streams within [`EXPIRES`]. A client that never reconnects leaves a queue behind for that time.
const CREATED_MAX: usize = 512;
/// Time for which events are kept for a disconnected client.
const EXPIRES: Duration = Duration::from_secs(600);
/// Events that are kept for a disconnected client.
const WAITING_MAX: u32 = 50_000;
/// Frames between the broker and the connection. All other events wait in the broker.
const FRAMES_MAX: usize = 16;
/// Bytes of these frames. One larger frame is sent alone.
const FRAMES_BYTES: usize = 256 << 10;
/// Time for an older connection of the same stream to end.
const HANDOVER_WITHIN: Duration = Duration::from_secs(5);

/// Every open stream.
pub(crate) struct Streams {
    slots: Arc<Semaphore>,
    open: Mutex<HashMap<String, OpenStream>>,
    created: Mutex<VecDeque<Instant>>,
    stop: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

/// The connection of a stream.
#[derive(Clone)]
struct OpenStream {
    number: Uuid,
    /// Cancelled when the same client reconnects.
    leave: CancellationToken,
    /// Cancelled when the broker has every unacknowledged message again.
    ended: CancellationToken,
}

impl Streams {
    pub(crate) fn new() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(STREAMS_MAX)),
            open: Mutex::default(),
            created: Mutex::default(),
            stop: CancellationToken::new(),
            tasks: Mutex::default(),
        }
    }

    /// Opens a stream, or resumes one.
    pub(crate) async fn open(
        self: &Arc<Self>,
        config: &Config,
        broker: &Broker,
        request: StreamRequest,
    ) -> Result<StreamItems, Problem> {
        let (exchange, keys) = select(config, &request)?;
        let selection = fingerprint(&exchange, &keys);
        let (token, point) = match &request.last_event_id {
            Some(id) => resume_point::parse(id, &selection)?,
            None => (new_token(&selection), ResumePoint::New),
        };
        if self.stop.is_cancelled() {
            return Err(Problem::unavailable("the daemon is stopping"));
        }
        self.hand_over(&token).await;
        let slot = self.slots.clone().try_acquire_owned().map_err(|_| {
            Problem::unavailable(format!("all {STREAMS_MAX} streams are in use; open the stream again later"))
        })?;
        let stream_queues = stream_queues(&token, exchange, keys)?;
        let resumed = point != ResumePoint::New
            && broker.event_stream_consumers(&stream_queues).await.map_err(problem)?.is_some();
        if !resumed {
            self.count_created()?;
        }
        // Opening a queue that exists changes nothing, unless its second queue was lost.
        broker.open_event_stream(&stream_queues).await.map_err(problem)?;
        let codec =
            config.topology.exchanges.get(&stream_queues.exchange).map_or(Codec::Raw, |exchange| exchange.codec);
        let (frames, items) = Frames::new(FRAMES_MAX, FRAMES_BYTES);
        let open =
            OpenStream { number: Uuid::now_v7(), leave: self.stop.child_token(), ended: CancellationToken::new() };
        let source = StreamSource { broker: broker.clone(), stream_queues, codec, token: token.clone() };
        let work = RunningStream::begin(source, frames, open.leave.clone()).run(point, resumed);
        self.open.lock().insert(token.clone(), open.clone());
        let streams = self.clone();
        let task = async move {
            telemetry::stream_opened();
            work.await;
            streams.open.lock().retain(|_, other| other.number != open.number);
            open.ended.cancel();
            drop(slot);
            // The slot is free before the metric shows it.
            telemetry::stream_closed();
        };
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
        drop(tasks);
        let next = async |mut items: mpsc::Receiver<StreamFrame>| {
            items.recv().await.map(|StreamFrame { item, .. }| (item, items))
        };
        Ok(futures_util::stream::unfold(items, next).boxed())
    }

    /// Ends every stream and refuses new ones. Their clients reconnect to another daemon.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Returns when the broker has every unacknowledged message again.
    pub(crate) async fn ended(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        while tasks.join_next().await.is_some() {}
    }

    /// Ends the older connection of the same stream on this daemon. Its client has reconnected.
    async fn hand_over(&self, token: &str) {
        let before = self.open.lock().get(token).cloned();
        if let Some(before) = before {
            before.leave.cancel();
            let _stuck = tokio::time::timeout(HANDOVER_WITHIN, before.ended.cancelled()).await;
        }
    }

    fn count_created(&self) -> Result<(), Problem> {
        let mut created = self.created.lock();
        while created.front().is_some_and(|at| at.elapsed() >= EXPIRES) {
            created.pop_front();
        }
        if created.len() >= CREATED_MAX {
            return Err(Problem::unavailable(format!(
                "{CREATED_MAX} streams were opened within {} minutes; resume a stream with its last event id",
                EXPIRES.as_secs() / 60
            )));
        }
        created.push_back(Instant::now());
        Ok(())
    }
}

fn problem(error: Error) -> Problem {
    Problem::unavailable(error.to_string())
}

fn stream_queues(token: &str, exchange: ExchangeName, keys: Vec<RoutingKey>) -> Result<EventStreamQueues, Problem> {
    let name = |text: String| QueueName::new(text).map_err(|error| Problem::bad_request(error.to_string()));
    Ok(EventStreamQueues {
        queue: name(format!("trunkline.stream.{token}"))?,
        overflow: name(format!("trunkline.stream.{token}.lost"))?,
        exchange,
        keys,
        expires: EXPIRES,
        max_length: WAITING_MAX,
    })
}
