//! Declares the topology on the broker. A refusal is noted, and the rest of the topology is declared all the same.

use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use lapin::options::QueueDeclareOptions;

use super::declarer::{Declarer, to_table};
use super::operator::needs_delays;
use super::part::{bind, declare_or_check, explained, is_about_queue, makes, queue_commands};
use super::stage::{declare_stage, stages};
use crate::Error;
use crate::amqp::channel::{is_refusal, queue_error, says_missing, short_string};
use crate::amqp::connection::Session;
use crate::amqp::delay;
use crate::amqp::queue::{EXPIRES, WantedArguments, milliseconds};
use trunkline_config::{Queue, QueueOwnership, Topology, TopologyMode};
use trunkline_event::QueueName;

/// The connection that declares the topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeclarationPlace {
    /// The session's own connection.
    Session,
    /// A separate connection, because the broker ended an earlier session during the declaration. A part after which the broker
    /// ends this connection counts as refused. RabbitMQ ends a connection for a new quorum queue while most nodes are down.
    /// RabbitMQ 4.3 also ends a connection when it cannot encode the text of a refusal.
    Separate,
}

/// Declares or checks every exchange, queue and binding. Returns each refusal as a sentence. A queue that only other programs
/// declare is left to the subscription of its route, which waits for the queue.
///
/// # Errors
/// When the connection is lost.
pub(crate) async fn declare(
    session: &Session,
    topology: &Arc<Topology>,
    place: DeclarationPlace,
) -> Result<Vec<String>, lapin::Error> {
    let mut declarer = match place {
        DeclarationPlace::Session => Declarer::new(session, &session.consume).await?,
        DeclarationPlace::Separate => Declarer::separate(session).await?,
    };
    let mut refused = Vec::new();
    for parts in stages(topology) {
        refused.extend(declare_stage(&mut declarer, topology, &parts).await?);
    }
    if topology.mode == TopologyMode::Check && needs_delays(topology) {
        let missing = delay::missing_parts(&mut declarer).await?;
        if !missing.is_empty() {
            let names = missing.join(", ");
            refused.push(format!(
                "delayed publishing: these exchanges and queues do not exist: {names}; `trunkline check` prints the commands that make them"
            ));
        }
    }
    declarer.close().await;
    session.declared.note(topology, |queue| refused.iter().any(|refusal| is_about_queue(refusal, queue)));
    Ok(refused)
}

/// Declares one queue and its bindings again, because the queue may have been deleted since. A queue that does not exist is made
/// on a separate connection, because RabbitMQ ends the connection for a new quorum queue while most nodes are down.
///
/// # Errors
/// [`Error::Queue`] with the refusal and the remedy, or [`Error::Lost`].
pub(crate) async fn declare_queue(session: &Session, topology: &Topology, queue: &QueueName) -> Result<(), Error> {
    let failed = |error: lapin::Error| queue_error(queue, &error);
    let mut declarer = Declarer::new(session, &session.consume).await.map_err(failed)?;
    if topology.queues.get(queue).is_some_and(|settings| makes(topology.mode, settings))
        && let Err(error) = declarer.exists(queue).await
    {
        if says_missing(&error) {
            declarer.close().await;
            declarer = Declarer::separate(session).await.map_err(failed)?;
        } else {
            declarer.renew().await.map_err(failed)?;
        }
    }
    let declared = declare_with_bindings(&mut declarer, topology, queue).await;
    let declared = declared.map_err(|error| queue_refusal(&declarer, topology, queue, &error));
    declarer.close().await;
    declared
}

/// The error of a queue that cannot be declared or that does not exist.
fn queue_refusal(declarer: &Declarer<'_>, topology: &Topology, queue: &QueueName, error: &lapin::Error) -> Error {
    let Some(settings) = topology.queues.get(queue).filter(|_| is_refusal(error) && says_missing(error)) else {
        return queue_error(queue, error);
    };
    let reason = if settings.ownership == QueueOwnership::Others {
        format!(
            "{error}; start the program that declares the queue, because [queues.\"{queue}\"] has `owned = false`; or write `owned = \"shared\"`"
        )
    } else {
        explained(error, &queue_commands(declarer, topology, queue, settings))
    };
    Error::Queue { queue: queue.clone(), reason }
}

async fn declare_with_bindings(
    declarer: &mut Declarer<'_>,
    topology: &Topology,
    queue: &QueueName,
) -> Result<(), lapin::Error> {
    if let Some(settings) = topology.queues.get(queue) {
        declare_or_check(declarer, topology.mode, queue, settings).await?;
    }
    if topology.mode == TopologyMode::Declare {
        for binding in topology.bindings.iter().filter(|binding| binding.queue == *queue) {
            bind(&declarer.channel, binding).await?;
        }
    }
    Ok(())
}

/// Declares a queue that the broker removes after a time without a consumer.
pub(crate) async fn declare_expiring_queue(
    channel: &Channel,
    queue: &QueueName,
    settings: &Queue,
    expires: Duration,
) -> Result<(), lapin::Error> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = WantedArguments::of(settings, None).arguments;
    arguments.insert(EXPIRES.to_owned(), milliseconds(expires));
    channel.queue_declare(short_string(queue.as_str()), options, to_table(&arguments)).await.map(drop)
}
