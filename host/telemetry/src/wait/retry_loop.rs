//! A loop that is running.

use std::time::Duration;

use super::loops::Loop;
use super::sleep::after;

/// A loop that is running. It counts failed tries and raises the condition at the first failure.
#[derive(Debug)]
pub struct RetryLoop {
    of: Loop,
    subject: String,
    tries: u32,
}

/// The loop reached its bound. The number is the number of failed tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the daemon stopped trying after {0} tries")]
pub struct Exhausted(pub u32);

impl RetryLoop {
    /// Begins a loop. The subject is a route or a store, or empty where there is only one.
    #[must_use]
    pub fn new(of: Loop, subject: impl Into<String>) -> Self {
        Self { of, subject: subject.into(), tries: 0 }
    }

    /// Changes the kind of the loop. The pauses of another kind begin anew.
    pub fn turn_to(&mut self, of: Loop) {
        if of != self.of {
            self.succeeded();
            self.of = of;
        }
    }

    /// Notes a failed try and raises the condition with the reason. Returns the pause before the next try. The pause has
    /// jitter, so that many daemons do not try at the same time.
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
        // The pause between logins is a promise, so it is never shortened.
        let is_exact = self.of == Loop::BrokerLogin;
        Ok(if is_exact { pause } else { pause.mul_f64(0.5 + fastrand::f64() / 2.0) })
    }

    /// Notes a failed try and waits for the next one.
    ///
    /// # Errors
    /// As [`RetryLoop::failed`].
    pub async fn pause(&mut self, why: &str) -> Result<(), Exhausted> {
        let pause = self.failed(why)?;
        after(pause).await;
        Ok(())
    }

    /// Notes a success: the condition ends, and the next failure counts as the first.
    pub fn succeeded(&mut self) {
        if std::mem::take(&mut self.tries) > 0 {
            self.of.rules().condition.release(&self.subject);
        }
    }

    /// Failed tries since the last success.
    #[must_use]
    pub const fn tries(&self) -> u32 {
        self.tries
    }
}

impl Drop for RetryLoop {
    /// A loop that is over has no condition.
    fn drop(&mut self) {
        self.succeeded();
    }
}

#[cfg(test)]
mod tests {
    use super::super::loops::RetryBound;
    use super::*;
    use crate::conditions::raised_conditions;

    /// Every loop has a bound or a condition, its pauses stay within their bound, and success ends its condition.
    #[test]
    fn every_loop_has_a_bound_or_a_condition() {
        for of in Loop::ALL {
            let subject = format!("loop-test-{of:?}");
            let rules = of.rules();
            let is_seen = || raised_conditions().iter().any(|raised| raised.subject == subject);
            let mut retry = RetryLoop::new(of, subject.as_str());
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
                assert!(is_seen(), "{of:?} waits without a condition");
            }
            match rules.bound {
                RetryBound::Tries(most) => assert_eq!(ended, Some(most), "{of:?} has a bound"),
                RetryBound::UntilItWorks => assert_eq!(ended, None, "{of:?} has none, and is seen"),
            }
            assert!(
                pauses.iter().all(|pause| *pause >= rules.first / 2 && *pause <= rules.longest),
                "{of:?}: {pauses:?}"
            );
            assert!(of.pause(1) == Some(rules.first), "{of:?}");
            let mut other = RetryLoop::new(of, subject.as_str());
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
}
