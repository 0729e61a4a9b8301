//! One part of the topology: an exchange, a queue or a binding. The part is declared, or checked and used as it is.

use std::fmt;

use lapin::Channel;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions};
use lapin::types::{FieldTable, ShortString};

use super::commands::CommandWriter;
use super::declarer::{Declarer, to_wire_kind};
use crate::amqp::channel::{headers_to_table, says_missing, short_string, to_field_value, with_remedy};
use crate::amqp::queue::WantedArguments;
use trunkline_config::{Binding, Exchange, Match, Queue, QueueOwnership, Topology, TopologyMode};
use trunkline_event::{ExchangeName, Headers, QueueName};

/// A part of a topology.
#[derive(Debug, Clone, Copy)]
pub(super) enum TopologyPart<'t> {
    Exchange(&'t ExchangeName, &'t Exchange),
    Queue(&'t QueueName, &'t Queue),
    Binding(&'t Binding),
}

impl TopologyPart<'_> {
    /// Declares or checks the part.
    ///
    /// # Errors
    /// The refusal, after which the channel is closed; or the loss of the connection.
    pub(super) async fn declare(&self, declarer: &mut Declarer<'_>, mode: TopologyMode) -> Result<(), lapin::Error> {
        match self {
            Self::Exchange(name, settings) => declare_exchange(&declarer.channel, mode, name, settings).await,
            Self::Queue(name, settings) => declare_or_check(declarer, mode, name, settings).await,
            Self::Binding(binding) => bind(&declarer.channel, binding).await,
        }
    }

    /// A refusal of the part as a sentence, with the remedy.
    pub(super) fn refusal(&self, declarer: &Declarer<'_>, topology: &Topology, error: &lapin::Error) -> String {
        let made_by = match self {
            Self::Exchange(name, settings) => exchange_commands(declarer, topology.mode, name, settings),
            Self::Queue(name, settings) => queue_commands(declarer, topology, name, settings),
            Self::Binding(_) => Vec::new(),
        };
        format!("{self}: {}", explained(error, &made_by))
    }
}

impl fmt::Display for TopologyPart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(name, _) => write!(f, "exchange {name}"),
            Self::Queue(name, _) => f.write_str(&about_queue(name)),
            Self::Binding(Binding { queue, exchange, .. }) => {
                write!(f, "{}, binding to exchange {exchange}", about_queue(queue))
            }
        }
    }
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
pub(super) fn queue_commands(
    declarer: &Declarer<'_>,
    topology: &Topology,
    name: &QueueName,
    settings: &Queue,
) -> Vec<String> {
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

/// The text of a refusal with the remedy: the commands that make a missing part, if there are any.
pub(super) fn explained(error: &lapin::Error, made_by: &[String]) -> String {
    if made_by.is_empty() || !says_missing(error) {
        return with_remedy(error);
    }
    format!("{error}; make the missing part with: {}", made_by.join(" && "))
}

/// Removes a binding. RabbitMQ does not refuse the removal of a binding that does not exist.
pub(crate) async fn unbind(channel: &Channel, binding: &Binding) -> Result<(), lapin::Error> {
    let (key, arguments) = key_and_arguments(binding);
    channel
        .queue_unbind(short_string(binding.queue.as_str()), short_string(binding.exchange.as_str()), key, arguments)
        .await
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

pub(super) async fn declare_or_check(
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
pub(super) fn makes(mode: TopologyMode, settings: &Queue) -> bool {
    mode == TopologyMode::Declare && settings.ownership != QueueOwnership::Others
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
