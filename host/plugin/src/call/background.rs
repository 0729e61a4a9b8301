//! Threads of low priority for guests that compute, on all processors but one, so that quick guests do not wait.
//!
//! A call begins on the thread that asks for it. A guest gives its thread back at every tick. A guest that computed for
//! longer than [`QUICK_MAX`] continues in the background, and the next calls of its plugin begin there, until a call is
//! quick again. Without the background, sixteen endless loops would hold every thread of the daemon for a tick each, and
//! every step of every other event would wait for all of them.

use std::num::NonZero;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_util::task::AbortOnDropHandle;

use crate::load::error::Error;

/// Half a tick of the epoch clock.
const QUICK_MAX: Duration = Duration::from_millis(5);
/// Priority of background threads. They get a quarter of a processor that other threads want too, and all of it otherwise.
/// With a lower priority, a busy process beside the daemon would make plugins run into their time limits.
const NICENESS: i32 = 5;
/// Processors that background threads leave free, on a machine with two or more. A thread of low priority keeps its
/// processor for a slice when another thread wakes, and one event wakes a dozen threads.
const PROCESSORS_LEFT: usize = 1;

/// A call that can move to another thread between two polls.
pub(crate) type MovableCall<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Whether the next call of a plugin begins in the background. Calls measure it; no setting of the plugin changes.
#[derive(Default)]
pub(crate) struct Pace {
    computes: AtomicBool,
}

impl Pace {
    fn computes(&self) -> bool {
        self.computes.load(Ordering::Relaxed)
    }

    fn set_computes(&self, computes: bool) {
        self.computes.store(computes, Ordering::Relaxed);
    }
}

/// Threads of low priority.
pub(crate) struct Background {
    /// `None` only while the value is dropped.
    runtime: Option<Runtime>,
}

impl Background {
    pub(crate) fn start() -> Result<Self, Error> {
        let lower = || {
            // On Linux a priority belongs to a thread. Without the permission the priority stays as it is.
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                tracing::warn!(%error, "the priority of plugin threads cannot be lowered; a plugin that uses the processor for a long time may delay other events");
            }
        };
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = processors.saturating_sub(PROCESSORS_LEFT).max(1);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            // Timers are checked after every step, because a step of a guest takes a whole tick and the only thread may
            // never be idle. With tokio's default of 61 steps a call would end half a second late, without its log.
            .event_interval(1)
            .thread_name("trunkline-guest")
            .on_thread_start(lower)
            .enable_all()
            .build()
            .map_err(|error| Error::Engine(format!("the threads of plugins cannot be started: {error}")))?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Runs a call to its end, first on this thread and, when it computes for long, in the background. `None` means that
    /// the call panicked. Dropping the future ends the call at its next tick.
    pub(crate) async fn run<T: Send + 'static>(&self, pace: &Pace, call: MovableCall<T>) -> Option<T> {
        let begins_in_background = pace.computes();
        let call = if begins_in_background {
            call
        } else {
            match (QuickPhase { call: Some(call), computed: Duration::ZERO }).await {
                PhaseEnd::Done { value, computed } => {
                    if computed > QUICK_MAX {
                        pace.set_computes(true);
                    }
                    return Some(value);
                }
                PhaseEnd::Computes(call) => call,
            }
        };
        pace.set_computes(true);
        let handle = self.runtime.as_ref()?.handle();
        let timed = TimedCall { call, computed: Duration::ZERO };
        let (value, computed) = AbortOnDropHandle::new(handle.spawn(timed)).await.ok()?;
        if begins_in_background && computed < QUICK_MAX {
            pace.set_computes(false);
        }
        Some(value)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // A guest ends at its next tick. This code may run on an async thread, so it does not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Polls a call until it has computed for longer than [`QUICK_MAX`].
struct QuickPhase<T> {
    call: Option<MovableCall<T>>,
    computed: Duration,
}

enum PhaseEnd<T> {
    Done { value: T, computed: Duration },
    Computes(MovableCall<T>),
}

impl<T> Future for QuickPhase<T> {
    type Output = PhaseEnd<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(mut call) = self.call.take() else {
            return Poll::Pending;
        };
        let begun = Instant::now();
        let polled = call.as_mut().poll(context);
        self.computed += begun.elapsed();
        match polled {
            Poll::Ready(value) => Poll::Ready(PhaseEnd::Done { value, computed: self.computed }),
            Poll::Pending if self.computed > QUICK_MAX => Poll::Ready(PhaseEnd::Computes(call)),
            Poll::Pending => {
                self.call = Some(call);
                Poll::Pending
            }
        }
    }
}

/// Measures how long a call computed.
struct TimedCall<T> {
    call: MovableCall<T>,
    computed: Duration,
}

impl<T> Future for TimedCall<T> {
    type Output = (T, Duration);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let begun = Instant::now();
        let polled = self.call.as_mut().poll(context);
        self.computed += begun.elapsed();
        polled.map(|value| (value, self.computed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    /// Computes between two yields, and returns the names of the threads.
    async fn compute(turns: usize, each: Duration) -> Vec<String> {
        let mut threads = Vec::new();
        for _ in 0..turns {
            let begun = Instant::now();
            while begun.elapsed() < each {
                std::hint::spin_loop();
            }
            threads.push(thread());
            tokio::task::yield_now().await;
        }
        threads
    }

    #[tokio::test]
    async fn calls_that_compute_move_to_the_background_and_back() {
        let background = Background::start().expect("threads");
        let pace = Pace::default();
        let here = thread();
        let quick = background.run(&pace, Box::pin(compute(3, Duration::ZERO))).await.expect("no panic");
        assert!(quick.iter().all(|at| *at == here), "{quick:?}");

        let slow = background.run(&pace, Box::pin(compute(3, QUICK_MAX * 2))).await.expect("no panic");
        assert_eq!(slow[0], here, "the first call begins on the calling thread");
        assert!(slow[1..].iter().all(|at| at == "trunkline-guest"), "{slow:?}");
        let again = background.run(&pace, Box::pin(compute(2, QUICK_MAX * 2))).await.expect("no panic");
        assert!(again.iter().all(|at| at == "trunkline-guest"), "{again:?}");

        let better = background.run(&pace, Box::pin(compute(1, Duration::ZERO))).await.expect("no panic");
        assert_eq!(better[0], "trunkline-guest");
        let quick = background.run(&pace, Box::pin(compute(1, Duration::ZERO))).await.expect("no panic");
        assert_eq!(quick[0], here);
        let busy = Pace { computes: AtomicBool::new(true) };
        let panicked = background.run(&busy, Box::pin(async { panic!("on purpose") })).await;
        assert_eq!(panicked, None::<()>);
    }
}
