//! Questions about many queues on one channel. The questions do not wait for each other's answers.

use futures_util::future::join_all;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

use super::declarer::Declarer;
use crate::amqp::channel::{is_refusal, short_string};
use trunkline_event::QueueName;

/// Questions that are on the way at a time. `join_all` sends the questions in their order up to this number.
const QUESTIONS_MAX: usize = 30;

/// The answer about one queue, or the refusal, for example because the queue does not exist.
pub(crate) type QueueAnswer = Result<lapin::Queue, lapin::Error>;

/// Asks for the messages and consumers of queues. The answers have the order of the queues. Nothing is declared.
///
/// # Errors
/// When the connection is lost.
pub(crate) async fn look(declarer: &mut Declarer<'_>, queues: &[QueueName]) -> Result<Vec<QueueAnswer>, lapin::Error> {
    let mut known = Vec::with_capacity(queues.len());
    while known.len() < queues.len() {
        let left = &queues[known.len()..];
        let asked = left.iter().take(QUESTIONS_MAX).map(|queue| ask(declarer, queue));
        for answer in join_all(asked).await {
            match &answer {
                Ok(_) => known.push(answer),
                // A refusal closes the channel, so the later questions have no answer.
                Err(error) if is_refusal(error) => {
                    known.push(answer);
                    declarer.renew().await?;
                    break;
                }
                Err(_) => return answer.map(|_| known),
            }
        }
    }
    Ok(known)
}

async fn ask(declarer: &Declarer<'_>, queue: &QueueName) -> QueueAnswer {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    declarer.channel.queue_declare(short_string(queue.as_str()), options, FieldTable::default()).await
}
