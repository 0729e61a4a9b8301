//! The address of a publish channel.

use trunkline_event::ExchangeName;

/// Which messages of an exchange a channel carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ChannelKind {
    /// Many messages at a time.
    Shared,
    /// One message at a time, because the broker may refuse it.
    Alone,
    /// Messages whose queues did not answer.
    Unanswered,
}

/// An exchange, and which of its messages are meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ChannelAddress {
    pub(crate) exchange: ExchangeName,
    pub(crate) kind: ChannelKind,
}
