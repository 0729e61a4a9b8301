//! A channel on which queues are declared, or checked and used as they are.

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};

use crate::BrokerServer;
use crate::amqp::channel::{close, is_refusal, refusal_text, release, short_string, to_field_value};
use crate::amqp::connection::Session;
use crate::amqp::queue::{Arguments, Difference, ExistingValue, ToleratedQueues, WantedArguments};
use trunkline_config::ExchangeKind;
use trunkline_event::QueueName;

/// A channel for declarations. A refusal closes the channel, so each refusal costs one.
pub(crate) struct Declarer<'a> {
    connection: &'a Connection,
    tolerated: &'a ToleratedQueues,
    /// The name of the virtual host.
    pub(crate) vhost: &'a str,
    pub(crate) server: Option<&'a BrokerServer>,
    pub(crate) channel: Channel,
}

impl<'a> Declarer<'a> {
    /// On one of the session's connections.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(crate) async fn new(session: &'a Session, connection: &'a Connection) -> Result<Self, lapin::Error> {
        let channel = connection.create_channel().await?;
        let (tolerated, vhost, server) = (&*session.tolerated, session.vhost.as_str(), session.server());
        Ok(Self { connection, tolerated, vhost, server, channel })
    }

    /// Takes another channel after a refusal.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(crate) async fn renew(&mut self) -> Result<(), lapin::Error> {
        let refused = std::mem::replace(&mut self.channel, self.connection.create_channel().await?);
        release(refused).await;
        Ok(())
    }

    /// Closes the channel.
    pub(crate) async fn close(self) {
        close(self.channel).await;
    }

    /// Declares a queue. A queue that exists with other arguments is used as it is, if the wanted arguments tolerate each
    /// difference. The differences are logged once.
    ///
    /// # Errors
    /// The refusal, after which the channel is closed; or the loss of the connection.
    pub(crate) async fn queue(&mut self, queue: &QueueName, wanted: &WantedArguments) -> Result<(), lapin::Error> {
        if self.tolerated.contains(queue, &wanted.arguments) {
            // The queue is only looked for. If it was deleted meanwhile, it is made anew with the wanted arguments.
            match self.exists(queue).await {
                Err(error) if is_refusal(&error) => {
                    self.tolerated.remove(queue);
                    self.renew().await?;
                }
                known => return known,
            }
        }
        let (mut arguments, mut differences) = (wanted.arguments.clone(), Vec::<Difference>::new());
        while let Err(error) = self.declare(queue, &arguments).await {
            let read = refusal_text(&error).and_then(|text| Difference::read(text, &arguments));
            let Some(difference) = read.filter(|found| wanted.tolerates(found)) else {
                return Err(error);
            };
            self.renew().await?;
            if differences.iter().any(|known| known.argument == difference.argument) {
                if difference.existing != ExistingValue::Unknown {
                    return Err(error);
                }
                // The broker's text ends before the value, so the queue cannot be declared with it. The broker compares the
                // properties whose difference would lose messages first.
                self.exists(queue).await?;
                break;
            }
            difference.apply(&mut arguments);
            differences.push(difference);
        }
        if !differences.is_empty() {
            self.tolerated.add(queue, wanted, &differences, self.vhost);
        }
        Ok(())
    }

    /// Checks that a queue exists, without declaring it.
    ///
    /// # Errors
    /// As [`Declarer::queue`]: a refusal when there is none.
    pub(crate) async fn exists(&self, queue: &QueueName) -> Result<(), lapin::Error> {
        let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(short_string(queue.as_str()), options, FieldTable::default()).await.map(drop)
    }

    async fn declare(&self, queue: &QueueName, arguments: &Arguments) -> Result<(), lapin::Error> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(short_string(queue.as_str()), options, to_table(arguments)).await.map(drop)
    }
}

/// The type of an exchange in lapin's words.
pub(crate) fn to_wire_kind(kind: ExchangeKind) -> lapin::ExchangeKind {
    match kind {
        ExchangeKind::Topic => lapin::ExchangeKind::Topic,
        ExchangeKind::Direct => lapin::ExchangeKind::Direct,
        ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
        ExchangeKind::Headers => lapin::ExchangeKind::Headers,
    }
}

/// Arguments as a field table.
pub(crate) fn to_table(arguments: &Arguments) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, argument) in arguments {
        table.insert(short_string(key), to_field_value(argument));
    }
    table
}
