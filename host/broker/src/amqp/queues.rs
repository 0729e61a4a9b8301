//! Queues on the broker: declared as we would have them, or used as they are.
//!
//! What the broker refuses closes the channel, so each refusal costs one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ErrorKind};

use super::arguments::{Arguments, Difference, Wanted};
use super::convert::{name, value};
use super::session::{Session, let_go};
use crate::Server;
use trunkline_event::QueueName;

/// Queues that are there with other arguments than ours, and what ours are. It outlives sessions, so that each is told once.
#[derive(Debug, Default)]
pub(super) struct Adopted(Mutex<HashMap<QueueName, Arguments>>);

impl Adopted {
    fn has(&self, queue: &QueueName, ours: &Arguments) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(queue) == Some(ours)
    }

    fn note(&self, queue: &QueueName, ours: &Arguments, differences: &[Difference]) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(queue.clone(), ours.clone());
        if known.as_ref() == Some(ours) {
            return;
        }
        let differences = differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        tracing::warn!(%queue, differences, "a queue is there with other arguments than ours and is used as it is; to \
            have ours, let it run empty and delete it: it is made anew");
    }

    fn forget(&self, queue: &QueueName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(queue);
    }
}

/// Whether an error is the broker's refusal of one thing, after which a new channel goes on.
pub(super) fn is_refusal(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(_))
}

/// A channel for declarations.
pub(super) struct Declarer<'a> {
    connection: &'a Connection,
    adopted: &'a Adopted,
    pub(super) server: Option<&'a Server>,
    pub(super) channel: Channel,
}

impl<'a> Declarer<'a> {
    /// On one of the session's connections.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) async fn new(session: &'a Session, connection: &'a Connection) -> Result<Self, lapin::Error> {
        let channel = connection.create_channel().await?;
        Ok(Self { connection, adopted: &session.adopted, server: session.server(), channel })
    }

    /// Takes another channel after a refusal.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) async fn renew(&mut self) -> Result<(), lapin::Error> {
        let refused = std::mem::replace(&mut self.channel, self.connection.create_channel().await?);
        let_go(refused).await;
        Ok(())
    }

    pub(super) async fn close(self) {
        let _closed = self.channel.close(200, ShortString::default()).await;
        let_go(self.channel).await;
    }

    /// Declares a queue. One that is there with other arguments is used as it is where that loses nothing that the file asks
    /// for, and that is told once.
    ///
    /// # Errors
    /// The refusal, after which the channel is closed; or the loss of the connection.
    pub(super) async fn queue(&mut self, queue: &QueueName, wanted: &Wanted) -> Result<(), lapin::Error> {
        if self.adopted.has(queue, &wanted.arguments) {
            // Not with its own arguments: when it is gone, it is to be made anew with ours.
            match self.exists(queue).await {
                Err(error) if is_refusal(&error) => {
                    self.adopted.forget(queue);
                    self.renew().await?;
                }
                known => return known,
            }
        }
        let (mut arguments, mut differences) = (wanted.arguments.clone(), Vec::<Difference>::new());
        while let Err(error) = self.declare(queue, &arguments).await {
            let read = refusal_text(&error).and_then(|text| Difference::read(text, &arguments));
            let is_new = |found: &Difference| differences.iter().all(|known| known.argument != found.argument);
            let Some(difference) = read.filter(|found| wanted.tolerates(found) && is_new(found)) else {
                return Err(error);
            };
            difference.apply(&mut arguments);
            differences.push(difference);
            self.renew().await?;
        }
        if !differences.is_empty() {
            self.adopted.note(queue, &wanted.arguments, &differences);
        }
        Ok(())
    }

    /// Asks for a queue without declaring it.
    ///
    /// # Errors
    /// As [`Declarer::queue`]: a refusal when there is none.
    pub(super) async fn exists(&self, queue: &QueueName) -> Result<(), lapin::Error> {
        let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(name(queue.as_str()), options, FieldTable::default()).await.map(drop)
    }

    async fn declare(&self, queue: &QueueName, arguments: &Arguments) -> Result<(), lapin::Error> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(name(queue.as_str()), options, to_table(arguments)).await.map(drop)
    }
}

pub(super) fn to_table(arguments: &Arguments) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, argument) in arguments {
        table.insert(name(key), value(argument));
    }
    table
}

fn refusal_text(error: &lapin::Error) -> Option<&str> {
    if let ErrorKind::ProtocolError(refusal) = error.kind() { Some(refusal.get_message().as_str()) } else { None }
}
