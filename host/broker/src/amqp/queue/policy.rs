//! The policy that gives dead-lettering to a queue whose arguments the daemon does not choose.
//!
//! RabbitMQ takes dead-letter settings from the arguments of a queue and from a policy. A policy works for an existing queue,
//! and an operator can set it without a change of the program that declares the queue.

use serde_json::{Map, Value};

use super::arguments::{AT_LEAST_ONCE, DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY, REJECT};
use super::shell::shell_word;
use trunkline_config::{Queue, QueueKind};
use trunkline_event::{HeaderValue, QueueName};

/// The definition of a policy, as JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadLetterPolicy(String);

impl DeadLetterPolicy {
    /// The policy of a queue with a dead-letter target; none when the arguments of other programs contain a target already,
    /// because arguments have precedence over a policy. The settings of quorum queues are only for a queue of other programs whose
    /// type the file names: RabbitMQ does not apply a policy with such a setting to a classic queue.
    pub(crate) fn of(settings: &Queue) -> Option<Self> {
        let target = settings.dead_letter.as_ref()?;
        let argument = |name: &str| settings.arguments.get(name).and_then(HeaderValue::as_str);
        match (argument(DEAD_LETTER_EXCHANGE), argument(DEAD_LETTER_KEY)) {
            (Some(exchange), _) if exchange != target.exchange.as_str() => return None,
            (Some(_), Some(_)) => return None,
            (Some(_) | None, Some(_) | None) => {}
        }
        let mut definition = Map::new();
        let mut set = |name: &str, value: Value| drop(definition.insert(name.to_owned(), value));
        set("dead-letter-exchange", target.exchange.as_str().into());
        set("dead-letter-routing-key", target.key.as_str().into());
        if settings.ownership.is_of_other_programs() && settings.kind == Some(QueueKind::Quorum) {
            if let Some(limit) = settings.delivery_limit {
                set("delivery-limit", limit.into());
            }
            if settings.max_length.is_none() {
                set("dead-letter-strategy", AT_LEAST_ONCE.into());
                set("overflow", REJECT.into());
            }
        }
        Some(Self(Value::Object(definition).to_string()))
    }

    /// The command that sets the policy for exactly this queue.
    pub(crate) fn command(&self, queue: &QueueName, vhost: &str) -> String {
        let [vhost, name, pattern, definition] =
            [vhost, &format!("trunkline-{queue}"), &pattern(queue), &self.0].map(shell_word);
        format!("rabbitmqctl set_policy --vhost {vhost} --apply-to queues {name} {pattern} {definition}")
    }
}

/// A regular expression that matches one name.
fn pattern(queue: &QueueName) -> String {
    let mut pattern = "^".to_owned();
    for character in queue.as_str().chars() {
        if character.is_ascii_punctuation() && !['_', '-'].contains(&character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern + "$"
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_config::{DeadLetter, QueueOwnership, QueuePurpose};
    use trunkline_event::{ExchangeName, RoutingKey};

    fn shared(kind: Option<QueueKind>) -> Queue {
        let key = RoutingKey::new("ag_dead").expect("a key");
        let dead_letter = Some(DeadLetter { exchange: ExchangeName::new("dlx_agent").expect("a name"), key });
        let queue = Queue::unlimited(QueuePurpose::Consumed, QueueKind::Quorum);
        Queue { kind, dead_letter, delivery_limit: Some(20), ownership: QueueOwnership::Shared, ..queue }
    }

    #[test]
    fn the_command_can_be_pasted() {
        let policy = DeadLetterPolicy::of(&shared(None)).expect("a policy");
        let queue = QueueName::new("it's ag.queue").expect("a name");
        assert_eq!(
            policy.command(&queue, "/"),
            "rabbitmqctl set_policy --vhost / --apply-to queues 'trunkline-it'\\''s ag.queue' \
             '^it\\'\\''s ag\\.queue$' \
             '{\"dead-letter-exchange\":\"dlx_agent\",\"dead-letter-routing-key\":\"ag_dead\"}'"
        );
    }

    #[test]
    fn settings_of_quorum_queues_are_for_quorum_queues() {
        let definition = |queue: &Queue| -> Value {
            let policy = DeadLetterPolicy::of(queue).expect("a policy");
            serde_json::from_str(&policy.0).expect("JSON")
        };
        let quorum = definition(&shared(Some(QueueKind::Quorum)));
        assert_eq!((&quorum["delivery-limit"], &quorum["overflow"]), (&20.into(), &"reject-publish".into()));
        assert_eq!(quorum["dead-letter-strategy"], "at-least-once");
        let bounded = definition(&Queue { max_length: Some(3), ..shared(Some(QueueKind::Quorum)) });
        assert_eq!((&bounded["overflow"], &bounded["delivery-limit"]), (&Value::Null, &20.into()));
        // A queue of the daemon that exists already may be a classic queue.
        let own = Queue { ownership: QueueOwnership::Daemon, ..shared(Some(QueueKind::Quorum)) };
        for queue in [shared(None), shared(Some(QueueKind::Classic)), own] {
            let names = definition(&queue);
            assert_eq!(names.as_object().map(Map::len), Some(2), "{names}");
        }
    }

    #[test]
    fn arguments_have_precedence() {
        let with = |arguments: &[(&str, &str)]| {
            let arguments = arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
            DeadLetterPolicy::of(&Queue { arguments, ..shared(None) })
        };
        assert!(with(&[(DEAD_LETTER_EXCHANGE, "dlx_agent")]).is_some(), "the key is missing");
        assert_eq!(with(&[(DEAD_LETTER_EXCHANGE, "elsewhere")]), None);
        assert_eq!(with(&[(DEAD_LETTER_EXCHANGE, "dlx_agent"), (DEAD_LETTER_KEY, "ag_dead")]), None);
        assert_eq!(DeadLetterPolicy::of(&Queue { dead_letter: None, ..shared(None) }), None);
    }
}
