//! Where guests run that compute: on threads of low priority, on all processors but one, so that whoever only looks at
//! an event and answers does not wait for them.
//!
//! A call begins on the thread that asks for it. A guest gives its thread back at every tick; one that has computed for
//! longer than [`QUICK_MAX`] goes on in the background, and the next calls of its plugin begin there, until one of them
//! is quick again. Without this, sixteen endless loops would hold every thread of the daemon for a tick each, and every
//! step of every other event would wait for all of them.

use std::num::NonZero;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_util::task::AbortOnDropHandle;

use super::Error;

/// Half a tick of the epoch clock.
const QUICK_MAX: Duration = Duration::from_millis(5);
/// A quarter of the processor goes to the background where both want it, and all of it where only the background does.
/// Lower still, and a busy neighbour on the machine would let honest plugins run into their timeouts.
const NICENESS: i32 = 5;
/// Processors that plugins which compute leave to everybody else, where there are two or more. A thread of low priority
/// still holds its processor for a slice when somebody wakes, and an event wakes a dozen threads on its way.
const PROCESSORS_LEFT: usize = 1;

/// A call that can go to another thread between two polls.
pub(super) type Call<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Threads of low priority.
pub(super) struct Background {
    /// None only while it is dropped.
    runtime: Option<Runtime>,
}

impl Background {
    pub(super) fn start() -> Result<Self, Error> {
        let lower = || {
            // On Linux a priority belongs to a thread. A system that refuses leaves it as it is.
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                tracing::warn!(%error, "plugins that compute run with the priority of everything else");
            }
        };
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = processors.saturating_sub(PROCESSORS_LEFT).max(1);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            // Between any two steps timers are looked at: a step of a guest takes a whole tick, and the one thread may
            // never be idle. With tokio's 61 a call would end half a second after its time, without its log.
            .event_interval(1)
            .thread_name("trunkline-guest")
            .on_thread_start(lower)
            .enable_all()
            .build()
            .map_err(|error| Error::Engine(format!("cannot start the threads of plugins: {error}")))?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Runs a call to its end, first here and then, when it computes for long, in the background. `computes` is what is
    /// known of its plugin. None: it panicked. Dropping the future ends the call at its next tick.
    pub(super) async fn run<T: Send + 'static>(&self, computes: &AtomicBool, call: Call<T>) -> Option<T> {
        let known = computes.load(Ordering::Relaxed);
        let call = if known {
            call
        } else {
            match (Quick { call: Some(call), computed: Duration::ZERO }).await {
                Quickly::Done { value, computed } => {
                    if computed > QUICK_MAX {
                        computes.store(true, Ordering::Relaxed);
                    }
                    return Some(value);
                }
                Quickly::Computes(call) => call,
            }
        };
        computes.store(true, Ordering::Relaxed);
        let handle = self.runtime.as_ref()?.handle();
        let timed = Timed { call, computed: Duration::ZERO };
        let (value, computed) = AbortOnDropHandle::new(handle.spawn(timed)).await.ok()?;
        if known && computed < QUICK_MAX {
            computes.store(false, Ordering::Relaxed);
        }
        Some(value)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // A guest ends at its next tick, and nobody waits for it: this may run on an async thread.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Polls a call as long as it computes little.
struct Quick<T> {
    call: Option<Call<T>>,
    computed: Duration,
}

enum Quickly<T> {
    Done { value: T, computed: Duration },
    Computes(Call<T>),
}

impl<T> Future for Quick<T> {
    type Output = Quickly<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(mut call) = self.call.take() else {
            return Poll::Pending;
        };
        let begun = Instant::now();
        let polled = call.as_mut().poll(context);
        self.computed += begun.elapsed();
        match polled {
            Poll::Ready(value) => Poll::Ready(Quickly::Done { value, computed: self.computed }),
            Poll::Pending if self.computed > QUICK_MAX => Poll::Ready(Quickly::Computes(call)),
            Poll::Pending => {
                self.call = Some(call);
                Poll::Pending
            }
        }
    }
}

/// Says how long a call computed.
struct Timed<T> {
    call: Call<T>,
    computed: Duration,
}

impl<T> Future for Timed<T> {
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

    /// Burns time between two yields, and says on which threads.
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
    async fn what_computes_goes_to_the_background_and_comes_back() {
        let background = Background::start().expect("threads");
        let computes = AtomicBool::new(false);
        let here = thread();
        let quick = background.run(&computes, Box::pin(compute(3, Duration::ZERO))).await.expect("no panic");
        assert!(quick.iter().all(|at| *at == here), "{quick:?}");

        let slow = background.run(&computes, Box::pin(compute(3, QUICK_MAX * 2))).await.expect("no panic");
        assert_eq!(slow[0], here, "nothing is known of it");
        assert!(slow[1..].iter().all(|at| at == "trunkline-guest"), "{slow:?}");
        let again = background.run(&computes, Box::pin(compute(2, QUICK_MAX * 2))).await.expect("no panic");
        assert!(again.iter().all(|at| at == "trunkline-guest"), "{again:?}");

        let better = background.run(&computes, Box::pin(compute(1, Duration::ZERO))).await.expect("no panic");
        assert_eq!(better[0], "trunkline-guest");
        let quick = background.run(&computes, Box::pin(compute(1, Duration::ZERO))).await.expect("no panic");
        assert_eq!(quick[0], here);
        let panicked = background.run(&AtomicBool::new(true), Box::pin(async { panic!("on purpose") })).await;
        assert_eq!(panicked, None::<()>);
    }
}
