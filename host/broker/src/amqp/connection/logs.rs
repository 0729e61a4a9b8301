//! The log lines of the AMQP client that are kept out of the log.

/// The directives of `tracing` that keep the lines of the AMQP client out of the log. The client writes an error for every closed
/// channel, even if the daemon expects the refusal. The daemon reports each problem itself. A later directive for the same target
/// adds the lines to the log again.
pub const CLIENT_LOG_DIRECTIVES: &str = "lapin=off,amq_protocol=off,tcp_stream=off";

/// Whether a log line may be written.
///
/// The AMQP client traces whole frames, the login among them; they are left out, so that not even `LOG_LEVEL=trace` shows a
/// password. The client's warning about a returned message contains the body; it is left out, because the daemon counts
/// returned messages itself.
#[must_use]
pub fn is_fit_to_log(target: &str, level: tracing::Level) -> bool {
    let is_client = ["lapin", "amq_protocol"].iter().any(|client| target.starts_with(client));
    target != "lapin::returned_messages" && (!is_client || level < tracing::Level::TRACE)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn frames_are_not_logged() {
        for (target, level, fit) in [
            ("lapin::io_loop", Level::TRACE, false),
            ("amq_protocol_tcp", Level::TRACE, false),
            ("lapin::io_loop", Level::DEBUG, true),
            ("lapin", Level::ERROR, true),
            ("lapin::returned_messages", Level::WARN, false),
            ("trunkline::route", Level::TRACE, true),
        ] {
            assert_eq!(is_fit_to_log(target, level), fit, "{target} {level}");
        }
    }
}
