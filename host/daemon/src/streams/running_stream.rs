//! One stream, from its queue to its connection.
//!
//! A client does not report what it has received until it reconnects. Events that were sent therefore stay unacknowledged
//! until more bytes were sent after them than the buffers between the daemon and the client hold (`window`). Then the
//! client has received them, or takes nothing and its stream ends. When the client reconnects, the queue gives all of them
//! again, in order, and the events before the resume point are skipped.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::event;
use super::frames::{FrameOutcome, Frames};
use super::resume_point::ResumePoint;
use super::window::{BEGIN, BEGIN_POSITION, Positioned, StreamWindow, WindowStep, empty, is_begin};
use trunkline_broker::{
    Broker, Delivery, EventStreamQueues, Next, NothingPublished, Publication, Settlement, Subscription,
};
use trunkline_config::Codec;
use trunkline_event::Properties;
use trunkline_http::{StreamGap, StreamItem, StreamReady};
use trunkline_telemetry as telemetry;
use trunkline_telemetry::wait::{self, Loop, RetryLoop};

/// Bounds of the prefetch on RabbitMQ. All prefetched messages are in memory.
const AHEAD_MIN: u16 = 32;
const AHEAD_MAX: u16 = 1024;
/// Bytes of the prefetched messages, by the mean size of recent events.
const AHEAD_BYTES: usize = 8 << 20;
/// The prefetch is raised when no more than this number is left.
const AHEAD_LEFT: usize = 16;
/// A comment is sent after this time without an event.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A client that takes nothing for this time is disconnected.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// Period in which expired events are acknowledged. RabbitMQ closes a channel with a delivery that is 30 minutes old.
const RELEASE_EVERY: Duration = Duration::from_secs(5);
/// Time for the broker to confirm the marker of a stream's begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
/// Pause between two reports of events that did not fit.
const GAPS_EVERY: Duration = Duration::from_secs(1);
/// The type of the marker that ends an older connection of the same client, perhaps on another daemon.
const TAKEOVER: &str = "trunkline.stream.takeover";

/// The reason why a stream ends.
enum StreamEnd {
    /// The client disconnected, or takes nothing.
    Client(&'static str),
    /// The client reconnected elsewhere, or the daemon stops.
    Superseded,
    /// The queue cannot be read any more.
    Broker(String),
}

/// The source of a stream.
pub(super) struct StreamSource {
    pub(super) broker: Broker,
    pub(super) stream_queues: EventStreamQueues,
    pub(super) codec: Codec,
    /// The name of the stream.
    pub(super) token: String,
}

/// A marker that this connection put into the queue to end older connections of the same client.
struct TakeoverMarker {
    id: String,
    /// The marker was delivered. Later markers are of newer connections.
    is_reached: bool,
}

/// A running stream.
pub(super) struct RunningStream {
    broker: Broker,
    stream_queues: EventStreamQueues,
    codec: Codec,
    token: String,
    frames: Frames,
    /// Cancelled when the client reconnects elsewhere, or the daemon stops.
    superseded: CancellationToken,
    last_frame: Instant,
    window: StreamWindow,
    prefetch: u16,
    /// Deliveries since the prefetch was set.
    taken: usize,
    /// The takeover marker of this connection.
    takeover: Option<TakeoverMarker>,
    last_gap: Option<Instant>,
}

impl RunningStream {
    pub(super) fn begin(source: StreamSource, frames: Frames, superseded: CancellationToken) -> Self {
        let StreamSource { broker, stream_queues, codec, token } = source;
        // The embedded broker delivers nothing before it is asked.
        let prefetch = if broker.is_atomic() { u16::MAX } else { AHEAD_MIN };
        Self {
            window: StreamWindow::new(&stream_queues),
            broker,
            stream_queues,
            codec,
            token,
            frames,
            superseded,
            last_frame: Instant::now(),
            prefetch,
            taken: 0,
            takeover: None,
            last_gap: None,
        }
    }

    /// Runs until the client disconnects or reconnects elsewhere, or the daemon stops.
    pub(super) async fn run(mut self, point: ResumePoint, resumed: bool) {
        match self.work(point, resumed).await {
            StreamEnd::Superseded => tracing::debug!(
                stream = self.token,
                "a stream ended, because its client reconnected or the daemon is stopping"
            ),
            StreamEnd::Client(why) => {
                tracing::debug!(
                    stream = self.token,
                    why,
                    "a stream ended, because its client disconnected or stopped reading"
                )
            }
            StreamEnd::Broker(why) => {
                tracing::warn!(
                    stream = self.token,
                    why,
                    "a stream ended, because its queue could not be read; the client may reconnect"
                )
            }
        }
    }

    async fn work(&mut self, point: ResumePoint, resumed: bool) -> StreamEnd {
        if !resumed {
            // Without the marker a client that reconnects without an event gets a gap that may not be one.
            let begun = self.publish_marker(BEGIN, Uuid::now_v7().to_string());
            tokio::select! {
                () = self.superseded.cancelled() => return StreamEnd::Superseded,
                begun = tokio::time::timeout(BEGIN_WITHIN, begun) => if !matches!(begun, Ok(Ok(()))) {
                    tracing::debug!(stream = self.token, "the queue of a stream has no marker of its beginning");
                }
            }
        }
        let ready = StreamReady {
            stream: self.token.clone(),
            resumed,
            exchange: self.stream_queues.exchange.to_string(),
            patterns: self.stream_queues.keys.iter().map(ToString::to_string).collect(),
            expires_s: self.stream_queues.expires.as_secs(),
        };
        let id = match (&point, resumed) {
            (ResumePoint::After(position), true) => format!("{}.{position}", self.token),
            (ResumePoint::After(_) | ResumePoint::New | ResumePoint::Begin, _) => {
                format!("{}.{BEGIN_POSITION}", self.token)
            }
        };
        if let Err(end) = self.send(StreamItem::Ready(id, ready)).await {
            return end;
        }
        if point != ResumePoint::New && !resumed {
            let detail =
                "the queue of this stream was deleted, so events after the last event id may be missing".to_owned();
            if let Err(end) = self.send(StreamItem::Gap(StreamGap { reason: "expired", detail })).await {
                return end;
            }
        }
        match point {
            ResumePoint::After(position) if resumed => self.window.received(position),
            ResumePoint::Begin if resumed => self.window.received(BEGIN_POSITION.to_owned()),
            ResumePoint::After(_) | ResumePoint::Begin | ResumePoint::New => {}
        }
        if resumed && let Err(why) = self.announce().await {
            return StreamEnd::Broker(why);
        }
        let mut retry = RetryLoop::new(Loop::StreamSubscribe, "");
        loop {
            let why = match self.consume(&mut retry).await {
                Ok(why) => why,
                Err(end) => return end,
            };
            // The client keeps its connection. Unacknowledged messages are delivered again, and those that it got are skipped.
            tracing::debug!(
                stream = self.token,
                why,
                "the subscription of a stream ended; the daemon subscribes again"
            );
            self.window.lost();
            tokio::select! {
                () = self.superseded.cancelled() => return StreamEnd::Superseded,
                () = self.frames.closed() => return StreamEnd::Client("the client disconnected"),
                tried = retry.pause(&why) => if tried.is_err() { return StreamEnd::Broker(why) },
            }
            if let Ok(None) = self.broker.event_stream_consumers(&self.stream_queues).await {
                return StreamEnd::Broker("the queue of the stream was deleted".to_owned());
            }
            if self.last_frame.elapsed() >= KEEP_ALIVE
                && let Err(end) = self.send(StreamItem::KeepAlive).await
            {
                return end;
            }
        }
    }

    /// Puts a takeover marker into the queue. The former connection of this client, on any daemon, reads the marker after
    /// everything before it, and ends. Until then the broker delivers nothing to this connection.
    async fn announce(&mut self) -> Result<(), String> {
        if self.broker.is_atomic() {
            return Ok(());
        }
        let id = Uuid::now_v7().to_string();
        self.publish_marker(TAKEOVER, id.clone()).await?;
        self.takeover = Some(TakeoverMarker { id, is_reached: false });
        Ok(())
    }

    /// Publishes a marker into the queue.
    async fn publish_marker(&self, kind: &str, id: String) -> Result<(), String> {
        let properties = Properties { message_id: Some(id), kind: Some(kind.to_owned()), ..Properties::default() };
        let marker = Publication::now(empty(&self.stream_queues, properties));
        let published = self.broker.publish(marker).await;
        published.map(drop).map_err(|error| error.to_string())
    }

    /// Reads the queue until the subscription is lost.
    async fn consume(&mut self, retry: &mut RetryLoop) -> Result<String, StreamEnd> {
        let mut lost = match self.broker.claim_event_stream(&self.stream_queues, &format!("{}-lost", self.token)).await
        {
            Ok(lost) => lost,
            Err(error) => return Ok(error.to_string()),
        };
        let ended = match self.alone().await {
            Ok(mut queue) => {
                retry.succeeded();
                let ended = self.forward(&mut queue, &mut lost).await;
                // The unacknowledged messages are in the queue again before another connection may read it.
                let _requeued = queue.close().await;
                ended
            }
            Err(why) => Ok(why),
        };
        let _requeued = lost.close().await;
        ended
    }

    /// Subscribes to the queue, once the broker has noticed the end of the former connection.
    async fn alone(&mut self) -> Result<Subscription, String> {
        match self.broker.event_stream_consumers(&self.stream_queues).await {
            Ok(Some(0)) => {}
            Ok(Some(_)) => return Err("another connection still reads this stream".to_owned()),
            Ok(None) => return Err("the queue was deleted".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
        self.taken = 0;
        let subscribed = self.broker.subscribe(&self.stream_queues.queue, self.prefetch, &self.token).await;
        subscribed.map_err(|error| error.to_string())
    }

    /// Sends the events of the queue to the client until a subscription is lost.
    async fn forward(&mut self, queue: &mut Subscription, lost: &mut Subscription) -> Result<String, StreamEnd> {
        let mut release = wait::every(RELEASE_EVERY);
        loop {
            enum StreamInput {
                Queue(Next),
                Overflow(Next),
                Quiet,
                Release,
            }
            let seek_until = self.window.seek_until();
            let quiet_at = seek_until.unwrap_or(self.last_frame + KEEP_ALIVE);
            let gap_due = self.last_gap.is_none_or(|at| at.elapsed() >= GAPS_EVERY);
            // The order matters: an event that is there is taken although its time is over too.
            let input = tokio::select! {
                biased;
                () = self.superseded.cancelled() => return Err(StreamEnd::Superseded),
                () = self.frames.closed() => return Err(StreamEnd::Client("the client disconnected")),
                _ = release.tick() => StreamInput::Release,
                next = lost.next(), if gap_due => StreamInput::Overflow(next),
                next = queue.next() => StreamInput::Queue(next),
                () = wait::until(quiet_at.into_std()) => StreamInput::Quiet,
            };
            match input {
                StreamInput::Queue(Next::Cancelled(why) | Next::Ended(why))
                | StreamInput::Overflow(Next::Cancelled(why) | Next::Ended(why)) => return Ok(why),
                StreamInput::Queue(Next::Delivery(delivery)) => {
                    self.taken += 1;
                    self.take(delivery).await?;
                    self.ask_for_more(queue).await;
                }
                StreamInput::Overflow(Next::Delivery(delivery)) => {
                    self.last_gap = Some(Instant::now());
                    delivery.settle(Settlement::Nothing(NothingPublished::Streamed));
                    let detail = "more events arrived than the queue of a stream keeps".to_owned();
                    self.send(StreamItem::Gap(StreamGap { reason: "overflow", detail })).await?;
                }
                StreamInput::Quiet if seek_until.is_some() => self.give_up_seeking().await?,
                StreamInput::Quiet => self.send(StreamItem::KeepAlive).await?,
                StreamInput::Release => self.window.release(),
            }
        }
    }

    async fn take(&mut self, delivery: Delivery) -> Result<(), StreamEnd> {
        if delivery.message.properties.kind.as_deref() == Some(TAKEOVER) && delivery.message.exchange.is_default() {
            return self.take_marker(delivery);
        }
        match self.window.take(delivery) {
            WindowStep::Show(all) => {
                for positioned in all {
                    self.show(positioned).await?;
                }
                Ok(())
            }
            WindowStep::Kept => Ok(()),
            WindowStep::GiveUp => self.give_up_seeking().await,
        }
    }

    /// Takes a takeover marker. Markers before this connection's own marker are of older connections.
    fn take_marker(&mut self, delivery: Delivery) -> Result<(), StreamEnd> {
        let id = delivery.message.properties.message_id.as_deref();
        match &mut self.takeover {
            Some(own) if Some(own.id.as_str()) == id => own.is_reached = true,
            Some(TakeoverMarker { is_reached: false, .. }) => {}
            // The marker is not acknowledged: the newer connection reads it as the end of older messages.
            Some(TakeoverMarker { is_reached: true, .. }) | None => return Err(StreamEnd::Superseded),
        }
        delivery.settle(Settlement::Nothing(NothingPublished::Streamed));
        Ok(())
    }

    /// The resume point is not delivered again: all redeliveries are new to the client, and some events may be missing.
    async fn give_up_seeking(&mut self) -> Result<(), StreamEnd> {
        let detail =
            "the stream no longer keeps the event of the last event id, so later events may be missing".to_owned();
        self.send(StreamItem::Gap(StreamGap { reason: "passed", detail })).await?;
        for positioned in self.window.give_up() {
            self.show(positioned).await?;
        }
        Ok(())
    }

    async fn show(&mut self, positioned: Positioned) -> Result<(), StreamEnd> {
        let delivery = &positioned.delivery;
        if !is_begin(&delivery.message)
            && delivery.unreadable.is_none()
            && let Some(event) = event::event(self.codec, &delivery.message)
        {
            let id = format!("{}.{}", self.token, positioned.position);
            let bytes = event::data_bytes(&event).max(delivery.message.body.len());
            self.hand_over(StreamItem::Event(id, Box::new(event)), bytes).await?;
            telemetry::stream_sent();
        }
        self.window.sent(positioned);
        self.window.release();
        Ok(())
    }

    /// Raises the prefetch before it is used up, because events that were sent stay unacknowledged. The prefetch never exceeds
    /// the messages that may be in memory when the client stops taking them.
    async fn ask_for_more(&mut self, queue: &mut Subscription) {
        // The prefetch counts deliveries since it was set, and the oldest are acknowledged first.
        let open = self.taken.min(self.window.held());
        if self.broker.is_atomic() || open + AHEAD_LEFT < usize::from(self.prefetch) {
            return;
        }
        let fit = u16::try_from(AHEAD_BYTES / self.window.mean_bytes().max(1)).unwrap_or(u16::MAX);
        let ahead = fit.clamp(AHEAD_MIN, AHEAD_MAX);
        if queue.resize(ahead).await.is_ok() {
            (self.prefetch, self.taken) = (ahead, 0);
        }
    }

    async fn send(&mut self, item: StreamItem) -> Result<(), StreamEnd> {
        self.hand_over(item, 0).await
    }

    async fn hand_over(&mut self, item: StreamItem, bytes: usize) -> Result<(), StreamEnd> {
        let outcome = tokio::select! {
            () = self.superseded.cancelled() => return Err(StreamEnd::Superseded),
            outcome = self.frames.send(item, bytes, STALLED_AFTER) => outcome,
        };
        self.last_frame = Instant::now();
        match outcome {
            FrameOutcome::Sent => Ok(()),
            FrameOutcome::Stalled => Err(StreamEnd::Client("the client does not read the stream")),
            FrameOutcome::Closed => Err(StreamEnd::Client("the client disconnected")),
        }
    }
}
