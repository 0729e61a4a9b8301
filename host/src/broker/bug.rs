//! Mistakes that the simulator plants to see that its checker catches them. Only unit tests can plant one: in the daemon
//! every question is answered by a constant.

/// One mistake. Each is a way in which systems like this one have lost or repeated messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Acknowledge when the publish is begun.
    AckBeforeConfirm,
    /// Count a lost publish as confirmed.
    LostCountsAsConfirmed,
    /// Take a returned message for a routed one.
    ReturnIgnored,
    /// Blame a return on the confirm that carries it.
    ReturnBlamedOnNext,
    /// Send acknowledgements of a lost session on the next one. The types of the daemon leave no place for it, so the
    /// model has it.
    #[cfg(test)]
    StaleTag,
    /// Acknowledge everything up to a tag, finished or not.
    AckMultiple,
    /// Publish what a plugin emitted before it trapped.
    TrapKeepsEmissions,
    /// Acknowledge what a lost session left unfinished.
    DropOnReconnect,
    /// Acknowledge although the dead letter was refused.
    DeadLetterUnconfirmed,
    /// Mark an event as settled before its emissions are confirmed.
    MarkBeforeConfirm,
    /// Publish only the first emission.
    PartialEmit,
    /// Start two of one key.
    LanesIgnored,
    /// Go on while the broker has blocked publishing.
    BlockedIgnored,
    /// Miss the end of an alarm.
    LostWakeup,
    /// Make a new emission id for every attempt.
    UnstableIds,
}

impl Bug {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 15] = [
        Self::AckBeforeConfirm,
        Self::LostCountsAsConfirmed,
        Self::ReturnIgnored,
        Self::ReturnBlamedOnNext,
        Self::StaleTag,
        Self::AckMultiple,
        Self::TrapKeepsEmissions,
        Self::DropOnReconnect,
        Self::DeadLetterUnconfirmed,
        Self::MarkBeforeConfirm,
        Self::PartialEmit,
        Self::LanesIgnored,
        Self::BlockedIgnored,
        Self::LostWakeup,
        Self::UnstableIds,
    ];

    /// Whether it is planted in this thread.
    #[cfg(test)]
    pub(crate) fn is_planted(self) -> bool {
        PLANTED.with(|planted| planted.get() == Some(self))
    }

    /// Never.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "the same call as in the tests")]
    pub(crate) const fn is_planted(self) -> bool {
        false
    }
}

#[cfg(test)]
std::thread_local! {
    pub(crate) static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}
