//! The exchanges and queues that hold messages back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};

use super::relay::relay;
use super::{DEAD, DUE, LEVELS, UNIT, below, level_name, own_due, pattern, queue};
use crate::Error;
use crate::amqp::arguments::{
    AT_LEAST_ONCE, DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY, EXPIRES, OVERFLOW, QUORUM, REJECT, STRATEGY, TTL, TYPE,
    Wanted, milliseconds,
};
use crate::amqp::convert::name;
use crate::amqp::queues::Declarer;
use crate::amqp::session::{Session, let_go};
use trunkline_config::{QueuePurpose, Topology, TopologyMode};
use trunkline_event::{HeaderValue, QueueName};

/// A message waits so long for a daemon with its key, then it is given up.
const OWN_DUE_TTL: Duration = Duration::from_secs(24 * 3600);
/// The queue of a key that no daemon has any more goes after so long; nothing is in it by then.
const OWN_DUE_EXPIRES: Duration = Duration::from_secs(7 * 24 * 3600);

/// Makes sure that the levels are there and that what comes out of them is published. Once a session.
pub(in crate::amqp) async fn ensure(session: &Arc<Session>, topology: &Arc<Topology>) -> Result<(), Error> {
    let mut is_ready = session.delays.lock().await;
    if *is_ready {
        return Ok(());
    }
    if topology.mode == TopologyMode::Check {
        let reason = "broker.topology is \"check\", and the levels are not there".to_owned();
        return Err(Error::Queue { queue: queue(DUE), reason });
    }
    let lost = |error: lapin::Error| Error::Lost(format!("the levels of delayed publishing: {error}"));
    let mut declarer = Declarer::new(session, &session.publish).await.map_err(lost)?;
    let declared = declare(&mut declarer, session).await;
    declarer.close().await;
    declared.map_err(lost)?;
    *is_ready = true;
    start(session, topology, true);
    Ok(())
}

/// Takes up the work of an earlier session: the levels are there when their last part is.
pub(in crate::amqp) async fn resume(session: Arc<Session>, topology: Arc<Topology>) {
    if !exists(&session, &queue(DUE)).await {
        return;
    }
    if topology.mode == TopologyMode::Declare {
        // Earlier versions had none of these, and the own queue goes when its daemons are away for long.
        let made = match Declarer::new(&session, &session.publish).await {
            Ok(mut declarer) => {
                let mut made = declare_ends(&mut declarer, &session).await;
                if made.is_ok() {
                    made = declare_due(&mut declarer).await;
                }
                declarer.close().await;
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
async fn declare(declarer: &mut Declarer<'_>, session: &Session) -> Result<(), lapin::Error> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    declarer.channel.exchange_declare(name(DUE), ExchangeKind::Fanout, durable, FieldTable::default()).await?;
    for level in 0..LEVELS {
        let own = name(&level_name(level));
        declarer.channel.exchange_declare(own.clone(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
        let holds = Duration::from_millis(1 << level) * u32::try_from(UNIT.as_millis()).unwrap_or(u32::MAX);
        let below = below(level);
        let arguments = [
            (TYPE, QUORUM.into()),
            (TTL, milliseconds(holds)),
            (OVERFLOW, REJECT.into()),
            (DEAD_LETTER_EXCHANGE, below.as_str().into()),
            (STRATEGY, AT_LEAST_ONCE.into()),
        ];
        declare_queue(declarer, &queue(&level_name(level)), QueuePurpose::Holding, arguments).await?;
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        let (next, key) = (name(&below), name(&pattern(level, "1")));
        declarer.channel.queue_bind(own.clone(), own.clone(), key, options, none.clone()).await?;
        let (options, key) = (ExchangeBindOptions::default(), name(&pattern(level, "0")));
        declarer.channel.exchange_bind(next, own, key, options, none).await?;
    }
    declare_ends(declarer, session).await?;
    declare_due(declarer).await?;
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    declarer.channel.queue_bind(name(DUE), name(DUE), ShortString::default(), options, none).await
}

async fn declare_due(declarer: &mut Declarer<'_>) -> Result<(), lapin::Error> {
    declare_queue(declarer, &queue(DUE), QueuePurpose::Kept, [(TYPE, QUORUM.into())]).await
}

/// Where messages go that nobody passes on, and where those wait that a daemon with another key came upon.
async fn declare_ends(declarer: &mut Declarer<'_>, session: &Session) -> Result<(), lapin::Error> {
    declare_queue(declarer, &queue(DEAD), QueuePurpose::Kept, [(TYPE, QUORUM.into())]).await?;
    let arguments = [
        (TYPE, QUORUM.into()),
        (TTL, milliseconds(OWN_DUE_TTL)),
        (EXPIRES, milliseconds(OWN_DUE_EXPIRES)),
        (OVERFLOW, REJECT.into()),
        (DEAD_LETTER_EXCHANGE, "".into()),
        (DEAD_LETTER_KEY, DEAD.into()),
        (STRATEGY, AT_LEAST_ONCE.into()),
    ];
    declare_queue(declarer, &own_due(session.key.id()), QueuePurpose::Holding, arguments).await
}

async fn declare_queue<const N: usize>(
    declarer: &mut Declarer<'_>,
    queue: &QueueName,
    purpose: QueuePurpose,
    arguments: [(&str, HeaderValue); N],
) -> Result<(), lapin::Error> {
    declarer.queue(queue, &Wanted::new(arguments, purpose, declarer.server)).await
}
