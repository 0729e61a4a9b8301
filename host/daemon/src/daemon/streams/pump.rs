//! One stream: from its queue to its connection.
//!
//! Nobody tells us what a client has seen before it comes back. So what was sent stays unacknowledged until more was sent
//! after it than the buffers between us and the client hold (`window`); then it has been seen, or the client has stopped
//! taking anything and its stream ends. When it comes back, its queue gives all of that again, in order, and what it has
//! seen is passed over.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::event;
use super::frames::{Frames, Handed};
use super::window::{BEGIN, BEGIN_MARK, Marked, Step, Window, empty, is_begin};
use trunkline_broker::{Broker, Delivery, Next, NothingPublished, Publication, Settlement, Subscription, Tap};
use trunkline_config::Codec;
use trunkline_event::Properties;
use trunkline_http::{StreamGap, StreamItem, StreamReady};
use trunkline_telemetry as telemetry;
use trunkline_telemetry::wait::{self, Loop, Retry};

/// RabbitMQ hands out so many deliveries ahead, at the least; all of them are in our memory.
const AHEAD_MIN: u16 = 32;
const AHEAD_MAX: u16 = 1024;
/// What they may take, by the mean of what was sent lately.
const AHEAD_BYTES: usize = 8 << 20;
/// It is asked for more when no more than so many are left.
const AHEAD_LEFT: usize = 16;
/// A comment goes out after so long without an event.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A client that takes nothing for so long is let go.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// How often is looked for what has been unacknowledged for long enough; RabbitMQ closes a channel after 30 minutes.
const LOOK: Duration = Duration::from_secs(5);
/// What the broker gets to confirm the mark of a stream's begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
/// Pause before a lost subscription is made again.
/// Between two reports of what did not fit.
const GAPS_EVERY: Duration = Duration::from_secs(1);
/// The type of a message that tells an older connection, perhaps of another daemon, that its client is elsewhere.
const TAKEOVER: &str = "trunkline.stream.takeover";

/// What a client has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is new: what is there is for it.
    Everything,
    /// It came back, and had seen no event.
    Nothing,
    /// It came back, and this was the last one.
    UpTo(String),
}

/// Why a stream ends.
enum End {
    /// Its client has gone, or takes nothing.
    Client(&'static str),
    /// Its client is elsewhere, or the daemon stops.
    Told,
    /// Its queue cannot be read any more.
    Broker(String),
}

/// What a stream reads.
pub(super) struct Source {
    pub(super) broker: Broker,
    pub(super) tap: Tap,
    pub(super) codec: Codec,
    /// Its name.
    pub(super) token: String,
}

/// A stream at work.
pub(super) struct Pump {
    broker: Broker,
    tap: Tap,
    codec: Codec,
    token: String,
    frames: Frames,
    /// Cancelled when the client is elsewhere, or the daemon stops.
    told: CancellationToken,
    last_frame: Instant,
    window: Window,
    prefetch: u16,
    /// Deliveries since the prefetch was set.
    taken: usize,
    /// Our own sign in the queue, and whether we have come to it: who came later stands behind it.
    sign: Option<(String, bool)>,
    last_gap: Option<Instant>,
}

impl Pump {
    pub(super) fn begin(source: Source, frames: Frames, told: CancellationToken) -> Self {
        let Source { broker, tap, codec, token } = source;
        // The embedded broker hands nothing out before it is asked.
        let prefetch = if broker.is_atomic() { u16::MAX } else { AHEAD_MIN };
        Self {
            window: Window::new(&tap),
            broker,
            tap,
            codec,
            token,
            frames,
            told,
            last_frame: Instant::now(),
            prefetch,
            taken: 0,
            sign: None,
            last_gap: None,
        }
    }

    /// Runs until the client goes, or is elsewhere, or the daemon stops.
    pub(super) async fn run(mut self, seen: Seen, resumed: bool) {
        match self.work(seen, resumed).await {
            End::Told => tracing::debug!(stream = self.token, "stream ended: its client goes on elsewhere"),
            End::Client(why) => tracing::debug!(stream = self.token, why, "stream ended"),
            End::Broker(why) => tracing::warn!(stream = self.token, why, "stream ended; its client may come back"),
        }
    }

    async fn work(&mut self, seen: Seen, resumed: bool) -> End {
        if !resumed {
            // Without it a client that comes back without an event is told of a gap, which it may not be.
            let begun = self.leave_sign(BEGIN, Uuid::now_v7().to_string());
            tokio::select! {
                () = self.told.cancelled() => return End::Told,
                begun = tokio::time::timeout(BEGIN_WITHIN, begun) => if !matches!(begun, Ok(Ok(()))) {
                    tracing::debug!(stream = self.token, "a stream's queue has no mark of its begin");
                }
            }
        }
        let ready = StreamReady {
            stream: self.token.clone(),
            resumed,
            exchange: self.tap.exchange.to_string(),
            patterns: self.tap.keys.iter().map(ToString::to_string).collect(),
            expires_s: self.tap.expires.as_secs(),
        };
        let id = match (&seen, resumed) {
            (Seen::UpTo(mark), true) => format!("{}.{mark}", self.token),
            (Seen::UpTo(_) | Seen::Everything | Seen::Nothing, _) => format!("{}.{BEGIN_MARK}", self.token),
        };
        if let Err(end) = self.send(StreamItem::Ready(id, ready)).await {
            return end;
        }
        if seen != Seen::Everything && !resumed {
            let detail = "the queue of this stream is gone: what came after the last event id is not known".to_owned();
            if let Err(end) = self.send(StreamItem::Gap(StreamGap { reason: "expired", detail })).await {
                return end;
            }
        }
        match seen {
            Seen::UpTo(mark) if resumed => self.window.seen(mark),
            Seen::Nothing if resumed => self.window.seen(BEGIN_MARK.to_owned()),
            Seen::UpTo(_) | Seen::Nothing | Seen::Everything => {}
        }
        if resumed && let Err(why) = self.announce().await {
            return End::Broker(why);
        }
        let mut retry = Retry::new(Loop::StreamSubscribe, "");
        loop {
            let why = match self.consume(&mut retry).await {
                Ok(why) => why,
                Err(end) => return end,
            };
            // The client keeps its connection: what is unacknowledged comes again, and what it got is passed over.
            tracing::debug!(stream = self.token, why, "a stream's subscription ended; it is made again");
            self.window.lost();
            tokio::select! {
                () = self.told.cancelled() => return End::Told,
                () = self.frames.closed() => return End::Client("the client has gone"),
                tried = retry.pause(&why) => if tried.is_err() { return End::Broker(why) },
            }
            if let Ok(None) = self.broker.tap_consumers(&self.tap).await {
                return End::Broker("its queue was deleted".to_owned());
            }
            if self.last_frame.elapsed() >= KEEP_ALIVE
                && let Err(end) = self.send(StreamItem::KeepAlive).await
            {
                return end;
            }
        }
    }

    /// Leaves a sign in the queue. A connection that this client has left, on whichever daemon, reads it as soon as it has
    /// nothing else to do, and ends; until then the broker gives us nothing.
    async fn announce(&mut self) -> Result<(), String> {
        if self.broker.is_atomic() {
            return Ok(());
        }
        let sign = Uuid::now_v7().to_string();
        self.leave_sign(TAKEOVER, sign.clone()).await?;
        self.sign = Some((sign, false));
        Ok(())
    }

    /// Puts a message of ours into the queue.
    async fn leave_sign(&self, kind: &str, id: String) -> Result<(), String> {
        let properties = Properties { message_id: Some(id), kind: Some(kind.to_owned()), ..Properties::default() };
        let sign = Publication::now(empty(&self.tap, properties), false);
        let published = self.broker.publish(sign).await;
        published.map(drop).map_err(|error| error.to_string())
    }

    /// Reads the queue until the subscription is lost.
    async fn consume(&mut self, retry: &mut Retry) -> Result<String, End> {
        let mut lost = match self.broker.hold_tap(&self.tap, &format!("{}-lost", self.token)).await {
            Ok(lost) => lost,
            Err(error) => return Ok(error.to_string()),
        };
        let ended = match self.alone().await {
            Ok(mut queue) => {
                retry.succeeded();
                let ended = self.pump(&mut queue, &mut lost).await;
                // What is sent and not acknowledged is in the queue again before another may read it.
                let _again_then = queue.close().await;
                ended
            }
            Err(why) => Ok(why),
        };
        let _again_then = lost.close().await;
        ended
    }

    /// The queue, when the broker has noticed that the connection before has gone.
    async fn alone(&mut self) -> Result<Subscription, String> {
        match self.broker.tap_consumers(&self.tap).await {
            Ok(Some(0)) => {}
            Ok(Some(_)) => return Err("another connection still reads this stream".to_owned()),
            Ok(None) => return Err("the queue is gone".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
        self.taken = 0;
        let subscribed = self.broker.subscribe(&self.tap.queue, self.prefetch, &self.token).await;
        subscribed.map_err(|error| error.to_string())
    }

    async fn pump(&mut self, queue: &mut Subscription, lost: &mut Subscription) -> Result<String, End> {
        let mut look = wait::every(LOOK);
        loop {
            enum Happened {
                Came(Next),
                Lost(Next),
                Quiet,
                Look,
            }
            let sought_until = self.window.sought_until();
            let quiet_at = sought_until.unwrap_or(self.last_frame + KEEP_ALIVE);
            let gap_due = self.last_gap.is_none_or(|at| at.elapsed() >= GAPS_EVERY);
            // In this order: an event that is there is not given up because the time for it is over too.
            let happened = tokio::select! {
                biased;
                () = self.told.cancelled() => return Err(End::Told),
                () = self.frames.closed() => return Err(End::Client("the client has gone")),
                _ = look.tick() => Happened::Look,
                next = lost.next(), if gap_due => Happened::Lost(next),
                next = queue.next() => Happened::Came(next),
                () = wait::until(quiet_at.into_std()) => Happened::Quiet,
            };
            match happened {
                Happened::Came(Next::Cancelled(why) | Next::Ended(why))
                | Happened::Lost(Next::Cancelled(why) | Next::Ended(why)) => return Ok(why),
                Happened::Came(Next::Delivery(delivery)) => {
                    self.taken += 1;
                    self.take(delivery).await?;
                    self.ask_for_more(queue).await;
                }
                Happened::Lost(Next::Delivery(delivery)) => {
                    self.last_gap = Some(Instant::now());
                    delivery.settle(Settlement::Nothing(NothingPublished::Streamed));
                    let detail = "more events came than are kept for a client that takes none".to_owned();
                    self.send(StreamItem::Gap(StreamGap { reason: "overflow", detail })).await?;
                }
                Happened::Quiet if sought_until.is_some() => self.give_up_seeking().await?,
                Happened::Quiet => self.send(StreamItem::KeepAlive).await?,
                Happened::Look => self.window.release(),
            }
        }
    }

    async fn take(&mut self, delivery: Delivery) -> Result<(), End> {
        if delivery.message.properties.kind.as_deref() == Some(TAKEOVER) && delivery.message.exchange.is_default() {
            return self.take_sign(delivery);
        }
        match self.window.take(delivery) {
            Step::Show(all) => {
                for marked in all {
                    self.show(marked).await?;
                }
                Ok(())
            }
            Step::Kept => Ok(()),
            Step::GiveUp => self.give_up_seeking().await,
        }
    }

    /// Signs before ours are of connections that came before us.
    fn take_sign(&mut self, delivery: Delivery) -> Result<(), End> {
        let id = delivery.message.properties.message_id.as_deref();
        match &mut self.sign {
            Some((ours, is_reached)) if Some(ours.as_str()) == id => *is_reached = true,
            Some((_, false)) => {}
            // Not acknowledged: who left it knows by it that all before it came earlier.
            Some((_, true)) | None => return Err(End::Told),
        }
        delivery.settle(Settlement::Nothing(NothingPublished::Streamed));
        Ok(())
    }

    /// What the client saw last does not come again: all that came is new to it, and perhaps not all that is new came.
    async fn give_up_seeking(&mut self) -> Result<(), End> {
        let detail =
            "the last event id is of an event that is no longer kept; some that followed may be missing".to_owned();
        self.send(StreamItem::Gap(StreamGap { reason: "passed", detail })).await?;
        for marked in self.window.give_up() {
            self.show(marked).await?;
        }
        Ok(())
    }

    async fn show(&mut self, (delivery, mark): Marked) -> Result<(), End> {
        if !is_begin(&delivery.message)
            && delivery.unreadable.is_none()
            && let Some(event) = event::event(self.codec, &delivery.message)
        {
            let id = format!("{}.{mark}", self.token);
            self.hand_over(StreamItem::Event(id, Box::new(event)), delivery.message.body.len()).await?;
            telemetry::stream_sent();
        }
        self.window.sent(delivery, mark);
        self.window.release();
        Ok(())
    }

    /// What is sent stays unacknowledged, and so uses up the prefetch: before it is, more is asked for, but never more at a
    /// time than may be in our memory when the client stops taking anything.
    async fn ask_for_more(&mut self, queue: &mut Subscription) {
        // The prefetch counts what came since it was set, and the oldest are acknowledged first.
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

    async fn send(&mut self, item: StreamItem) -> Result<(), End> {
        self.hand_over(item, 0).await
    }

    async fn hand_over(&mut self, item: StreamItem, bytes: usize) -> Result<(), End> {
        let handed = tokio::select! {
            () = self.told.cancelled() => return Err(End::Told),
            handed = self.frames.send(item, bytes, STALLED_AFTER) => handed,
        };
        self.last_frame = Instant::now();
        match handed {
            Handed::Over => Ok(()),
            Handed::Stalled => Err(End::Client("the client takes nothing")),
            Handed::Closed => Err(End::Client("the client has gone")),
        }
    }
}
