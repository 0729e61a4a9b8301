//! The table of everything that is tried again.

use std::time::Duration;

use crate::conditions::Condition;

/// A kind of work that is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loop {
    /// Connecting to RabbitMQ.
    BrokerSession,
    /// Connecting to RabbitMQ after it refused the login or the virtual host.
    BrokerLogin,
    /// Publishing a message on a channel that turns out to be closed.
    ChannelOpen,
    /// Consuming the queue of a route.
    RouteSubscribe,
    /// Publishing the emissions or the copy of an event of a route.
    RoutePublish,
    /// Consuming the queue of delayed messages that are due.
    DelayRelay,
    /// Passing on one delayed message that is due.
    DelayedMessage,
    /// Passing on one due message for a queue of RabbitMQ, such as a retry. A full queue soon has room again, and a route with
    /// `order-by` waits for the message.
    DueForQueue,
    /// Opening the embedded broker's store after a failure.
    StoreOpen,
    /// Checking whether the disk of the embedded broker's store has room again.
    StoreRoom,
    /// Moving messages that a queue of the embedded broker gives up to its dead-letter queue.
    GiveUp,
    /// Opening the plugins' state after a failure.
    StateOpen,
    /// Opening the dedupe records after a failure.
    DedupeOpen,
    /// Writing a batch of an archive.
    ArchiveWrite,
    /// Writing the verdicts on canaries.
    RolloutWrite,
    /// Accepting HTTP connections.
    Accept,
    /// Restarting a route whose task ended badly.
    RouteRestart,
    /// Reading the queue of a stream's client.
    StreamSubscribe,
    /// Sending events to a daemon in `trunkline replay`, counted since the last accepted event.
    Replay,
}

/// The end of a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryBound {
    /// The loop ends after this number of failed tries.
    Tries(u32),
    /// The loop ends with success or with its owner. An operator sees its condition meanwhile.
    UntilItWorks,
}

/// The rules of a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryRules {
    /// The first pause. Each further pause is twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// The end of the loop.
    pub bound: RetryBound,
    /// The condition that is raised from the first failure to the first success.
    pub condition: Condition,
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

impl Loop {
    /// Every loop.
    pub const ALL: [Self; 19] = [
        Self::BrokerSession,
        Self::BrokerLogin,
        Self::ChannelOpen,
        Self::RouteSubscribe,
        Self::RoutePublish,
        Self::DelayRelay,
        Self::DelayedMessage,
        Self::DueForQueue,
        Self::StoreOpen,
        Self::StoreRoom,
        Self::GiveUp,
        Self::StateOpen,
        Self::DedupeOpen,
        Self::ArchiveWrite,
        Self::RolloutWrite,
        Self::Accept,
        Self::RouteRestart,
        Self::StreamSubscribe,
        Self::Replay,
    ];

    /// The rules of this loop.
    #[must_use]
    pub const fn rules(self) -> RetryRules {
        use RetryBound::{Tries, UntilItWorks};
        let (first, longest, bound, condition) = match self {
            Self::BrokerSession => (ms(200), s(1), UntilItWorks, Condition::BrokerAway),
            // A broker may lock an account after several failed logins.
            Self::BrokerLogin => (s(10), s(60), UntilItWorks, Condition::BrokerAway),
            Self::ChannelOpen => (ms(20), ms(20), Tries(5), Condition::ChannelUnavailable),
            Self::RouteSubscribe => (ms(200), s(5), UntilItWorks, Condition::RouteDown),
            Self::RoutePublish => (ms(100), s(120), UntilItWorks, Condition::RouteStuck),
            Self::DelayRelay => (ms(200), s(5), UntilItWorks, Condition::DelayRelayJammed),
            Self::DelayedMessage => (s(60), s(3600), Tries(10), Condition::DelayRelayJammed),
            // About four hours, as for the other delayed messages.
            Self::DueForQueue => (s(60), s(300), Tries(50), Condition::DelayRelayJammed),
            Self::StoreOpen => (ms(200), s(5), UntilItWorks, Condition::StoreFailed),
            Self::StoreRoom => (ms(200), s(5), UntilItWorks, Condition::StoreFull),
            Self::GiveUp => (s(5), s(60), UntilItWorks, Condition::DeadLetterMissing),
            Self::StateOpen => (ms(200), s(5), UntilItWorks, Condition::StateFailed),
            Self::DedupeOpen => (ms(200), s(5), UntilItWorks, Condition::DedupeOff),
            Self::ArchiveWrite => (ms(200), s(5), UntilItWorks, Condition::ArchiveFailed),
            // The period of the daemon's upkeep.
            Self::RolloutWrite => (s(5), s(5), UntilItWorks, Condition::RolloutsNotKept),
            Self::Accept => (ms(100), s(1), UntilItWorks, Condition::ListenerFailed),
            Self::RouteRestart => (s(1), s(60), UntilItWorks, Condition::RouteEnded),
            Self::StreamSubscribe => (ms(200), s(1), UntilItWorks, Condition::ChannelUnavailable),
            Self::Replay => (ms(250), s(30), Tries(20), Condition::BrokerAway),
        };
        RetryRules { first, longest, bound, condition }
    }

    /// The pause after `tries` failed tries, without jitter. `None` when the loop ends there.
    #[must_use]
    pub fn pause(self, tries: u32) -> Option<Duration> {
        let rules = self.rules();
        match rules.bound {
            RetryBound::Tries(most) if tries >= most => None,
            RetryBound::Tries(_) | RetryBound::UntilItWorks => {
                let doubled =
                    rules.first.saturating_mul(1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX));
                Some(doubled.min(rules.longest))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<_> = (1..8).filter_map(|tries| Loop::RouteSubscribe.pause(tries)).collect();
        assert_eq!(pauses, [ms(200), ms(400), ms(800), ms(1600), ms(3200), s(5), s(5)]);
        assert_eq!(Loop::RoutePublish.pause(u32::MAX), Some(s(120)), "a long outage wraps nothing");
        assert!(Loop::BrokerLogin.pause(1) >= Some(s(10)), "a broker may lock the account");
    }
}
