//! The messages of one channel that wait for their confirms, in the order of their tags.
//!
//! lapin queues the frames of a message at the first poll of its future. The write of one message is not waited for, so many
//! messages share one write. Only the future of the first message wakes the task: one wake-up for many confirms.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use lapin::Confirmation;

/// Time after which the first message may wait for a queue that does not answer. From then on every message wakes the task.
const FIRST_WITHIN: Duration = Duration::from_millis(10);
/// Bytes of bodies that wait for their write. The bodies of a blocked connection would otherwise fill the memory.
const UNWRITTEN_MAX_BYTES: usize = 1 << 20;

/// The confirm of a message, or the end of its channel.
pub(super) type Resolved = Result<Confirmation, lapin::Error>;

/// Bytes of bodies that wait for their write.
#[derive(Debug, Clone, Default)]
pub(super) struct Unwritten(Arc<AtomicUsize>);

impl Unwritten {
    /// Notes that a body is on its way.
    pub(super) fn written(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Places for futures that are kept for later messages, at most.
const PLACES_MAX: usize = 256;

/// Memory for the future of one message. The future has some kilobytes, so the memory is used again.
type Place<F> = Pin<Box<Option<F>>>;

/// A message without a confirm.
struct PendingConfirm<F> {
    tag: u64,
    since: Instant,
    confirm: Place<F>,
}

impl<F: Future> PendingConfirm<F> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<F::Output> {
        self.confirm.as_mut().as_pin_mut().map_or(Poll::Pending, |confirm| confirm.poll(context))
    }
}

/// The messages of a channel without a confirm.
pub(super) struct Unconfirmed<F> {
    pending: VecDeque<PendingConfirm<F>>,
    resolved: Vec<(u64, Resolved)>,
    /// Places without a future.
    free: Vec<Place<F>>,
    pub(super) unwritten: Unwritten,
}

impl<F: Future<Output = Resolved>> Unconfirmed<F> {
    pub(super) fn new() -> Self {
        Self { pending: VecDeque::new(), resolved: Vec::new(), free: Vec::new(), unwritten: Unwritten::default() }
    }

    /// Whether every message has its confirm.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.resolved.is_empty()
    }

    /// Whether another message may be queued before the earlier ones are written.
    pub(super) fn has_room(&self) -> bool {
        self.unwritten.0.load(Ordering::Relaxed) < UNWRITTEN_MAX_BYTES
    }

    /// Queues the frames of a message. Returns the answer when the client has one at once, which is mostly an error.
    pub(super) fn begin(&mut self, tag: u64, bytes: usize, confirm: F) -> Option<Resolved> {
        self.unwritten.0.fetch_add(bytes, Ordering::Relaxed);
        let mut place = self.free.pop().unwrap_or_else(|| Box::pin(None));
        place.set(Some(confirm));
        let mut pending = PendingConfirm { tag, since: Instant::now(), confirm: place };
        match pending.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(resolved) => {
                free(&mut self.free, pending.confirm);
                Some(resolved)
            }
            Poll::Pending => {
                self.pending.push_back(pending);
                None
            }
        }
    }

    /// Keeps an answer that came at once until the next poll.
    pub(super) fn found(&mut self, tag: u64, resolved: Resolved) {
        self.resolved.push((tag, resolved));
    }

    /// Whether the first message waits for long.
    fn is_first_late(&self) -> bool {
        self.pending.front().is_some_and(|first| first.since.elapsed() > FIRST_WITHIN)
    }

    /// The confirms that have arrived, all of them: a confirm that the client resolved before one of these confirms is among them too.
    /// Pending means that there is none. The task is woken by the first message, or by every message when the first one is late.
    /// The caller polls again within a time like 10 ms, because the first message may become late.
    pub(super) fn poll_resolved(&mut self, context: &mut Context<'_>) -> Poll<Vec<(u64, Resolved)>> {
        let mut quiet = Context::from_waker(Waker::noop());
        let everyone_wakes = self.is_first_late();
        if !everyone_wakes && !self.poll_first(context) && self.resolved.is_empty() {
            return Poll::Pending;
        }
        // The client resolves the confirms of one frame in any order, while this loop runs. A confirm that is found shows
        // something about earlier tags only if every confirm that was resolved before it is known.
        loop {
            let before = self.resolved.len();
            self.poll_all(if everyone_wakes { context } else { &mut quiet });
            if self.resolved.len() == before {
                break;
            }
        }
        if self.resolved.is_empty() { Poll::Pending } else { Poll::Ready(std::mem::take(&mut self.resolved)) }
    }

    /// Polls the first message. Returns whether it is confirmed.
    fn poll_first(&mut self, context: &mut Context<'_>) -> bool {
        let Some(first) = self.pending.front_mut() else { return false };
        let Poll::Ready(resolved) = first.poll(context) else { return false };
        self.resolved.push((first.tag, resolved));
        if let Some(first) = self.pending.pop_front() {
            free(&mut self.free, first.confirm);
        }
        true
    }

    fn poll_all(&mut self, context: &mut Context<'_>) {
        let (mut at, resolved) = (0, &mut self.resolved);
        // Confirms come nearly in order, so the removals are near the front.
        while let Some(pending) = self.pending.get_mut(at) {
            match pending.poll(context) {
                Poll::Ready(confirm) => {
                    resolved.push((pending.tag, confirm));
                    if let Some(ended) = self.pending.remove(at) {
                        free(&mut self.free, ended.confirm);
                    }
                }
                Poll::Pending => at += 1,
            }
        }
    }

    /// Waits for every confirm. The channel ends, so every message gets one.
    pub(super) async fn rest(&mut self) -> Vec<(u64, Resolved)> {
        let mut rest = std::mem::take(&mut self.resolved);
        for mut pending in self.pending.drain(..) {
            rest.push((pending.tag, poll_fn(|context| pending.poll(context)).await));
        }
        rest
    }
}

/// Keeps the place of a future that has ended.
fn free<F>(places: &mut Vec<Place<F>>, mut place: Place<F>) {
    place.set(None);
    if places.len() < PLACES_MAX {
        places.push(place);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use parking_lot::Mutex;

    use super::*;
    use tokio::sync::oneshot;

    /// A waker that notes that it was called.
    #[derive(Default)]
    struct Woken(AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }

    fn confirms(count: u64) -> (Unconfirmed<impl Future<Output = Resolved>>, Vec<Option<oneshot::Sender<()>>>) {
        let (mut unconfirmed, mut senders) = (Unconfirmed::new(), Vec::new());
        for tag in 1..=count {
            let (sender, confirmed) = oneshot::channel::<()>();
            senders.push(Some(sender));
            let answer = unconfirmed.begin(tag, 10, async move {
                let _dropped = confirmed.await;
                Ok(Confirmation::Ack(None))
            });
            assert!(answer.is_none(), "{tag} is not confirmed yet");
        }
        (unconfirmed, senders)
    }

    fn tags(resolved: Poll<Vec<(u64, Resolved)>>) -> Vec<u64> {
        match resolved {
            Poll::Ready(resolved) => resolved.into_iter().map(|(tag, _)| tag).collect(),
            Poll::Pending => Vec::new(),
        }
    }

    #[test]
    fn the_first_confirm_wakes_the_task_and_brings_the_others() {
        let (mut unconfirmed, mut senders) = confirms(3);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        assert!(tags(unconfirmed.poll_resolved(&mut context)).is_empty());
        senders[2].take().expect("open").send(()).expect("it waits");
        assert!(!woken.0.load(Ordering::Acquire), "the third message does not wake the task");
        senders[0].take().expect("open").send(()).expect("it waits");
        assert!(woken.0.load(Ordering::Acquire));
        assert_eq!(tags(unconfirmed.poll_resolved(&mut context)), [1, 3]);
        assert!(!unconfirmed.is_empty());
    }

    #[test]
    fn behind_a_late_first_message_every_confirm_wakes_the_task() {
        let (mut unconfirmed, mut senders) = confirms(3);
        unconfirmed.pending[0].since = Instant::now().checked_sub(FIRST_WITHIN * 2).expect("a machine that is up");
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        assert!(tags(unconfirmed.poll_resolved(&mut context)).is_empty());
        senders[1].take().expect("open").send(()).expect("it waits");
        assert!(woken.0.load(Ordering::Acquire), "the first message waits for long");
        assert_eq!(tags(unconfirmed.poll_resolved(&mut context)), [2]);
    }

    /// The client resolves 1 and then 2, between the polls of 1 and 2. Both have to be found.
    #[test]
    fn a_confirm_is_never_found_without_the_confirms_before_it() {
        /// Resolves the first message when the second one is polled.
        struct Second(Arc<Mutex<Option<oneshot::Sender<()>>>>, u32);
        impl Future for Second {
            type Output = ();
            fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
                self.1 += 1;
                if self.1 < 3 {
                    return Poll::Pending;
                }
                drop(self.0.lock().take());
                Poll::Ready(())
            }
        }
        let mut unconfirmed = Unconfirmed::new();
        let (sender, first) = oneshot::channel::<()>();
        let sender = Arc::new(Mutex::new(Some(sender)));
        let wait = |first: Option<oneshot::Receiver<()>>, second: Option<Second>| async move {
            if let Some(first) = first {
                let _dropped = first.await;
            }
            if let Some(second) = second {
                second.await;
            }
            Ok(Confirmation::Ack(None))
        };
        unconfirmed.begin(1, 0, wait(Some(first), None));
        unconfirmed.begin(2, 0, wait(None, Some(Second(sender, 0))));
        unconfirmed.pending[0].since = Instant::now().checked_sub(FIRST_WITHIN * 2).expect("a machine that is up");
        let mut context = Context::from_waker(Waker::noop());
        assert!(tags(unconfirmed.poll_resolved(&mut context)).is_empty());
        assert_eq!(
            tags(unconfirmed.poll_resolved(&mut context)),
            [2, 1],
            "the second is found first, and the first too"
        );
    }

    #[test]
    fn bodies_that_are_not_written_are_bounded() {
        let mut unconfirmed = Unconfirmed::new();
        assert!(unconfirmed.begin(1, UNWRITTEN_MAX_BYTES, std::future::pending()).is_none());
        assert!(!unconfirmed.has_room());
        unconfirmed.unwritten.written(UNWRITTEN_MAX_BYTES);
        assert!(unconfirmed.has_room());
    }
}
