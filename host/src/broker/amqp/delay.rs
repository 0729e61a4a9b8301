//! Delayed publishing on a RabbitMQ as it is, without a plugin of the broker.
//!
//! A chain of levels, one for each bit of the delay: level *k* is a topic exchange `trunkline.delay.K` and a queue of
//! the same name that holds a message for 2^k units and passes it on to the level below. The routing key spells the
//! delay in bits, and each exchange sends a message into its queue when its bit is 1, else straight to the next
//! exchange. Every queue has one TTL, so nothing waits behind a message with a longer delay. After the last level a
//! message is in the queue `trunkline.delay.due`, and any daemon publishes it where it was to go.
//!
//! The same way of counting delays in bits is NServiceBus's. Different here: a delay is rounded up to eight
//! significant bits, so that a message makes at most eight hops through a queue, which costs less than 0.8 % of the
//! delay; the levels are quorum queues that pass messages on at least once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, ExchangeKind};

use super::consume::{Settings, Subscription};
use super::convert::name;
use super::publish;
use super::session::{Session, let_go};
use crate::broker::{Delivery, Error, Next, Publication, Refusal, Settlement};
use crate::config::{Topology, TopologyMode};
use crate::event::{ExchangeName, Message, QueueName, RoutingKey};

/// Level 0 waits for so long.
const UNIT: Duration = Duration::from_millis(25);
/// 2^27 units are 38 days.
const LEVELS: u32 = 27;
/// Of a delay; the rest is rounded up.
const SIGNIFICANT_BITS: u32 = 8;
const PREFIX: &str = "trunkline.delay.";
const DUE: &str = "trunkline.delay.due";
const PREFETCH: u16 = 200;
/// How long a message waits on that is due and that nobody takes.
const AGAIN: Duration = Duration::from_secs(60);
/// Pause after what failed; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

const EXCHANGE: &str = "trunkline-delay-exchange";
const KEY: &str = "trunkline-delay-key";
const ACCEPT: &str = "trunkline-delay-accept";

/// The delay in units, rounded up.
fn units(delay: Duration) -> u32 {
    let exact = delay.as_millis().div_ceil(UNIT.as_millis()).min(u128::from((1_u32 << LEVELS) - 1));
    let exact = u32::try_from(exact).unwrap_or(u32::MAX).max(1);
    let dropped = (u32::BITS - exact.leading_zeros()).saturating_sub(SIGNIFICANT_BITS);
    (exact.div_ceil(1 << dropped) << dropped).min((1 << LEVELS) - 1)
}

fn level_name(level: u32) -> String {
    format!("{PREFIX}{level:02}")
}

/// Where a message goes after a level.
fn below(level: u32) -> String {
    level.checked_sub(1).map_or_else(|| DUE.to_owned(), level_name)
}

/// What a level's exchange compares: its own bit, whatever stands around it.
fn pattern(level: u32, bit: &str) -> String {
    let before = "*.".repeat(usize::try_from(LEVELS - 1 - level).unwrap_or(0));
    let after = if level == 0 { "" } else { ".#" };
    format!("{before}{bit}{after}")
}

/// The first level of a delay, and the routing key that spells it.
fn way(delay: Duration) -> (String, String) {
    let units = units(delay);
    let bits = (0..LEVELS).rev().map(|level| if units >> level & 1 == 1 { "1" } else { "0" }).collect::<Vec<_>>();
    (level_name(u32::BITS - 1 - units.leading_zeros()), bits.join("."))
}

/// The message as it travels through the levels.
pub(super) fn wrap(publication: Publication, delay: Duration) -> Result<Publication, Refusal> {
    let Publication { mut message, accept_unroutable, .. } = publication;
    let headers = &mut message.properties.headers;
    headers.set(EXCHANGE, message.exchange.as_str());
    headers.set(KEY, message.routing_key.as_str());
    headers.set(ACCEPT, accept_unroutable);
    // A TTL of its own would end it on the way.
    message.properties.expiration = None;
    let (exchange, key) = way(delay);
    let refused = |_error| Refusal::NoExchange(DUE.to_owned());
    message.exchange = ExchangeName::new(exchange).map_err(refused)?;
    message.routing_key = RoutingKey::new(key).map_err(refused)?;
    message.check()?;
    Ok(Publication::now(message, false))
}

/// The message as it was.
fn unwrap(mut message: Message) -> Option<Publication> {
    let headers = &mut message.properties.headers;
    let exchange = headers.text(EXCHANGE)?.to_owned();
    let key = headers.text(KEY)?.to_owned();
    let accept = headers.get(ACCEPT).is_some_and(|value| *value == true.into());
    for name in [EXCHANGE, KEY, ACCEPT] {
        headers.remove(name);
    }
    headers.remove_brokers();
    message.exchange = ExchangeName::new(exchange).ok()?;
    message.routing_key = RoutingKey::new(key).ok()?;
    Some(Publication::now(message, accept))
}

/// Makes sure that the levels are there and that what comes out of them is published. Once a session.
pub(super) async fn ensure(session: &Arc<Session>, topology: &Arc<Topology>) -> Result<(), Error> {
    let mut is_ready = session.delays.lock().await;
    if *is_ready {
        return Ok(());
    }
    if topology.mode == TopologyMode::Check {
        let reason = "broker.topology is \"check\", and the levels are not there".to_owned();
        return Err(Error::Queue { queue: due_queue(), reason });
    }
    let lost = |error: lapin::Error| Error::Lost(format!("the levels of delayed publishing: {error}"));
    let channel = session.publish.create_channel().await.map_err(lost)?;
    let declared = declare(&channel).await;
    let_go(channel).await;
    declared.map_err(lost)?;
    *is_ready = true;
    start(session, topology);
    Ok(())
}

/// Takes up the work of an earlier session: the levels are there when their last part is.
pub(super) async fn resume(session: Arc<Session>, topology: Arc<Topology>) {
    let Ok(channel) = session.publish.create_channel().await else { return };
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(name(DUE), options, FieldTable::default()).await.is_ok();
    let_go(channel).await;
    if found {
        *session.delays.lock().await = true;
        start(&session, &topology);
    }
}

fn start(session: &Arc<Session>, topology: &Arc<Topology>) {
    if !session.relays.swap(true, Ordering::AcqRel) {
        session.spawn(relay(session.clone(), topology.clone()));
    }
}

/// From the last to the first, so that what points somewhere points to what is there; the queue of what is due comes
/// last of all, as the sign that all others exist.
async fn declare(channel: &Channel) -> Result<(), lapin::Error> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name(DUE), ExchangeKind::Fanout, durable, FieldTable::default()).await?;
    for level in 0..LEVELS {
        let own = name(&level_name(level));
        channel.exchange_declare(own.clone(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
        let holds = Duration::from_millis(1 << level) * u32::try_from(UNIT.as_millis()).unwrap_or(u32::MAX);
        let arguments = [
            ("x-queue-type", text("quorum")),
            ("x-message-ttl", AMQPValue::LongLongInt(i64::try_from(holds.as_millis()).unwrap_or(i64::MAX))),
            ("x-overflow", text("reject-publish")),
            ("x-dead-letter-exchange", text(&below(level))),
            ("x-dead-letter-strategy", text("at-least-once")),
        ];
        declare_queue(channel, own.clone(), &arguments).await?;
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(own.clone(), own.clone(), name(&pattern(level, "1")), options, none.clone()).await?;
        let (next, key) = (name(&below(level)), name(&pattern(level, "0")));
        channel.exchange_bind(next, own, key, ExchangeBindOptions::default(), none).await?;
    }
    declare_queue(channel, name(DUE), &[("x-queue-type", text("quorum"))]).await?;
    channel
        .queue_bind(name(DUE), name(DUE), ShortString::default(), QueueBindOptions::default(), FieldTable::default())
        .await
}

async fn declare_queue(
    channel: &Channel,
    queue: ShortString,
    arguments: &[(&str, AMQPValue)],
) -> Result<(), lapin::Error> {
    let mut table = FieldTable::default();
    for (key, value) in arguments {
        table.insert(name(key), value.clone());
    }
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue, options, table).await.map(drop)
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text.as_bytes().to_vec()))
}

fn due_queue() -> QueueName {
    QueueName::new(DUE).expect("a constant that is a name")
}

/// Publishes what is due, for as long as the session lives.
async fn relay(session: Arc<Session>, topology: Arc<Topology>) {
    let mut pause = PAUSE_MIN;
    while !session.over.is_cancelled() && session.is_connected() {
        let settings = Settings { prefetch: PREFETCH, tag: DUE, exclusive: false };
        match Subscription::new(&session, &topology, &due_queue(), settings).await {
            Ok(subscription) => serve(&session, &topology, subscription).await,
            Err(error) => tracing::warn!(%error, "delayed messages are not consumed; trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = session.over.cancelled() => return,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn serve(session: &Arc<Session>, topology: &Arc<Topology>, mut subscription: Subscription) {
    let mut work = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = session.over.cancelled() => return,
            Some(()) = work.next(), if !work.is_empty() => {}
            next = subscription.next(), if work.len() < usize::from(PREFETCH) => match next {
                Next::Delivery(delivery) => work.push(pass_on(session, topology, delivery)),
                Next::Ended(_reason) => return,
            },
        }
    }
}

async fn pass_on(session: &Arc<Session>, topology: &Arc<Topology>, delivery: Delivery) {
    let Some(publication) = unwrap(Message::clone(&delivery.message)) else {
        tracing::error!(queue = DUE, "a message that is not of Trunkline; it is left where it is");
        return;
    };
    let mut next = publication.clone();
    let mut pause = PAUSE_MIN;
    loop {
        match publish::publish(session, topology, vec![next]).await {
            Ok(receipt) => return delivery.settle(Settlement::Ack(receipt)),
            Err(Error::Refused(refused)) => {
                let reason = refused.first().map(|(_, refusal)| refusal.to_string()).unwrap_or_default();
                tracing::error!(reason, "a delayed message is due and is not taken; it is tried again");
                next = Publication { delay: Some(AGAIN), ..publication.clone() };
                // Also the levels may refuse it, and this is no place to try without end.
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            // The session is over: the broker delivers it again.
            Err(Error::Lost(_) | Error::Queue { .. } | Error::Unusable(_)) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Properties;

    #[test]
    fn delays_are_never_shorter_and_hardly_longer() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..10_000 {
            let delay =
                Duration::from_millis(random.u64(1..=30 * 24 * 3600 * 1000) >> random.u32(0..30)).max(UNIT / 25);
            let waits = UNIT * units(delay);
            assert!(waits >= delay, "{delay:?} became {waits:?}");
            assert!(waits <= delay + UNIT + delay / 128, "{delay:?} became {waits:?}");
            assert!(units(delay).count_ones() <= SIGNIFICANT_BITS);
        }
        assert_eq!(units(Duration::from_millis(25)), 1);
        assert_eq!(units(Duration::from_millis(26)), 2);
        assert!(units(Duration::from_secs(30 * 24 * 3600)) < 1 << LEVELS);
    }

    /// What RabbitMQ's topic exchanges would do, level by level.
    #[test]
    fn the_levels_on_the_way_add_up_to_the_delay() {
        for ms in [1, 25, 75, 1000, 61_234, 86_400_000, 2_592_000_000] {
            let delay = Duration::from_millis(ms);
            let (mut at, key) = way(delay);
            let words: Vec<&str> = key.split('.').collect();
            let mut waited = Duration::ZERO;
            while at != DUE {
                let level: u32 = at.trim_start_matches(PREFIX).parse().expect("a level");
                let own = pattern(level, "1");
                let place = own.split('.').position(|word| word == "1").expect("its bit");
                if words[place] == "1" {
                    waited += UNIT * (1 << level);
                }
                at = below(level);
            }
            assert_eq!(waited, UNIT * units(delay), "{delay:?}");
        }
    }

    #[test]
    fn what_comes_out_is_what_went_in() {
        let mut properties = Properties { priority: Some(3), ..Properties::default() };
        properties.headers.set("region", "eu");
        let message = Message {
            exchange: ExchangeName::new("events").expect("valid"),
            routing_key: RoutingKey::new("a.b").expect("valid"),
            properties,
            body: bytes::Bytes::from_static(b"x"),
        };
        let wrapped = wrap(Publication::now(message.clone(), true), Duration::from_secs(1)).expect("fits");
        assert!(!wrapped.accept_unroutable, "a level that is not there is no place to lose it");
        assert_eq!(wrapped.message.exchange.as_str(), "trunkline.delay.05");
        let back = unwrap(wrapped.message).expect("it is ours");
        assert_eq!((back.message, back.accept_unroutable), (message, true));
    }
}
