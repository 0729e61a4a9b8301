//! The arguments of queues: the wanted ones, and the differences of queues that exist already.

mod arguments;
mod declared;
mod difference;
mod policy;
mod shell;
mod tolerated;
mod unanswered;
mod wanted;

pub(crate) use arguments::{
    AT_LEAST_ONCE, Arguments, DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY, EXPIRES, OVERFLOW, QUORUM, REJECT, STRATEGY, TTL,
    TYPE, milliseconds,
};
pub(crate) use declared::DeclaredQueues;
pub(crate) use difference::{Difference, ExistingValue, IS_STREAM};
pub(crate) use policy::DeadLetterPolicy;
pub(crate) use shell::shell_word;
pub(crate) use tolerated::ToleratedQueues;
pub(crate) use unanswered::UnansweredQueues;
pub(crate) use wanted::WantedArguments;
