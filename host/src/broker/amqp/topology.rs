//! Exchanges, queues and bindings on the broker. What it refuses closes the channel, so each refusal costs one, and the
//! rest goes on.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ErrorKind};

use super::convert::{name, to_table, value};
use super::session::let_go;
use crate::config::{Binding, Exchange, ExchangeKind, Match, Overflow, Queue, QueueKind, Topology, TopologyMode};
use crate::event::{ExchangeName, Headers, QueueName};

/// Declares or checks everything; gives what was refused, as sentences.
///
/// # Errors
/// When the connection is lost.
pub(super) async fn declare(connection: &Connection, topology: &Topology) -> Result<Vec<String>, lapin::Error> {
    let mut channel = connection.create_channel().await?;
    let mut refused = Vec::new();
    for (exchange, settings) in &topology.exchanges {
        let done = declare_exchange(&channel, topology.mode, exchange, settings).await;
        channel = note(connection, channel, done, format!("exchange {exchange}"), &mut refused).await?;
    }
    for (queue, settings) in &topology.queues {
        let done = declare_queue(&channel, topology.mode, queue, settings).await;
        channel = note(connection, channel, done, about_queue(queue), &mut refused).await?;
    }
    if topology.mode == TopologyMode::Declare {
        for binding in &topology.bindings {
            let done = bind(&channel, binding).await;
            let what = format!("{}, binding to exchange {}", about_queue(&binding.queue), binding.exchange);
            channel = note(connection, channel, done, what, &mut refused).await?;
        }
    }
    let _closed = channel.close(200, ShortString::default()).await;
    Ok(refused)
}

fn about_queue(queue: &QueueName) -> String {
    format!("queue {queue}")
}

/// Whether a refusal is of a queue or of one of its bindings.
pub(super) fn is_about_queue(refusal: &str, queue: &QueueName) -> bool {
    let rest = refusal.strip_prefix(&about_queue(queue));
    rest.is_some_and(|rest| rest.starts_with([':', ',']))
}

/// Declares one queue and its bindings again: it may have been deleted since.
pub(super) async fn declare_one(channel: &Channel, topology: &Topology, queue: &QueueName) -> Result<(), lapin::Error> {
    if let Some(settings) = topology.queues.get(queue) {
        declare_queue(channel, topology.mode, queue, settings).await?;
    }
    if topology.mode == TopologyMode::Declare {
        for binding in topology.bindings.iter().filter(|binding| binding.queue == *queue) {
            bind(channel, binding).await?;
        }
    }
    Ok(())
}

/// Takes a binding away; one that is not there is no error.
pub(super) async fn unbind(channel: &Channel, binding: &Binding) -> Result<(), lapin::Error> {
    let (key, arguments) = key_and_arguments(binding);
    channel.queue_unbind(name(binding.queue.as_str()), name(binding.exchange.as_str()), key, arguments).await
}

/// Whether an error is the broker's refusal of one thing, after which a new channel goes on.
pub(super) fn is_refusal(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(_))
}

async fn note(
    connection: &Connection,
    channel: Channel,
    done: Result<(), lapin::Error>,
    what: String,
    refused: &mut Vec<String>,
) -> Result<Channel, lapin::Error> {
    match done {
        Ok(()) => Ok(channel),
        Err(error) if is_refusal(&error) => {
            refused.push(format!("{what}: {error}"));
            let_go(channel).await;
            connection.create_channel().await
        }
        Err(error) => Err(error),
    }
}

async fn declare_exchange(
    channel: &Channel,
    mode: TopologyMode,
    exchange: &ExchangeName,
    settings: &Exchange,
) -> Result<(), lapin::Error> {
    let kind = match settings.kind {
        ExchangeKind::Topic => lapin::ExchangeKind::Topic,
        ExchangeKind::Direct => lapin::ExchangeKind::Direct,
        ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
        ExchangeKind::Headers => lapin::ExchangeKind::Headers,
    };
    let passive = mode == TopologyMode::Check || !settings.owned;
    let options = ExchangeDeclareOptions { durable: true, passive, ..ExchangeDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    if let Some(alternate) = &settings.alternate {
        text(&mut arguments, "alternate-exchange", alternate.as_str());
    }
    channel.exchange_declare(name(exchange.as_str()), kind, options, arguments).await
}

async fn declare_queue(
    channel: &Channel,
    mode: TopologyMode,
    queue: &QueueName,
    settings: &Queue,
) -> Result<(), lapin::Error> {
    let passive = mode == TopologyMode::Check;
    let options = QueueDeclareOptions { durable: true, passive, ..QueueDeclareOptions::default() };
    channel.queue_declare(name(queue.as_str()), options, arguments(settings)).await.map(drop)
}

/// Declares a queue that the broker removes when nobody has consumed it for a while.
pub(super) async fn declare_expiring(
    channel: &Channel,
    queue: &QueueName,
    settings: &Queue,
    expires: Duration,
) -> Result<(), lapin::Error> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut table = arguments(settings);
    number(&mut table, "x-expires", i64::try_from(expires.as_millis()).unwrap_or(i64::MAX));
    channel.queue_declare(name(queue.as_str()), options, table).await.map(drop)
}

fn arguments(settings: &Queue) -> FieldTable {
    let mut table = FieldTable::default();
    let is_quorum = settings.kind == QueueKind::Quorum;
    text(&mut table, "x-queue-type", if is_quorum { "quorum" } else { "classic" });
    if let Some(ttl) = settings.ttl {
        number(&mut table, "x-message-ttl", i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
    }
    if let Some(max) = settings.max_length {
        number(&mut table, "x-max-length", i64::from(max));
    }
    let rejects = settings.overflow == Overflow::RejectPublish;
    if rejects {
        text(&mut table, "x-overflow", "reject-publish");
    }
    if let Some(limit) = settings.delivery_limit.filter(|_| is_quorum) {
        number(&mut table, "x-delivery-limit", i64::from(limit));
    }
    if let Some(max) = settings.max_priority {
        number(&mut table, "x-max-priority", i64::from(max));
    }
    if settings.single_consumer {
        table.insert(name("x-single-active-consumer"), AMQPValue::Boolean(true));
    }
    if let Some(target) = &settings.dead_letter {
        text(&mut table, "x-dead-letter-exchange", target.exchange.as_str());
        text(&mut table, "x-dead-letter-routing-key", target.key.as_str());
        // The safe way exists for quorum queues that reject only.
        if is_quorum && rejects {
            text(&mut table, "x-dead-letter-strategy", "at-least-once");
        }
    }
    table
}

pub(super) async fn bind(channel: &Channel, binding: &Binding) -> Result<(), lapin::Error> {
    let (key, arguments) = key_and_arguments(binding);
    let (queue, exchange) = (name(binding.queue.as_str()), name(binding.exchange.as_str()));
    channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), arguments).await
}

fn key_and_arguments(binding: &Binding) -> (ShortString, FieldTable) {
    match &binding.matches {
        Match::Key(key) => (name(key.as_str()), FieldTable::default()),
        Match::Headers { all, values } => {
            let mut table = to_table(&values.iter().cloned().collect::<Headers>());
            text(&mut table, "x-match", if *all { "all" } else { "any" });
            (ShortString::default(), table)
        }
    }
}

fn text(table: &mut FieldTable, key: &str, text: &str) {
    table.insert(name(key), value(&text.into()));
}

fn number(table: &mut FieldTable, key: &str, number: i64) {
    table.insert(name(key), AMQPValue::LongLongInt(number));
}
