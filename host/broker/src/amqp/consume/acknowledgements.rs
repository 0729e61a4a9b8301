//! Acknowledgements of one channel, sent in batches by one task.

use std::time::Duration;

use lapin::Channel;
use lapin::options::BasicAckOptions;
use tokio::sync::{mpsc, oneshot};

use super::ack_batch::{AckBatch, AckFrame};
use crate::Error;
use trunkline_telemetry::wait;

/// Acknowledgements that make a batch full.
const BATCH_MAX: usize = 64;
/// The longest time that an acknowledgement waits for others.
const BATCH_WITHIN: Duration = Duration::from_millis(2);
/// Commands that wait for the task: one for each delivery of two consumers, and one flush.
pub(crate) const ACK_COMMANDS_MAX: usize = 2 * (u16::MAX as usize) + 1;

/// The handle by which a delivery is acknowledged on its channel.
#[derive(Debug)]
pub struct AmqpAckHandle {
    pub(crate) tag: u64,
    pub(crate) commands: mpsc::Sender<AckCommand>,
}

/// A command to the task of a channel.
#[derive(Debug)]
pub(crate) enum AckCommand {
    /// Acknowledges a delivery with the next batch.
    Ack(u64),
    /// Sends the batch, and answers when the client has the frames.
    Flush(oneshot::Sender<()>),
}

impl AmqpAckHandle {
    /// Acknowledges with the next batch. After the end of the session nothing is sent, and the broker delivers the message
    /// again.
    pub fn ack(self) {
        // There are never more commands than deliveries, and the queue has room for all of them.
        let _session_over = self.commands.try_send(AckCommand::Ack(self.tag));
    }

    /// Acknowledges, and returns when the client has the frame. The broker gets this frame before every later one.
    ///
    /// # Errors
    /// [`Error::Lost`] when the session is over.
    pub async fn ack_now(self) -> Result<(), Error> {
        let over = || Error::Lost("the session is over".to_owned());
        let (reply, flushed) = oneshot::channel();
        self.commands.send(AckCommand::Ack(self.tag)).await.map_err(|_over| over())?;
        self.commands.send(AckCommand::Flush(reply)).await.map_err(|_over| over())?;
        flushed.await.map_err(|_over| over())
    }
}

/// Sends the acknowledgements of a channel until the subscription ends. Nothing else acknowledges on the channel.
pub(crate) async fn send_acknowledgements(channel: Channel, mut commands: mpsc::Receiver<AckCommand>) {
    let mut batch = AckBatch::default();
    while let Some(first) = commands.recv().await {
        let mut flush = take(&mut batch, first);
        let deadline = wait::after(BATCH_WITHIN);
        tokio::pin!(deadline);
        while flush.is_none() && batch.len() < BATCH_MAX {
            tokio::select! {
                biased;
                next = commands.recv() => match next {
                    Some(next) => flush = take(&mut batch, next),
                    None => break,
                },
                () = &mut deadline => break,
            }
        }
        for AckFrame { tag, multiple } in batch.frames() {
            if channel.basic_ack(tag, BasicAckOptions { multiple }).await.is_err() {
                return;
            }
        }
        if let Some(flush) = flush {
            let _caller_gone = flush.send(());
        }
    }
}

/// Takes a command in. Returns the reply of a flush.
fn take(batch: &mut AckBatch, command: AckCommand) -> Option<oneshot::Sender<()>> {
    match command {
        AckCommand::Ack(tag) => {
            batch.add(tag);
            None
        }
        AckCommand::Flush(reply) => Some(reply),
    }
}
