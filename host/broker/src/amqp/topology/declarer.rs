//! A channel on which queues are declared, or checked and used as they are.

use std::sync::Arc;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ErrorKind};

use crate::BrokerServer;
use crate::amqp::channel::{close, is_refusal, refusal_text, release, short_string, to_field_value};
use crate::amqp::connection::{AmqpConnection, Session};
use crate::amqp::features::BrokerFeatures;
use crate::amqp::queue::{Arguments, Difference, ExistingValue, ToleratedQueues, WantedArguments};
use trunkline_config::ExchangeKind;
use trunkline_event::QueueName;

/// The name of a connection that only declares.
const CONNECTION: &str = "trunkline declare";
/// Most arguments of an existing stream that are read one after another.
const STREAM_ARGUMENTS_MAX: usize = 16;

/// A channel for declarations. A refusal closes the channel, so each refusal costs one.
pub(crate) struct Declarer<'a> {
    session: &'a Session,
    connection: DeclaringConnection<'a>,
    tolerated: &'a ToleratedQueues,
    /// The name of the virtual host.
    pub(crate) vhost: &'a str,
    pub(crate) server: Option<&'a BrokerServer>,
    pub(crate) channel: Channel,
}

/// The connection of a channel for declarations.
enum DeclaringConnection<'a> {
    /// A connection that is used for other purposes too.
    Shared(&'a Connection),
    /// A separate connection. When it ends, it is opened again, and the session goes on.
    Separate(Box<AmqpConnection>),
}

impl<'a> Declarer<'a> {
    /// On one of the session's connections.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(crate) async fn new(session: &'a Session, connection: &'a Connection) -> Result<Self, lapin::Error> {
        let channel = connection.create_channel().await?;
        Ok(Self::with(session, DeclaringConnection::Shared(connection), channel))
    }

    /// On a separate connection, for declarations after which the broker may end the connection.
    ///
    /// # Errors
    /// When no connection can be opened.
    pub(crate) async fn separate(session: &'a Session) -> Result<Self, lapin::Error> {
        let (connection, channel) = connect(session).await?;
        Ok(Self::with(session, DeclaringConnection::Separate(Box::new(connection)), channel))
    }

    /// On another channel of the same connection.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(crate) async fn beside(&self) -> Result<Declarer<'_>, lapin::Error> {
        let connection = match &self.connection {
            DeclaringConnection::Shared(connection) => connection,
            DeclaringConnection::Separate(connection) => &***connection,
        };
        Declarer::new(self.session, connection).await
    }

    fn with(session: &'a Session, connection: DeclaringConnection<'a>, channel: Channel) -> Self {
        let (tolerated, vhost, server) = (&*session.tolerated, session.vhost.as_str(), session.server());
        Self { session, connection, tolerated, vhost, server, channel }
    }

    /// The behaviour of the broker that differs by version.
    pub(crate) fn features(&self) -> BrokerFeatures {
        self.session.features()
    }

    /// Whether the end of the connection ends nothing else.
    pub(crate) const fn is_separate(&self) -> bool {
        matches!(self.connection, DeclaringConnection::Separate(_))
    }

    /// Takes another channel after a refusal, or another separate connection when the broker has ended it.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(crate) async fn renew(&mut self) -> Result<(), lapin::Error> {
        let channel = match &mut self.connection {
            DeclaringConnection::Shared(connection) => connection.create_channel().await?,
            DeclaringConnection::Separate(connection) => match connection.create_channel().await {
                Ok(channel) => channel,
                Err(_ended) => {
                    let (opened, channel) = connect(self.session).await?;
                    **connection = opened;
                    channel
                }
            },
        };
        release(std::mem::replace(&mut self.channel, channel)).await;
        Ok(())
    }

    /// Closes the channel, and the connection if it is a separate one.
    pub(crate) async fn close(self) {
        close(self.channel).await;
        if let DeclaringConnection::Separate(connection) = self.connection {
            connection.close().await;
        }
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

    /// Whether a queue that another program declared, and that a route consumes, is a stream. The daemon declares the queue
    /// without arguments, and the broker refuses the declaration with the type of the queue. Without the permission to configure
    /// the queue, the result is `false`.
    pub(crate) async fn is_stream(&mut self, queue: &QueueName) -> bool {
        let mut arguments = Arguments::new();
        for _argument in 0..STREAM_ARGUMENTS_MAX {
            let Err(error) = self.declare(queue, &arguments).await else { return false };
            let read = refusal_text(&error).and_then(|text| Difference::read(text, &arguments));
            // A stream is durable, and neither auto-delete nor exclusive.
            let is_argument = |found: &Difference| found.argument.starts_with("x-");
            let Some(difference) = read.filter(is_argument) else { return false };
            if difference.is_stream() || difference.existing == ExistingValue::Unknown {
                return difference.is_stream();
            }
            difference.apply(&mut arguments);
            if self.renew().await.is_err() {
                return false;
            }
        }
        false
    }

    async fn declare(&self, queue: &QueueName, arguments: &Arguments) -> Result<(), lapin::Error> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(short_string(queue.as_str()), options, to_table(arguments)).await.map(drop)
    }
}

async fn connect(session: &Session) -> Result<(AmqpConnection, Channel), lapin::Error> {
    let failed = |why: String| lapin::Error::from(ErrorKind::IOError(Arc::new(std::io::Error::other(why))));
    let connection = session.connect_apart(CONNECTION).await.map_err(failed)?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
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
