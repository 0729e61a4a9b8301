//! The exchanges and queues of delayed publishing on the broker.

use std::time::Duration;

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;

use super::levels::{DUE, LEVELS, level_name, own_due, queue};
use super::parts::{DelayPart, due_binding, end_parts, level_parts, needed_parts};
use crate::amqp::channel::{closes_only_its_channel, is_refusal, refusal_text, release, short_string};
use crate::amqp::connection::Session;
use crate::amqp::queue::WantedArguments;
use crate::amqp::topology::{Declarer, look, to_wire_kind};
use crate::dead_letter::delayed_dead_letter_queue;
use trunkline_event::QueueName;
use trunkline_telemetry::wait;

/// A queue that one connection can have at a time. Its holder declares the delay queues.
const LOCK: &str = "trunkline.delay.lock";
/// The longest time for which a connection waits while another connection declares the delay queues: the tries, and the pause
/// between two tries.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Whether a queue exists.
pub(crate) async fn exists(session: &Session, queue: &QueueName) -> bool {
    consumers(session, queue).await.is_some()
}

/// The number of consumers of a queue; none when the queue does not exist. The question has a channel of its own, because the
/// answer "no" closes the channel.
pub(crate) async fn consumers(session: &Session, queue: &QueueName) -> Option<u32> {
    let channel = session.consume.create_channel().await.ok()?;
    let found = channel.queue_declare(short_string(queue.as_str()), passive(), FieldTable::default()).await;
    release(channel).await;
    found.ok().map(|queue| queue.consumer_count())
}

/// The messages that wait in the delay queues.
#[derive(Debug, Default)]
pub(crate) struct WaitingMessages {
    pub(crate) count: u64,
    /// A sentence for each delay queue that is missing although delayed publishing was declared.
    pub(crate) problems: Vec<String>,
}

/// Counts the messages in the delay queues. A virtual host without delay queues has none.
///
/// # Errors
/// When the connection is lost.
pub(crate) async fn count_waiting(declarer: &mut Declarer<'_>) -> Result<WaitingMessages, lapin::Error> {
    // The queue of messages that are due is declared last, and level 0 first.
    let (mut names, levels) = (vec![queue(DUE), queue(&level_name(0))], 1..LEVELS);
    let mut answers = look(declarer, &names).await?;
    let is_declared = answers[0].is_ok();
    if answers.iter().all(Result::is_err) {
        return Ok(WaitingMessages::default());
    }
    let further: Vec<QueueName> = levels.map(|level| queue(&level_name(level))).collect();
    answers.extend(look(declarer, &further).await?);
    names.extend(further);
    let mut waiting = WaitingMessages::default();
    for (name, answer) in names.iter().zip(answers) {
        match answer {
            Ok(found) => waiting.count += u64::from(found.message_count()),
            Err(error) => waiting.problems.push(format!("delay queue {name}: {error}")),
        }
    }
    if !is_declared {
        waiting.problems.clear();
    }
    Ok(waiting)
}

fn passive() -> QueueDeclareOptions {
    QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() }
}

/// Looks for the delay queues. Returns whether all of them exist. If so, the queues after the last level are declared again, so
/// that the daemon reports other arguments. The exchanges and bindings are declared again too, because RabbitMQ does not tell
/// whether a binding exists. No queue is made.
///
/// # Errors
/// The refusal, or the loss of the connection.
pub(crate) async fn declare_if_complete(declarer: &mut Declarer<'_>, session: &Session) -> Result<bool, lapin::Error> {
    let ends = [queue(DUE), delayed_dead_letter_queue(), own_due(session.key.id())];
    // A session without delay queues costs one question that is refused.
    let names: Vec<QueueName> = (0..LEVELS).map(|level| queue(&level_name(level))).chain(ends).collect();
    for some in [&names[..1], &names[1..]] {
        if look(declarer, some).await?.iter().any(Result::is_err) {
            return Ok(false);
        }
    }
    declare_ends(declarer, session).await?;
    let others = level_parts().into_iter().chain([due_binding()]);
    for part in others.filter(|part| !matches!(part, DelayPart::Queue { .. })) {
        declare(declarer, &part).await?;
    }
    Ok(true)
}

/// Declares every exchange and queue, each after the one that it points to. The queue of messages that are due comes last, as
/// the sign that all others exist. If most nodes of a cluster are down, RabbitMQ ends the connection that declares a new quorum
/// queue (541).
///
/// # Errors
/// The refusal, or the loss of the connection.
pub(crate) async fn declare_all(declarer: &mut Declarer<'_>, session: &Session) -> Result<(), lapin::Error> {
    lock(declarer).await?;
    let declared = declare_levels(declarer, session).await;
    unlock(declarer, declared).await
}

/// Waits until no other connection declares the delay queues. RabbitMQ 3.10 may end a connection that declares a quorum queue at
/// the same time as another one.
async fn lock(declarer: &mut Declarer<'_>) -> Result<(), lapin::Error> {
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    for _ in 0..LOCK_TRIES {
        match declarer.channel.queue_declare(short_string(LOCK), options, FieldTable::default()).await {
            Ok(_lock) => return Ok(()),
            Err(error) if is_refusal(&error) => {
                declarer.renew().await?;
                // Another refusal is one of the delay queues too.
                if refusal_text(&error).is_none_or(|text| !text.starts_with("RESOURCE_LOCKED")) {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
        wait::after(LOCK_PAUSE).await;
    }
    // The holder hangs.
    Ok(())
}

/// Lets other connections declare, and gives the result of the declaration.
async fn unlock(declarer: &mut Declarer<'_>, declared: Result<(), lapin::Error>) -> Result<(), lapin::Error> {
    if declared.as_ref().is_err_and(|error| !closes_only_its_channel(error)) {
        // The lock ended with the connection.
        return declared;
    }
    if declared.is_err() {
        declarer.renew().await?;
    }
    // The queue may be another connection's, and ends with this connection in any case.
    if declarer.channel.queue_delete(short_string(LOCK), QueueDeleteOptions::default()).await.is_err() {
        declarer.renew().await?;
    }
    declared
}

async fn declare_levels(declarer: &mut Declarer<'_>, session: &Session) -> Result<(), lapin::Error> {
    for part in level_parts() {
        declare(declarer, &part).await?;
    }
    declare_ends(declarer, session).await?;
    declare(declarer, &due_binding()).await
}

/// Declares the queues after the last level: for messages that are due, for messages with the key of this daemon, and for dead
/// letters.
///
/// # Errors
/// The refusal, or the loss of the connection.
async fn declare_ends(declarer: &mut Declarer<'_>, session: &Session) -> Result<(), lapin::Error> {
    for part in end_parts(session.key.id()) {
        declare(declarer, &part).await?;
    }
    Ok(())
}

/// The names of the exchanges and queues that do not exist. Nothing is declared.
///
/// # Errors
/// The loss of the connection.
pub(crate) async fn missing_parts(declarer: &mut Declarer<'_>) -> Result<Vec<String>, lapin::Error> {
    let mut missing: Vec<String> = Vec::new();
    for part in needed_parts() {
        let (name, found) = match &part {
            DelayPart::Exchange { name, kind } => {
                let options =
                    ExchangeDeclareOptions { durable: true, passive: true, ..ExchangeDeclareOptions::default() };
                let own = short_string(name);
                let found =
                    declarer.channel.exchange_declare(own, to_wire_kind(*kind), options, FieldTable::default()).await;
                (name.as_str(), found)
            }
            DelayPart::Queue { name, .. } => (name.as_str(), declarer.exists(name).await),
            DelayPart::QueueBinding { .. } | DelayPart::ExchangeBinding { .. } => continue,
        };
        match found {
            Err(error) if is_refusal(&error) => {
                if !missing.iter().any(|known| known == name) {
                    missing.push(name.to_owned());
                }
                declarer.renew().await?;
            }
            found => found?,
        }
    }
    Ok(missing)
}

async fn declare(declarer: &mut Declarer<'_>, part: &DelayPart) -> Result<(), lapin::Error> {
    let none = FieldTable::default();
    match part {
        DelayPart::Exchange { name, kind } => {
            let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            declarer.channel.exchange_declare(short_string(name), to_wire_kind(*kind), durable, none).await
        }
        DelayPart::Queue { name, purpose, arguments } => {
            let wanted = WantedArguments::new(arguments.iter().cloned(), *purpose, declarer.server);
            declarer.queue(name, &wanted).await
        }
        DelayPart::QueueBinding { exchange, queue, key } => {
            let (queue, exchange, key) = (short_string(queue), short_string(exchange), short_string(key));
            declarer.channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), none).await
        }
        DelayPart::ExchangeBinding { source, destination, key } => {
            let (to, from, key) = (short_string(destination), short_string(source), short_string(key));
            declarer.channel.exchange_bind(to, from, key, ExchangeBindOptions::default(), none).await
        }
    }
}
