//! Exchanges, queues and bindings on the broker. What it refuses closes the channel, so each refusal costs one, and the
//! rest goes on.

use std::time::Duration;

use lapin::Channel;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};

use super::arguments::{EXPIRES, Wanted, milliseconds};
use super::convert::{name, value};
use super::queues::{Declarer, is_refusal, to_table};
use super::session::Session;
use trunkline_config::{Binding, Exchange, ExchangeKind, Match, Queue, Topology, TopologyMode};
use trunkline_event::{ExchangeName, Headers, QueueName};

/// Declares or checks everything; gives what was refused, as sentences.
///
/// # Errors
/// When the connection is lost.
pub(super) async fn declare(session: &Session, topology: &Topology) -> Result<Vec<String>, lapin::Error> {
    let mut declarer = Declarer::new(session, &session.consume).await?;
    let mut refused = Vec::new();
    for (exchange, settings) in &topology.exchanges {
        let done = declare_exchange(&declarer.channel, topology.mode, exchange, settings).await;
        note(&mut declarer, done, format!("exchange {exchange}"), &mut refused).await?;
    }
    for (queue, settings) in &topology.queues {
        let done = declare_queue(&mut declarer, topology.mode, queue, settings).await;
        note(&mut declarer, done, about_queue(queue), &mut refused).await?;
    }
    if topology.mode == TopologyMode::Declare {
        for binding in &topology.bindings {
            let done = bind(&declarer.channel, binding).await;
            let what = format!("{}, binding to exchange {}", about_queue(&binding.queue), binding.exchange);
            note(&mut declarer, done, what, &mut refused).await?;
        }
    }
    declarer.close().await;
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
pub(super) async fn declare_one(session: &Session, topology: &Topology, queue: &QueueName) -> Result<(), lapin::Error> {
    let mut declarer = Declarer::new(session, &session.consume).await?;
    let declared = declare_with_bindings(&mut declarer, topology, queue).await;
    declarer.close().await;
    declared
}

async fn declare_with_bindings(
    declarer: &mut Declarer<'_>,
    topology: &Topology,
    queue: &QueueName,
) -> Result<(), lapin::Error> {
    if let Some(settings) = topology.queues.get(queue) {
        declare_queue(declarer, topology.mode, queue, settings).await?;
    }
    if topology.mode == TopologyMode::Declare {
        for binding in topology.bindings.iter().filter(|binding| binding.queue == *queue) {
            bind(&declarer.channel, binding).await?;
        }
    }
    Ok(())
}

/// Takes a binding away; one that is not there is no error.
pub(super) async fn unbind(channel: &Channel, binding: &Binding) -> Result<(), lapin::Error> {
    let (key, arguments) = key_and_arguments(binding);
    channel.queue_unbind(name(binding.queue.as_str()), name(binding.exchange.as_str()), key, arguments).await
}

async fn note(
    declarer: &mut Declarer<'_>,
    done: Result<(), lapin::Error>,
    what: String,
    refused: &mut Vec<String>,
) -> Result<(), lapin::Error> {
    match done {
        Err(error) if is_refusal(&error) => {
            refused.push(format!("{what}: {error}"));
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
    declarer: &mut Declarer<'_>,
    mode: TopologyMode,
    queue: &QueueName,
    settings: &Queue,
) -> Result<(), lapin::Error> {
    match mode {
        TopologyMode::Check => declarer.exists(queue).await,
        TopologyMode::Declare => declarer.queue(queue, &Wanted::of(settings, declarer.server)).await,
    }
}

/// Declares a queue that the broker removes when nobody has consumed it for a while.
pub(super) async fn declare_expiring(
    channel: &Channel,
    queue: &QueueName,
    settings: &Queue,
    expires: Duration,
) -> Result<(), lapin::Error> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = Wanted::of(settings, None).arguments;
    arguments.insert(EXPIRES.to_owned(), milliseconds(expires));
    channel.queue_declare(name(queue.as_str()), options, to_table(&arguments)).await.map(drop)
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
            let mut table = super::convert::to_table(&values.iter().cloned().collect::<Headers>());
            text(&mut table, "x-match", if *all { "all" } else { "any" });
            (ShortString::default(), table)
        }
    }
}

fn text(table: &mut FieldTable, key: &str, text: &str) {
    table.insert(name(key), value(&text.into()));
}
