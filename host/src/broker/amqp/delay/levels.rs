//! The exchanges and queues that hold messages back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, ExchangeKind};

use super::relay::relay;
use super::{DEAD, DUE, LEVELS, UNIT, below, level_name, own_due, pattern, queue};
use crate::broker::Error;
use crate::broker::amqp::convert::name;
use crate::broker::amqp::session::{Session, let_go};
use crate::config::{Topology, TopologyMode};
use crate::event::QueueName;

/// A message waits so long for a daemon with its key, then it is given up.
const OWN_DUE_TTL: Duration = Duration::from_secs(24 * 3600);
/// The queue of a key that no daemon has any more goes after so long; nothing is in it by then.
const OWN_DUE_EXPIRES: Duration = Duration::from_secs(7 * 24 * 3600);

/// Makes sure that the levels are there and that what comes out of them is published. Once a session.
pub(in crate::broker::amqp) async fn ensure(session: &Arc<Session>, topology: &Arc<Topology>) -> Result<(), Error> {
    let mut is_ready = session.delays.lock().await;
    if *is_ready {
        return Ok(());
    }
    if topology.mode == TopologyMode::Check {
        let reason = "broker.topology is \"check\", and the levels are not there".to_owned();
        return Err(Error::Queue { queue: queue(DUE), reason });
    }
    let lost = |error: lapin::Error| Error::Lost(format!("the levels of delayed publishing: {error}"));
    let channel = session.publish.create_channel().await.map_err(lost)?;
    let declared = declare(&channel, session).await;
    let_go(channel).await;
    declared.map_err(lost)?;
    *is_ready = true;
    start(session, topology, true);
    Ok(())
}

/// Takes up the work of an earlier session: the levels are there when their last part is.
pub(in crate::broker::amqp) async fn resume(session: Arc<Session>, topology: Arc<Topology>) {
    if !exists(&session, &queue(DUE)).await {
        return;
    }
    if topology.mode == TopologyMode::Declare {
        // Earlier versions had none of these, and the own queue goes when its daemons are away for long.
        let made = match session.publish.create_channel().await {
            Ok(channel) => {
                let made = declare_ends(&channel, &session).await;
                let_go(channel).await;
                made
            }
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            tracing::warn!(%error, "{DEAD} cannot be declared: delayed messages that cannot be passed on are held");
        }
    }
    *session.delays.lock().await = true;
    let has_own = exists(&session, &own_due(session.key.id())).await;
    start(&session, &topology, has_own);
}

/// Asked on a channel of its own: a no closes it.
async fn exists(session: &Session, queue: &QueueName) -> bool {
    let Ok(channel) = session.publish.create_channel().await else { return false };
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let exists = channel.queue_declare(name(queue.as_str()), options, FieldTable::default()).await.is_ok();
    let_go(channel).await;
    exists
}

fn start(session: &Arc<Session>, topology: &Arc<Topology>, has_own: bool) {
    if session.relays.swap(true, Ordering::AcqRel) {
        return;
    }
    session.spawn(relay(session.clone(), topology.clone(), queue(DUE)));
    if has_own {
        session.spawn(relay(session.clone(), topology.clone(), own_due(session.key.id())));
    }
}

/// From the last to the first, so that what points somewhere points to what is there; the queue of what is due comes
/// last of all, as the sign that all others exist.
async fn declare(channel: &Channel, session: &Session) -> Result<(), lapin::Error> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name(DUE), ExchangeKind::Fanout, durable, FieldTable::default()).await?;
    for level in 0..LEVELS {
        let own = name(&level_name(level));
        channel.exchange_declare(own.clone(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
        let holds = Duration::from_millis(1 << level) * u32::try_from(UNIT.as_millis()).unwrap_or(u32::MAX);
        let arguments = [
            ("x-queue-type", text("quorum")),
            ("x-message-ttl", milliseconds(holds)),
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
    declare_ends(channel, session).await?;
    declare_queue(channel, name(DUE), &[("x-queue-type", text("quorum"))]).await?;
    channel
        .queue_bind(name(DUE), name(DUE), ShortString::default(), QueueBindOptions::default(), FieldTable::default())
        .await
}

/// Where messages go that nobody passes on, and where those wait that a daemon with another key came upon.
async fn declare_ends(channel: &Channel, session: &Session) -> Result<(), lapin::Error> {
    declare_queue(channel, name(DEAD), &[("x-queue-type", text("quorum"))]).await?;
    let arguments = [
        ("x-queue-type", text("quorum")),
        ("x-message-ttl", milliseconds(OWN_DUE_TTL)),
        ("x-expires", milliseconds(OWN_DUE_EXPIRES)),
        ("x-overflow", text("reject-publish")),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(DEAD)),
        ("x-dead-letter-strategy", text("at-least-once")),
    ];
    declare_queue(channel, name(own_due(session.key.id()).as_str()), &arguments).await
}

fn milliseconds(duration: Duration) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
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
