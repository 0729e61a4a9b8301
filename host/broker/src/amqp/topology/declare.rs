//! Declares the topology on the broker. A refusal is noted, and the rest of the topology is declared all the same.

use std::time::Duration;

use lapin::Channel;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};

use super::commands::CommandWriter;
use super::declarer::{Declarer, to_table, to_wire_kind};
use super::operator::needs_delays;
use crate::Error;
use crate::amqp::channel::{
    closes_only_its_channel, headers_to_table, is_refusal, queue_error, says_missing, short_string, to_field_value,
    with_remedy,
};
use crate::amqp::connection::Session;
use crate::amqp::delay;
use crate::amqp::queue::{EXPIRES, WantedArguments, milliseconds};
use trunkline_config::{Binding, Exchange, Match, Queue, QueueOwnership, Topology, TopologyMode};
use trunkline_event::{ExchangeName, Headers, QueueName};

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
    topology: &Topology,
    place: DeclarationPlace,
) -> Result<Vec<String>, lapin::Error> {
    let mut declarer = match place {
        DeclarationPlace::Session => Declarer::new(session, &session.consume).await?,
        DeclarationPlace::Separate => Declarer::separate(session).await?,
    };
    let mut refused = Vec::new();
    for (exchange, settings) in &topology.exchanges {
        let done = declare_exchange(&declarer.channel, topology.mode, exchange, settings).await;
        let made_by = exchange_commands(&declarer, topology.mode, exchange, settings);
        note(&mut declarer, done, format!("exchange {exchange}"), &made_by, &mut refused).await?;
    }
    let declared = topology.queues.iter().filter(|(_, settings)| settings.ownership != QueueOwnership::Others);
    for (queue, settings) in declared {
        let done = declare_or_check(&mut declarer, topology.mode, queue, settings).await;
        let made_by = queue_commands(&declarer, topology, queue, settings);
        note(&mut declarer, done, about_queue(queue), &made_by, &mut refused).await?;
    }
    match topology.mode {
        TopologyMode::Declare => {
            for binding in &topology.bindings {
                let done = bind(&declarer.channel, binding).await;
                let what = format!("{}, binding to exchange {}", about_queue(&binding.queue), binding.exchange);
                note(&mut declarer, done, what, &[], &mut refused).await?;
            }
        }
        TopologyMode::Check if needs_delays(topology) => {
            let missing = delay::missing_parts(&mut declarer).await?;
            if !missing.is_empty() {
                let names = missing.join(", ");
                refused.push(format!(
                    "delayed publishing: these exchanges and queues do not exist: {names}; `trunkline check` prints the commands that make them"
                ));
            }
        }
        TopologyMode::Check => {}
    }
    declarer.close().await;
    Ok(refused)
}

/// The commands that make an exchange that the daemon may not declare itself; none where the daemon declares it, and for an
/// exchange of another program.
fn exchange_commands(
    declarer: &Declarer<'_>,
    mode: TopologyMode,
    name: &ExchangeName,
    settings: &Exchange,
) -> Vec<String> {
    let writer = CommandWriter { vhost: declarer.vhost, server: declarer.server };
    match mode {
        TopologyMode::Check if settings.owned => vec![writer.exchange(name, settings)],
        TopologyMode::Check | TopologyMode::Declare => Vec::new(),
    }
}

/// The commands that make a queue that the daemon may not declare itself; none where the daemon declares it.
fn queue_commands(declarer: &Declarer<'_>, topology: &Topology, name: &QueueName, settings: &Queue) -> Vec<String> {
    let writer = CommandWriter { vhost: declarer.vhost, server: declarer.server };
    match topology.mode {
        TopologyMode::Check => writer.queue(topology, name, settings),
        TopologyMode::Declare => Vec::new(),
    }
}

fn about_queue(queue: &QueueName) -> String {
    format!("queue {queue}")
}

/// Whether a refusal concerns a queue or one of its bindings.
pub(crate) fn is_about_queue(refusal: &str, queue: &QueueName) -> bool {
    let rest = refusal.strip_prefix(&about_queue(queue));
    rest.is_some_and(|rest| rest.starts_with([':', ',']))
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

/// The text of a refusal with the remedy: the commands that make a missing part, if there are any.
fn explained(error: &lapin::Error, made_by: &[String]) -> String {
    if made_by.is_empty() || !says_missing(error) {
        return with_remedy(error);
    }
    format!("{error}; make the missing part with: {}", made_by.join(" && "))
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

/// Removes a binding. RabbitMQ does not refuse the removal of a binding that does not exist.
pub(crate) async fn unbind(channel: &Channel, binding: &Binding) -> Result<(), lapin::Error> {
    let (key, arguments) = key_and_arguments(binding);
    channel
        .queue_unbind(short_string(binding.queue.as_str()), short_string(binding.exchange.as_str()), key, arguments)
        .await
}

async fn note(
    declarer: &mut Declarer<'_>,
    done: Result<(), lapin::Error>,
    what: String,
    made_by: &[String],
    refused: &mut Vec<String>,
) -> Result<(), lapin::Error> {
    match done {
        Err(error) if closes_only_its_channel(&error) => {
            refused.push(format!("{what}: {}", explained(&error, made_by)));
            declarer.renew().await
        }
        Err(error) if declarer.is_separate() => {
            refused.push(format!("{what}: the broker ended the connection: {error}"));
            declarer.renew().await
        }
        done => done,
    }
}

async fn declare_exchange(
    channel: &Channel,
    mode: TopologyMode,
    exchange: &ExchangeName,
    settings: &Exchange,
) -> Result<(), lapin::Error> {
    let passive = mode == TopologyMode::Check || !settings.owned;
    let options = ExchangeDeclareOptions { durable: true, passive, ..ExchangeDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    if let Some(alternate) = &settings.alternate {
        text(&mut arguments, "alternate-exchange", alternate.as_str());
    }
    channel.exchange_declare(short_string(exchange.as_str()), to_wire_kind(settings.kind), options, arguments).await
}

async fn declare_or_check(
    declarer: &mut Declarer<'_>,
    mode: TopologyMode,
    queue: &QueueName,
    settings: &Queue,
) -> Result<(), lapin::Error> {
    if makes(mode, settings) {
        declarer.queue(queue, &WantedArguments::of(settings, declarer.server)).await
    } else {
        declarer.exists(queue).await
    }
}

/// Whether the daemon makes a queue that does not exist.
fn makes(mode: TopologyMode, settings: &Queue) -> bool {
    mode == TopologyMode::Declare && settings.ownership != QueueOwnership::Others
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

/// Binds a queue to an exchange.
pub(crate) async fn bind(channel: &Channel, binding: &Binding) -> Result<(), lapin::Error> {
    let (key, arguments) = key_and_arguments(binding);
    let (queue, exchange) = (short_string(binding.queue.as_str()), short_string(binding.exchange.as_str()));
    channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), arguments).await
}

fn key_and_arguments(binding: &Binding) -> (ShortString, FieldTable) {
    match &binding.matches {
        Match::Key(key) => (short_string(key.as_str()), FieldTable::default()),
        Match::Headers { all, values } => {
            let mut table = headers_to_table(&values.iter().cloned().collect::<Headers>());
            text(&mut table, "x-match", if *all { "all" } else { "any" });
            (ShortString::default(), table)
        }
    }
}

fn text(table: &mut FieldTable, key: &str, text: &str) {
    table.insert(short_string(key), to_field_value(&text.into()));
}
