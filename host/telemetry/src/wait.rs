//! Waiting, in one place: the only module that may sleep.
//!
//! What is tried again is tried through a [`Retry`], whose [`Loop`] says how long the pauses are, where it ends, and which
//! condition an operator sees meanwhile. A loop that has neither an end nor a condition cannot be written: both are
//! columns of one table. Deadlines and periods, which try nothing again, are [`until`], [`after`] and [`every`].

use std::time::{Duration, Instant};

use crate::Condition;

/// Everything that is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loop {
    /// Connecting to RabbitMQ.
    BrokerSession,
    /// Connecting to RabbitMQ after it refused the login or the virtual host.
    BrokerLogin,
    /// Handing a message to a channel that turns out to be closed.
    ChannelOpen,
    /// Consuming the queue of a route.
    RouteSubscribe,
    /// Publishing what follows from an event of a route.
    RoutePublish,
    /// Consuming the queue of delayed messages that are due.
    DelayRelay,
    /// Passing on one delayed message that is due.
    DelayedMessage,
    /// Opening the embedded broker's store after a failure.
    StoreOpen,
    /// Looking whether the disk of the embedded broker's store has room again.
    StoreRoom,
    /// Moving what a queue of the embedded broker gives up to its dead-letter target.
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
    /// Starting a route again whose task ended badly.
    RouteRestart,
    /// Reading the queue of a stream's client.
    StreamSubscribe,
    /// Sending events to a daemon (`trunkline replay`), since it took the last of them.
    Replay,
}

/// Where a loop ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// After so many tries.
    Tries(u32),
    /// Never: it is tried until it works or its owner ends. Its condition is what an operator sees.
    UntilItWorks,
}

/// How a loop behaves. Every loop has all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The first pause; doubled with each try.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// Where it ends.
    pub bound: Bound,
    /// What an operator sees from the first failure to the first success.
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
    pub const ALL: [Self; 18] = [
        Self::BrokerSession,
        Self::BrokerLogin,
        Self::ChannelOpen,
        Self::RouteSubscribe,
        Self::RoutePublish,
        Self::DelayRelay,
        Self::DelayedMessage,
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

    /// The table.
    #[must_use]
    pub const fn rules(self) -> Rules {
        use Bound::{Tries, UntilItWorks};
        let (first, longest, bound, condition) = match self {
            Self::BrokerSession => (ms(200), s(1), UntilItWorks, Condition::BrokerAway),
            // A broker that locks accounts out counts logins.
            Self::BrokerLogin => (s(10), s(60), UntilItWorks, Condition::BrokerAway),
            Self::ChannelOpen => (ms(20), ms(20), Tries(5), Condition::ChannelUnavailable),
            Self::RouteSubscribe => (ms(200), s(5), UntilItWorks, Condition::RouteDown),
            Self::RoutePublish => (ms(100), s(120), UntilItWorks, Condition::RouteStuck),
            Self::DelayRelay => (ms(200), s(5), UntilItWorks, Condition::DelayRelayJammed),
            Self::DelayedMessage => (s(60), s(3600), Tries(10), Condition::DelayRelayJammed),
            Self::StoreOpen => (ms(200), s(5), UntilItWorks, Condition::StoreFailed),
            Self::StoreRoom => (ms(200), s(5), UntilItWorks, Condition::StoreFull),
            Self::GiveUp => (s(5), s(60), UntilItWorks, Condition::DeadLetterMissing),
            Self::StateOpen => (ms(200), s(5), UntilItWorks, Condition::StateFailed),
            Self::DedupeOpen => (ms(200), s(5), UntilItWorks, Condition::DedupeOff),
            Self::ArchiveWrite => (ms(200), s(5), UntilItWorks, Condition::ArchiveFailed),
            // As often as the daemon looks after itself.
            Self::RolloutWrite => (s(5), s(5), UntilItWorks, Condition::RolloutsNotKept),
            Self::Accept => (ms(100), s(1), UntilItWorks, Condition::ListenerFailed),
            Self::RouteRestart => (s(1), s(60), UntilItWorks, Condition::RouteEnded),
            Self::StreamSubscribe => (ms(200), s(1), UntilItWorks, Condition::ChannelUnavailable),
            Self::Replay => (ms(250), s(30), Tries(20), Condition::BrokerAway),
        };
        Rules { first, longest, bound, condition }
    }

    /// The pause after so many tries that failed, without jitter; none when the loop ends there.
    #[must_use]
    pub fn pause(self, tries: u32) -> Option<Duration> {
        let rules = self.rules();
        match rules.bound {
            Bound::Tries(most) if tries >= most => None,
            Bound::Tries(_) | Bound::UntilItWorks => {
                let doubled =
                    rules.first.saturating_mul(1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX));
                Some(doubled.min(rules.longest))
            }
        }
    }
}

/// A loop that is running: counts its tries, and shows its condition from the first failure on.
#[derive(Debug)]
pub struct Retry {
    of: Loop,
    subject: String,
    tries: u32,
}

/// The loop has come to its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("given up after {0} tries")]
pub struct Exhausted(pub u32);

impl Retry {
    /// A loop for a subject: a route, a store, or empty where there is only one.
    #[must_use]
    pub fn new(of: Loop, subject: impl Into<String>) -> Self {
        Self { of, subject: subject.into(), tries: 0 }
    }

    /// Another kind of failure: its pauses begin anew, unless it is the kind that was there before.
    pub fn turn_to(&mut self, of: Loop) {
        if of != self.of {
            self.succeeded();
            self.of = of;
        }
    }

    /// A try failed. Shows the condition with the reason, and gives the pause before the next try, with jitter, so that
    /// many daemons do not come at once.
    ///
    /// # Errors
    /// [`Exhausted`] at the loop's bound.
    pub fn failed(&mut self, why: &str) -> Result<Duration, Exhausted> {
        self.tries = self.tries.saturating_add(1);
        let condition = self.of.rules().condition;
        match self.tries {
            1 => condition.hold(&self.subject, why),
            _ => condition.raise(&self.subject, why),
        }
        let pause = self.of.pause(self.tries).ok_or(Exhausted(self.tries))?;
        // A login is promised to come no sooner.
        let is_exact = self.of == Loop::BrokerLogin;
        Ok(if is_exact { pause } else { pause.mul_f64(0.5 + fastrand::f64() / 2.0) })
    }

    /// A try failed: waits for the next one.
    ///
    /// # Errors
    /// As [`Retry::failed`].
    pub async fn pause(&mut self, why: &str) -> Result<(), Exhausted> {
        let pause = self.failed(why)?;
        after(pause).await;
        Ok(())
    }

    /// It worked: the condition goes, and the next failure is the first again.
    pub fn succeeded(&mut self) {
        if std::mem::take(&mut self.tries) > 0 {
            self.of.rules().condition.release(&self.subject);
        }
    }

    /// Tries that failed since the last success.
    #[must_use]
    pub const fn tries(&self) -> u32 {
        self.tries
    }
}

impl Drop for Retry {
    /// A loop that is over tries nothing again, and has nothing to show.
    fn drop(&mut self) {
        self.succeeded();
    }
}

/// Waits for a time. For deadlines; what is tried again goes through [`Retry`].
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn until(time: Instant) -> tokio::time::Sleep {
    tokio::time::sleep_until(time.into())
}

/// Waits for so long. For deadlines; what is tried again goes through [`Retry`].
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn after(duration: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(duration)
}

/// A period of work that is always done. The first tick is at once; ticks that were missed are not made up for.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn every(period: Duration) -> tokio::time::Interval {
    let mut every = tokio::time::interval(period);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    every
}

/// Blocks the thread for so long. Not for async workers.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn block(duration: Duration) {
    std::thread::sleep(duration);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raised_conditions;

    /// Every loop that waits, driven through its one constructor: it ends or it is seen, its pauses grow to their bound and
    /// no further, and success takes back what it showed.
    #[test]
    fn every_loop_ends_or_is_seen() {
        for of in Loop::ALL {
            let subject = format!("loop-test-{of:?}");
            let rules = of.rules();
            let is_seen = || raised_conditions().iter().any(|raised| raised.subject == subject);
            let mut retry = Retry::new(of, subject.as_str());
            assert!(!is_seen(), "{of:?}: nothing has failed");
            let (mut pauses, mut ended) = (Vec::new(), None);
            for _ in 0..100 {
                match retry.failed("for the test") {
                    Ok(pause) => pauses.push(pause),
                    Err(Exhausted(tries)) => {
                        ended = Some(tries);
                        break;
                    }
                }
                assert!(is_seen(), "{of:?} waits and nobody sees it");
            }
            match rules.bound {
                Bound::Tries(most) => assert_eq!(ended, Some(most), "{of:?} has a bound"),
                Bound::UntilItWorks => assert_eq!(ended, None, "{of:?} has none, and is seen"),
            }
            assert!(
                pauses.iter().all(|pause| *pause >= rules.first / 2 && *pause <= rules.longest),
                "{of:?}: {pauses:?}"
            );
            assert!(of.pause(1) == Some(rules.first), "{of:?}");
            let mut other = Retry::new(of, subject.as_str());
            let _first = other.failed("for the test");
            retry.succeeded();
            assert!(is_seen(), "{of:?} worked for one of two");
            drop(other);
            assert!(!is_seen(), "{of:?} worked");
            let _again = retry.failed("for the test");
            drop(retry);
            assert!(!is_seen(), "{of:?} is over");
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<_> = (1..8).filter_map(|tries| Loop::RouteSubscribe.pause(tries)).collect();
        assert_eq!(pauses, [ms(200), ms(400), ms(800), ms(1600), ms(3200), s(5), s(5)]);
        assert_eq!(Loop::RoutePublish.pause(u32::MAX), Some(s(120)), "a long outage wraps nothing");
        assert!(Loop::BrokerLogin.pause(1) >= Some(s(10)), "a broker may lock the account");
    }
}
