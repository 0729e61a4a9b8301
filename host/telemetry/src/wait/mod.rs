//! Waiting, in one place: no other module may sleep.
//!
//! Work that is tried again goes through a [`RetryLoop`]. Its [`Loop`] has the pauses, the bound, and the condition that
//! an operator sees meanwhile. Every loop has a bound or a condition, because both are columns of one table. Deadlines
//! and periods try nothing again and are [`until`], [`after`] and [`every`].

mod loops;
mod retry_loop;
mod sleep;

pub use loops::{Loop, RetryBound, RetryRules};
pub use retry_loop::{Exhausted, RetryLoop};
pub use sleep::{after, block, every, until};
