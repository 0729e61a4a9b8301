//! Mistakes of whatever stands between the core and a broker, planted in the model's own ports: what runs of the daemon
//! stays as it is. Each is a way in which this daemon, or one like it, has lost, repeated or disordered messages.

/// One mistake.
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
    /// A delivery is acknowledged when the publish of what follows from it begins.
    AckBeforeConfirm,
    /// A publish that was lost or refused counts as confirmed.
    LostCountsAsConfirmed,
    /// A message that was returned counts as routed.
    ReturnIgnored,
    /// A return is blamed on the confirm that carries it.
    ReturnBlamedOnNext,
    /// Acknowledgements of a session that is over are sent in the next one.
    StaleTag,
    /// Every delivery up to a tag is acknowledged, finished or not.
    AckMultiple,
    /// What a plugin emitted before it trapped is published.
    TrapKeepsEmissions,
    /// A delivery that is left to the broker is acknowledged.
    DropOnLeave,
    /// A delivery is acknowledged although its dead letter was refused.
    DeadLetterUnconfirmed,
    /// An event counts as settled before its emissions are confirmed.
    MarkBeforeConfirm,
    /// Only the first emission is published.
    PartialEmit,
    /// The core does not learn the ordering key of an event.
    OrderIgnored,
    /// The core does not learn of an alarm.
    BlockedIgnored,
    /// The core does not learn of the end of an alarm.
    LostWakeup,
    /// Every attempt makes new ids for its emissions.
    UnstableIds,
}

impl Faulty {
    /// All of them.
    pub(super) const ALL: [Self; 25] = [
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
        Self::AckBeforeConfirm,
        Self::LostCountsAsConfirmed,
        Self::ReturnIgnored,
        Self::ReturnBlamedOnNext,
        Self::StaleTag,
        Self::AckMultiple,
        Self::TrapKeepsEmissions,
        Self::DropOnLeave,
        Self::DeadLetterUnconfirmed,
        Self::MarkBeforeConfirm,
        Self::PartialEmit,
        Self::OrderIgnored,
        Self::BlockedIgnored,
        Self::LostWakeup,
        Self::UnstableIds,
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
