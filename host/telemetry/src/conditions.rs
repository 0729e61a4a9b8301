//! What is wrong now, as an operator sees it: in `/health`, and as `trunkline_condition{condition, subject}`.
//!
//! One registry a process, as there is one recorder of metrics: whoever sees a condition raises it, whoever sees it gone
//! clears it, and nobody has to be handed anything. A condition names a kind and a subject from routes.toml or from a
//! closed set, never content of messages.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::gauge;

/// A kind of condition: a closed set, since each is a label of a metric and a row of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// The broker is away, or refuses the login.
    BrokerAway,
    /// More than three sessions with the broker ended within a minute.
    SessionFlapping,
    /// A channel to the broker cannot be opened.
    ChannelUnavailable,
    /// A route does not consume its queue.
    RouteDown,
    /// A route holds an event that the broker does not take.
    RouteStuck,
    /// The task of a route ended without being asked to.
    RouteEnded,
    /// The broker refused messages for good; each is a dead letter.
    PermanentRefusals,
    /// Delayed messages are due and cannot be passed on.
    DelayRelayJammed,
    /// The store of the embedded broker failed and is being opened again.
    StoreFailed,
    /// The disk of the embedded broker's store has no room: publishes are refused.
    StoreFull,
    /// A queue of the embedded broker gives up messages that have no dead-letter queue to go to.
    DeadLetterMissing,
    /// The store of the plugins' state failed and is being opened again.
    StateFailed,
    /// Repeats are not recognised: the dedupe records cannot be read or written.
    DedupeOff,
    /// An archive cannot be written.
    ArchiveFailed,
    /// Verdicts on canaries cannot be written.
    RolloutsNotKept,
    /// The HTTP listener cannot accept connections.
    ListenerFailed,
    /// A reload waits for a broker or a store that does not answer.
    ReloadSlow,
    /// Log lines are dropped: nobody reads what the daemon writes.
    LogBlocked,
}

impl Condition {
    /// Every condition, in the order of the documentation.
    pub const ALL: [Self; 18] = [
        Self::BrokerAway,
        Self::SessionFlapping,
        Self::ChannelUnavailable,
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

    /// The word in `/health`, the label of the metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BrokerAway => "broker-away",
            Self::SessionFlapping => "session-flapping",
            Self::ChannelUnavailable => "channel-unavailable",
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

    /// Something is wrong with the subject: a route, a store, or empty where there is only one. The detail is a sentence.
    pub fn raise(self, subject: &str, detail: impl Into<String>) {
        self.set(subject, detail.into(), None);
    }

    /// As [`Condition::raise`]; it clears itself when it is not raised again for so long.
    pub fn raise_for(self, subject: &str, detail: impl Into<String>, lasts: Duration) {
        self.set(subject, detail.into(), Some(Instant::now() + lasts));
    }

    /// As [`Condition::raise`], by one of several who see it: it lasts until each of them has called [`Condition::release`].
    pub fn hold(self, subject: &str, detail: impl Into<String>) {
        self.set(subject, detail.into(), None);
        if let Some(raised) = registry().get_mut(&(self, subject.to_owned())) {
            raised.holders += 1;
        }
    }

    /// One of those who held it sees it no more.
    pub fn release(self, subject: &str) {
        let is_held = registry().get_mut(&(self, subject.to_owned())).is_some_and(|raised| {
            raised.holders = raised.holders.saturating_sub(1);
            raised.holders > 0
        });
        if !is_held {
            self.clear(subject);
        }
    }

    /// It is over. Without effect when it was not raised.
    pub fn clear(self, subject: &str) {
        let removed = registry().remove(&(self, subject.to_owned()));
        if removed.is_some() {
            show(self, subject, false);
        }
    }

    /// Whether it is raised.
    #[must_use]
    pub fn is_raised(self, subject: &str) -> bool {
        registry().get(&(self, subject.to_owned())).is_some_and(|raised| !raised.is_over(Instant::now()))
    }

    fn set(self, subject: &str, detail: String, until: Option<Instant>) {
        let mut raised = registry();
        match raised.get_mut(&(self, subject.to_owned())) {
            Some(known) => (known.detail, known.until) = (detail, until),
            None => {
                let since = jiff::Timestamp::now().to_string();
                raised.insert((self, subject.to_owned()), Raised { detail, since, until, holders: 0 });
                show(self, subject, true);
            }
        }
    }
}

/// A condition that is raised now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaisedCondition {
    /// Which.
    pub condition: Condition,
    /// A route, a store, or empty where there is only one.
    pub subject: String,
    /// What happened, as a sentence.
    pub detail: String,
    /// When it was raised, RFC 3339.
    pub since: String,
}

struct Raised {
    detail: String,
    since: String,
    until: Option<Instant>,
    /// Those who must see it gone before it is.
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
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn show(condition: Condition, subject: &str, raised: bool) {
    let labels = [("condition", condition.as_str().to_owned()), ("subject", subject.to_owned())];
    gauge!("trunkline_condition", &labels).set(if raised { 1.0 } else { 0.0 });
}

/// Everything that is raised now, in the order of kinds and subjects.
#[must_use]
pub fn raised_conditions() -> Vec<RaisedCondition> {
    let mut registry = registry();
    let now = Instant::now();
    registry.retain(|(condition, subject), raised| {
        let stays = !raised.is_over(now);
        if !stays {
            show(*condition, subject, false);
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
    fn conditions_are_raised_once_and_go_by_order_or_by_time() {
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
    fn a_condition_that_several_see_lasts_until_the_last_sees_it_gone() {
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
    fn words_are_apart() {
        let words = Condition::ALL.map(Condition::as_str);
        for (place, word) in words.iter().enumerate() {
            assert!(!words[place + 1..].contains(word), "{word} twice");
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{word}");
        }
    }
}
