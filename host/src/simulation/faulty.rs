//! Mistakes of whatever stands between the core and a broker, planted in the model's own ports: what runs of the daemon
//! stays as it is.

/// One mistake. Each was in the daemon once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Faulty {
    /// A refusal for good is told as one that passes.
    RefusalPasses,
    /// Copies keep the headers by which the broker routes further.
    CopiesRoute,
    /// The hash of a body becomes the id of an event that came without one.
    WeakIdsAreReal,
    /// The end of a consumer is seen when the next delivery is wanted.
    ConsumerEndUnseen,
    /// What is confirmed of a batch is published again with what is not.
    WholeBatchAgain,
    /// A batch that is open and lost counts as one without messages.
    ReceiptOfNothing,
    /// The dedupe store notes an event that is dead as one that is done.
    DeadCountsAsDone,
    /// A consumer sees what is on disk between the commit and the count of it.
    UncountedSeen,
    /// A daemon that takes an ordered route over does not read the list of those that wait.
    ListUnread,
    /// The delivery that settles an event is acknowledged before its entry on that list.
    EntryOutlivesEvent,
}

impl Faulty {
    /// All of them.
    pub(super) const ALL: [Self; 10] = [
        Self::RefusalPasses,
        Self::CopiesRoute,
        Self::WeakIdsAreReal,
        Self::ConsumerEndUnseen,
        Self::WholeBatchAgain,
        Self::ReceiptOfNothing,
        Self::DeadCountsAsDone,
        Self::UncountedSeen,
        Self::ListUnread,
        Self::EntryOutlivesEvent,
    ];

    /// Whether it is planted in this thread.
    pub(super) fn is_planted(self) -> bool {
        PLANTED.with(|planted| planted.get() == Some(self))
    }

    /// Runs something with it.
    pub(super) fn planted<T>(self, run: impl FnOnce() -> T) -> T {
        PLANTED.with(|planted| planted.set(Some(self)));
        let result = run();
        PLANTED.with(|planted| planted.set(None));
        result
    }
}

std::thread_local! {
    static PLANTED: std::cell::Cell<Option<Faulty>> = const { std::cell::Cell::new(None) };
}
