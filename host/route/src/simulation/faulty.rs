//! Planted mistakes in the settings, requests and results of the model. The executor and the core are those of the daemon.
//! Each mistake is a way in which this daemon, or a similar one, has lost, repeated or disordered messages.

/// A planted mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Faulty {
    /// A permanent refusal is reported as a passing refusal.
    RefusalPasses,
    /// Copies keep the headers by which the broker routes further.
    CopiesRoute,
    /// The hash of a body becomes the id of an event without an id.
    WeakIdsAreReal,
    /// The end of a consumer is noticed ten seconds late.
    ConsumerEndUnseen,
    /// The confirmed messages of a batch are published again with the unconfirmed messages.
    WholeBatchAgain,
    /// A batch with refused messages gets a receipt.
    ReceiptOfNothing,
    /// The dedupe record of a dead-lettered event says that the event is done.
    DeadCountsAsDone,
    /// A consumer gets a message between the commit and the count of that message.
    UncountedSeen,
    /// A daemon that takes an ordered route over does not read the waiting list.
    ListUnread,
    /// The delivery that settles an event is acknowledged before its waiting-list entry.
    EntryOutlivesEvent,
    /// A delivery is acknowledged when the publish of its messages begins.
    AckBeforeConfirm,
    /// A publish that was lost or refused counts as confirmed.
    LostCountsAsConfirmed,
    /// A message that was returned counts as routed.
    ReturnIgnored,
    /// A return counts for the confirm that carries it.
    ReturnBlamedOnNext,
    /// Acknowledgements of a session that is over are sent in the next one.
    StaleTag,
    /// Every delivery up to a tag is acknowledged, finished or not.
    AckMultiple,
    /// Emissions of a call that trapped are published.
    TrapKeepsEmissions,
    /// A delivery that is left to the broker is acknowledged.
    DropOnLeave,
    /// A delivery is acknowledged although its dead letter was refused.
    DeadLetterUnconfirmed,
    /// The dedupe record is written before the emissions are confirmed.
    RecordBeforeConfirm,
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
    /// Every planted mistake.
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
        Self::RecordBeforeConfirm,
        Self::PartialEmit,
        Self::OrderIgnored,
        Self::BlockedIgnored,
        Self::LostWakeup,
        Self::UnstableIds,
    ];

    /// Whether the mistake is planted in this thread.
    pub(super) fn is_planted(self) -> bool {
        PLANTED.with(|planted| planted.get() == Some(self))
    }

    /// Runs a closure with the mistake.
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
