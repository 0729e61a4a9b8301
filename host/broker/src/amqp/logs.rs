//! What of the client's own log lines may be seen.

/// The AMQP client traces whole frames, and its login is one of them: not even `LOG_LEVEL=trace` shows a password. And
/// it warns of every returned message with its body; we count those and tell the type.
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
