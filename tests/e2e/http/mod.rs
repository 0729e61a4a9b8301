//! The listener: streams, its own limits, and its descriptions.

mod documents;
mod lag;
mod listener;
mod overload;
mod patterns;
mod raw;
mod site;
mod slow;
pub mod sse;
mod stream;
mod taps;
mod tickets;
