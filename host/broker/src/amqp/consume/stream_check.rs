//! Finds out whether a queue that the daemon does not declare is a stream.
//!
//! Consumers of a stream do not share its messages, and a new consumer gets only new messages. A route would therefore lose
//! messages without a notice. A passive declaration does not show the type of a queue.

use crate::Error;
use crate::amqp::connection::Session;
use crate::amqp::queue::IS_STREAM;
use crate::amqp::topology::Declarer;
use trunkline_event::QueueName;

/// Whether a message has the header that RabbitMQ adds to the messages of a stream. A message of another queue may have the header
/// too, if a program copied the message from a stream.
pub(super) fn has_stream_offset(delivery: &lapin::message::Delivery) -> bool {
    delivery.properties.headers().as_ref().is_some_and(|headers| headers.contains_key("x-stream-offset"))
}

/// Whether a queue is a stream. The result is `false` if the broker does not say so.
pub(super) async fn is_stream(session: &Session, queue: &QueueName) -> bool {
    let Ok(mut declarer) = Declarer::new(session, &session.consume).await else { return false };
    let is_stream = declarer.is_stream(queue).await;
    declarer.close().await;
    is_stream
}

/// Refuses a queue that was a stream before and still is a stream.
///
/// # Errors
/// [`Error::Queue`] if the queue is a stream.
pub(super) async fn refuse_known_stream(session: &Session, queue: &QueueName) -> Result<(), Error> {
    if !session.tolerated.was_stream(queue) {
        return Ok(());
    }
    let is_still = is_stream(session, queue).await;
    session.tolerated.note_stream(queue, is_still);
    if is_still { Err(Error::Queue { queue: queue.clone(), reason: IS_STREAM.to_owned() }) } else { Ok(()) }
}
