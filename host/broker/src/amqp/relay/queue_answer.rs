//! Waits for the answer of a queue on a separate connection.
//!
//! RabbitMQ 3.10 ends a connection 65 s after it began to consume a quorum queue without a majority of its nodes (541). A session
//! would end again and again, together with the consumers of all other queues. After a session that ended while a queue did not
//! answer, the next session therefore asks the queue first.

use std::time::Duration;

use lapin::Connection;
use lapin::options::BasicGetOptions;

use crate::Error;
use crate::amqp::channel::{closes_only_its_channel, short_string};
use crate::amqp::connection::Session;
use trunkline_event::QueueName;

/// The name of the separate connection.
const CONNECTION: &str = "trunkline ask";
/// The longest wait for the answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Asks a queue for a message. The answer of a quorum queue needs the majority of its nodes. A message in the answer goes back to
/// the queue.
///
/// # Errors
/// [`Error::Queue`] when the queue does not answer in time, or when the separate connection cannot be opened or is lost.
pub(super) async fn await_answer(session: &Session, queue: &QueueName) -> Result<(), Error> {
    let failed = |reason: String| Error::Queue { queue: queue.clone(), reason };
    let silent =
        |why: String| failed(format!("the queue does not answer: {why}; start most nodes of the RabbitMQ cluster"));
    let opened = session.connect_apart(CONNECTION).await;
    let connection =
        opened.map_err(|why| failed(format!("the connection for a question to the queue cannot be opened: {why}")))?;
    let asked = tokio::time::timeout(ANSWER_WITHIN, get(&connection, queue)).await;
    // The end of the connection gives the message back.
    connection.close().await;
    match asked {
        Ok(Ok(())) => Ok(()),
        // A refusal is an answer too. The consumer gets the same refusal.
        Ok(Err(error)) if closes_only_its_channel(&error) => Ok(()),
        Ok(Err(error)) => Err(silent(error.to_string())),
        Err(_elapsed) => Err(silent(format!("no answer within {} s", ANSWER_WITHIN.as_secs()))),
    }
}

async fn get(connection: &Connection, queue: &QueueName) -> Result<(), lapin::Error> {
    let channel = connection.create_channel().await?;
    channel.basic_get(short_string(queue.as_str()), BasicGetOptions::default()).await.map(drop)
}
