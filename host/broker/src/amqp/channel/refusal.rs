//! Errors by which a broker refuses a request, as opposed to errors of a lost connection.

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};

use crate::Error;
use crate::amqp::queue::{Arguments, Difference};
use trunkline_event::QueueName;

/// Whether the broker refused one request. The next request succeeds on a new channel.
pub(crate) fn is_refusal(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(_))
}

/// Whether the broker closed the channel of a request and left the connection open.
pub(crate) fn closes_only_its_channel(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    matches!(error.kind(), AMQPErrorKind::Soft(_))
}

/// Whether the broker closed a channel because an exchange or a queue does not exist (404).
pub(crate) fn says_missing(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
}

/// The broker's own text, for example `ACCESS_REFUSED - write access to ... refused for user 'x'`; none when the error is
/// not a refusal.
pub(crate) fn refusal_text(error: &lapin::Error) -> Option<&str> {
    if let ErrorKind::ProtocolError(refusal) = error.kind() { Some(refusal.get_message().as_str()) } else { None }
}

/// The text of a refusal, followed by the instruction for the operator.
pub(crate) fn with_remedy(error: &lapin::Error) -> String {
    remedy(error).map_or_else(|| error.to_string(), |remedy| format!("{error}; {remedy}"))
}

/// The instruction for the operator of a refused queue, exchange or binding.
fn remedy(error: &lapin::Error) -> Option<&'static str> {
    let ErrorKind::ProtocolError(refusal) = error.kind() else { return None };
    let text = refusal.get_message().as_str();
    let difference = Difference::read(text, &Arguments::new()).filter(|_| text.contains(" for queue '"));
    if let Some(remedy) = difference.and_then(|difference| difference.remedy()) {
        return Some(remedy);
    }
    match refusal.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) if text.contains(" for exchange '") => Some(
            "write the `type` and the `alternate` of the existing exchange into routes.toml, and `owned = false` if another program declares the exchange",
        ),
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => {
            Some("write the settings of the existing queue into routes.toml, or delete the empty queue")
        }
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
            Some("grant the permission to the user of the broker URL with `rabbitmqctl set_permissions`")
        }
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Some(
            "create the missing queue or exchange; the daemon declares a queue or an exchange only without `owned = false` and with `topology = \"declare\"` in [broker]",
        ),
        AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED) => {
            Some("close the connection of the other program that uses the queue exclusively, or name another queue")
        }
        AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(_) => None,
    }
}

/// The error of a request that concerns a queue.
pub(crate) fn queue_error(queue: &QueueName, error: &lapin::Error) -> Error {
    if is_refusal(error) {
        return Error::Queue { queue: queue.clone(), reason: with_remedy(error) };
    }
    Error::Lost(error.to_string())
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    #[test]
    fn refusals_have_the_words_of_the_broker_and_an_instruction() {
        let queue = QueueName::new("result").expect("a name");
        for (soft, words, instruction) in [
            (AMQPSoftError::PRECONDITIONFAILED, "PRECONDITION_FAILED - inequivalent arg", "into routes.toml"),
            (
                AMQPSoftError::PRECONDITIONFAILED,
                "PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'e' in vhost '/': received 'true'",
                "`owned = false` if another program declares the exchange",
            ),
            (AMQPSoftError::ACCESSREFUSED, "ACCESS_REFUSED - access to queue", "set_permissions"),
            (AMQPSoftError::NOTFOUND, "NOT_FOUND - no exchange", "without `owned = false`"),
            (AMQPSoftError::RESOURCELOCKED, "RESOURCE_LOCKED - cannot obtain exclusive access", "exclusively"),
        ] {
            let kind = ErrorKind::ProtocolError(AMQPError::new(AMQPErrorKind::Soft(soft), words.into()));
            let text = queue_error(&queue, &kind.into()).to_string();
            assert!(text.starts_with("queue result: ") && text.contains(words) && text.contains(instruction), "{text}");
        }
    }

    /// A queue whose use would lose messages.
    #[test]
    fn a_refused_queue_is_described() {
        for (difference, described, instruction) in [
            (
                "'auto_delete' for queue 'q' in vhost '/': received 'false' but current is 'true'",
                "is auto-delete",
                "without auto-delete",
            ),
            (
                "'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'",
                "when the broker restarts",
                "a durable queue",
            ),
            (
                "'x-single-active-consumer' for queue 'q' in vhost '/': received none but current is the value 'true' of type 'bool'",
                "single active consumer",
                "x-single-active-consumer = true",
            ),
            (
                "'x-single-active-consumer' for queue 'q' in vhost '/': received the value 'true' of type 'bool' but current is none",
                "order-by",
                "remove `order-by`",
            ),
            (
                "'x-overflow' for queue 'q' in vhost '/': received the value 'reject-publish' of type 'longstr' but current is none",
                "drops messages",
                "remove `overflow",
            ),
            (
                "'x-expires' for queue 'q' in vhost '/': received none but current is the value '9' of type 'long'",
                "expires",
                "x-expires = MILLISECONDS",
            ),
        ] {
            let words = format!("PRECONDITION_FAILED - inequivalent arg {difference}");
            let soft = AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED);
            let kind = ErrorKind::ProtocolError(AMQPError::new(soft, words.into()));
            let text = with_remedy(&kind.into());
            assert!(text.contains(described) && text.contains(instruction), "{text}");
        }
    }
}
