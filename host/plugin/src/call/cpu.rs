//! Processor time of calls. The clock of the thread is read around each poll of a call, because a call may move to another thread
//! between two polls. Two readings cost about half a microsecond, so only one of several short calls is measured.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// One of this number of short calls is measured, and counts for all of them.
const SAMPLED_ONE_OF: u32 = 8;
/// A plugin whose calls take less processor time has short calls.
const SHORT_NANOS: u64 = 1_000_000;
/// Weight of the earlier calls in the mean of a plugin.
const MEAN_OF: u64 = 8;

/// Decides which calls of a plugin are measured.
pub(crate) struct CpuSampling {
    calls: AtomicU64,
    /// Mean of the measured calls, in nanoseconds. Recent calls count most.
    mean_nanos: AtomicU64,
}

impl Default for CpuSampling {
    fn default() -> Self {
        Self { calls: AtomicU64::new(0), mean_nanos: AtomicU64::new(SHORT_NANOS) }
    }
}

impl CpuSampling {
    /// The number of calls that the next call counts for; `None` when the next call is not measured.
    pub(crate) fn weight(&self) -> Option<u32> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.mean_nanos.load(Ordering::Relaxed) >= SHORT_NANOS {
            return Some(1);
        }
        number.is_multiple_of(u64::from(SAMPLED_ONE_OF)).then_some(SAMPLED_ONE_OF)
    }

    /// Notes the processor time of a measured call.
    pub(crate) fn note(&self, spent: Duration) {
        let spent = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX) / MEAN_OF;
        // Concurrent calls may overwrite each other's change, which only makes the mean follow more slowly.
        let before = self.mean_nanos.load(Ordering::Relaxed);
        self.mean_nanos.store((before - before / MEAN_OF).saturating_add(spent), Ordering::Relaxed);
    }
}

/// Polls a call, and adds up the processor time of the polls.
pub(crate) struct CpuMeasured<'a, F> {
    pub(crate) call: Pin<&'a mut F>,
    pub(crate) spent: &'a mut Duration,
}

impl<F: Future> Future for CpuMeasured<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let before = thread_time();
        let polled = self.call.as_mut().poll(context);
        let took = thread_time().saturating_sub(before);
        *self.spent += took;
        polled
    }
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    /// Computes for some processor time.
    fn compute(time: Duration) {
        let begun = thread_time();
        while thread_time().saturating_sub(begun) < time {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn only_the_processor_time_of_the_polls_counts() {
        const EACH: Duration = Duration::from_millis(20);
        let mut spent = Duration::ZERO;
        let call = pin!(async {
            for _ in 0..3 {
                compute(EACH);
                tokio::task::yield_now().await;
            }
            7
        });
        let measured = CpuMeasured { call, spent: &mut spent };
        let other = async {
            for _ in 0..3 {
                compute(EACH * 2);
                tokio::task::yield_now().await;
            }
        };
        let (value, ()) = tokio::join!(measured, other);
        assert_eq!(value, 7);
        // The work of the other task on the same thread does not count.
        assert!(spent >= EACH * 3 && spent < EACH * 4, "{spent:?}");
    }

    #[test]
    fn short_calls_are_sampled_and_count_for_all() {
        let sampling = CpuSampling::default();
        assert_eq!(sampling.weight(), Some(1), "nothing is known yet");
        (0..3).for_each(|_| sampling.note(Duration::from_micros(10)));
        let weights: Vec<u32> = (0..800).filter_map(|_| sampling.weight()).collect();
        assert_eq!((weights.len(), weights.iter().sum::<u32>()), (100, 800));
        (0..30).for_each(|_| sampling.note(Duration::from_millis(5)));
        assert!((0..10).all(|_| sampling.weight() == Some(1)), "long calls are all measured");
    }
}
