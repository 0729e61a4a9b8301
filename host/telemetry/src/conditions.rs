//! Conditions: problems that last, in `/health` and as `trunkline_condition{condition, subject}`.
//!
//! The process has one registry. The code that detects the beginning of a condition raises the condition. The code that
//! detects the end of a condition clears the condition. A condition has a kind and a subject. The subject comes from
//! routes.toml or from a closed set, never from content of messages.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use metrics::gauge;
use parking_lot::{Mutex, MutexGuard};

/// A kind of condition. The set is closed, because each kind is the value of a metric's label and has a line in the
/// documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// The daemon has no session with the broker, or the broker refuses the login.
    BrokerAway,
    /// More than three sessions with the broker ended within a minute.
    SessionFlapping,
    /// The daemon cannot open a channel to the broker.
    ChannelUnavailable,
    /// The broker refuses a part of the topology, or a part of the topology is missing.
    TopologyRefused,
    /// A route does not consume its queue.
    RouteDown,
    /// A route keeps an event, because the broker does not accept an emission or a copy of the event.
    RouteStuck,
    /// The task of a route ended unexpectedly.
    RouteEnded,
    /// The broker refused messages permanently.
    PermanentRefusals,
    /// The daemon cannot publish delayed messages that are due.
    DelayRelayJammed,
    /// The store of the embedded broker failed. The daemon opens the store again.
    StoreFailed,
    /// The disk of the embedded broker's store is full. The embedded broker refuses publishes.
    StoreFull,
    /// A queue of the embedded broker must dead-letter a message, but the dead-letter queue is missing.
    DeadLetterMissing,
    /// The store of the plugins' state failed. The daemon opens the store again.
    StateFailed,
    /// The daemon does not recognise repeats, because the daemon cannot read or write the dedupe records.
    DedupeOff,
    /// The daemon cannot write an archive.
    ArchiveFailed,
    /// The daemon cannot write verdicts on canaries.
    RolloutsNotKept,
    /// The HTTP listener cannot accept connections.
    ListenerFailed,
    /// A reload waits for the broker.
    ReloadSlow,
    /// The daemon drops log lines, because no program reads the lines or the daemon cannot write the lines.
    LogBlocked,
}

impl Condition {
    /// Every condition, in the order of the documentation.
    pub const ALL: [Self; 19] = [
        Self::BrokerAway,
        Self::SessionFlapping,
        Self::ChannelUnavailable,
        Self::TopologyRefused,
        Self::RouteDown,
        Self::RouteStuck,
        Self::RouteEnded,
        Self::PermanentRefusals,
        Self::DelayRelayJammed,
        Self::StoreFailed,
        Self::StoreFull,
        Self::DeadLetterMissing,
        Self::StateFailed,
        Self::DedupeOff,
        Self::ArchiveFailed,
        Self::RolloutsNotKept,
        Self::ListenerFailed,
        Self::ReloadSlow,
        Self::LogBlocked,
    ];

    /// The word in `/health` and in the label of the metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BrokerAway => "broker-away",
            Self::SessionFlapping => "session-flapping",
            Self::ChannelUnavailable => "channel-unavailable",
            Self::TopologyRefused => "topology-refused",
            Self::RouteDown => "route-down",
            Self::RouteStuck => "route-stuck",
            Self::RouteEnded => "route-ended",
            Self::PermanentRefusals => "permanent-refusals",
            Self::DelayRelayJammed => "delay-relay-jammed",
            Self::StoreFailed => "store-failed",
            Self::StoreFull => "store-full",
            Self::DeadLetterMissing => "dead-letter-missing",
            Self::StateFailed => "state-failed",
            Self::DedupeOff => "dedupe-off",
            Self::ArchiveFailed => "archive-failed",
            Self::RolloutsNotKept => "rollouts-not-kept",
            Self::ListenerFailed => "listener-failed",
            Self::ReloadSlow => "reload-slow",
            Self::LogBlocked => "log-blocked",
        }
    }

    /// The meaning of the condition, as a sentence.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::BrokerAway => "The daemon has no session with the broker, or the broker refuses the login.",
            Self::SessionFlapping => "More than three sessions with the broker ended within a minute.",
            Self::ChannelUnavailable => "The daemon cannot open a channel to the broker.",
            Self::TopologyRefused => "The broker refuses a part of the topology, or a part of the topology is missing.",
            Self::RouteDown => "A route does not consume its queue.",
            Self::RouteStuck => {
                "A route keeps an event, because the broker does not accept an emission or a copy of the event."
            }
            Self::RouteEnded => "The task of a route ended unexpectedly. The daemon restarts the route.",
            Self::PermanentRefusals => {
                "The broker refused messages permanently. The event of each refused message is dead-lettered."
            }
            Self::DelayRelayJammed => "The daemon cannot publish delayed messages that are due.",
            Self::StoreFailed => "The store of the embedded broker failed. The daemon opens the store again.",
            Self::StoreFull => {
                "The disk of the embedded broker's store is full. The embedded broker refuses publishes."
            }
            Self::DeadLetterMissing => {
                "A queue of the embedded broker must dead-letter a message, but the dead-letter queue is missing."
            }
            Self::StateFailed => "The store of the plugins' state failed. The daemon opens the store again.",
            Self::DedupeOff => {
                "The daemon does not recognise repeats, because the daemon cannot read or write the dedupe records."
            }
            Self::ArchiveFailed => "The daemon cannot write an archive. The route of the archive waits.",
            Self::RolloutsNotKept => "The daemon cannot write verdicts on canaries to the state directory.",
            Self::ListenerFailed => "The HTTP listener cannot accept connections.",
            Self::ReloadSlow => "A reload waits for the broker.",
            Self::LogBlocked => {
                "The daemon drops log lines, because no program reads the lines or the daemon cannot write the lines."
            }
        }
    }

    /// Raises the condition. The subject is a route, a queue or a store, or empty if the condition has only one subject. The
    /// detail is a sentence.
    pub fn raise(self, subject: &str, detail: impl Into<String>) {
        self.set(subject, detail.into(), None, 0);
    }

    /// Raises the condition. The condition ends after `lasts` unless the condition is raised again within `lasts`.
    pub fn raise_for(self, subject: &str, detail: impl Into<String>, lasts: Duration) {
        self.set(subject, detail.into(), Some(Instant::now() + lasts), 0);
    }

    /// Raises the condition for one of several holders. The condition lasts until each holder has called
    /// [`Condition::release`].
    pub fn hold(self, subject: &str, detail: impl Into<String>) {
        self.set(subject, detail.into(), None, 1);
    }

    /// Ends the condition for one holder.
    pub fn release(self, subject: &str) {
        let is_held = registry().get_mut(&(self, subject.to_owned())).is_some_and(|raised| {
            raised.holders = raised.holders.saturating_sub(1);
            raised.holders > 0
        });
        if !is_held {
            self.clear(subject);
        }
    }

    /// Ends the condition. The call has no effect if the condition is not raised.
    pub fn clear(self, subject: &str) {
        let removed = registry().remove(&(self, subject.to_owned()));
        if removed.is_some() {
            show(self, subject, 0.0);
        }
    }

    /// Whether the condition is raised.
    #[must_use]
    pub fn is_raised(self, subject: &str) -> bool {
        registry().get(&(self, subject.to_owned())).is_some_and(|raised| !raised.is_over(Instant::now()))
    }

    fn set(self, subject: &str, detail: String, until: Option<Instant>, more_holders: usize) {
        let mut raised = registry();
        match raised.get_mut(&(self, subject.to_owned())) {
            Some(known) => {
                (known.detail, known.until) = (detail, until);
                known.holders += more_holders;
            }
            None => {
                let since = jiff::Timestamp::now().to_string();
                raised.insert((self, subject.to_owned()), Raised { detail, since, until, holders: more_holders });
                show(self, subject, 1.0);
            }
        }
    }
}

/// A raised condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaisedCondition {
    /// The kind.
    pub condition: Condition,
    /// A route, a queue or a store, or empty if the condition has only one subject.
    pub subject: String,
    /// Description of the problem, as a sentence.
    pub detail: String,
    /// The time when the condition was raised, in RFC 3339.
    pub since: String,
}

struct Raised {
    detail: String,
    since: String,
    until: Option<Instant>,
    /// Holders that have not released the condition.
    holders: usize,
}

impl Raised {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

type Registry = BTreeMap<(Condition, String), Raised>;

static REGISTRY: Mutex<Registry> = Mutex::new(BTreeMap::new());

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock()
}

fn show(condition: Condition, subject: &str, value: f64) {
    let labels = [("condition", condition.as_str().to_owned()), ("subject", subject.to_owned())];
    gauge!("trunkline_condition", &labels).set(value);
}

/// Every raised condition, in the order of kinds and subjects.
#[must_use]
pub fn raised_conditions() -> Vec<RaisedCondition> {
    let mut registry = registry();
    let now = Instant::now();
    registry.retain(|(condition, subject), raised| {
        let stays = !raised.is_over(now);
        if !stays {
            show(*condition, subject, 0.0);
        }
        stays
    });
    let view = |((condition, subject), raised): (&(Condition, String), &Raised)| RaisedCondition {
        condition: *condition,
        subject: subject.clone(),
        detail: raised.detail.clone(),
        since: raised.since.clone(),
    };
    registry.iter().map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_ends_when_it_is_cleared_or_its_time_is_over() {
        let subject = "conditions-test";
        let raised = || raised_conditions().into_iter().filter(|raised| raised.subject == subject).collect::<Vec<_>>();
        Condition::RouteStuck.raise(subject, "first");
        let since = raised()[0].since.clone();
        Condition::RouteStuck.raise(subject, "second");
        let found = raised();
        assert_eq!((found.len(), found[0].detail.as_str()), (1, "second"));
        assert_eq!(found[0].since, since, "it lasts since it was raised first");
        Condition::RouteStuck.clear(subject);
        Condition::PermanentRefusals.raise_for(subject, "one", Duration::ZERO);
        assert!(!Condition::PermanentRefusals.is_raised(subject));
        assert_eq!(raised(), []);
    }

    #[test]
    fn a_held_condition_lasts_until_the_last_release() {
        let (condition, subject) = (Condition::ChannelUnavailable, "conditions-held");
        condition.hold(subject, "first");
        condition.hold(subject, "second");
        condition.raise(subject, "second again");
        condition.release(subject);
        assert!(condition.is_raised(subject), "the other one still sees it");
        condition.release(subject);
        assert!(!condition.is_raised(subject));
        condition.release(subject);
        condition.hold(subject, "anew");
        condition.release(subject);
        assert!(!condition.is_raised(subject), "what was released once too often does not count");
    }

    #[test]
    fn words_are_unique() {
        let words = Condition::ALL.map(Condition::as_str);
        for (place, word) in words.iter().enumerate() {
            assert!(!words[place + 1..].contains(word), "{word} twice");
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{word}");
        }
    }
}
