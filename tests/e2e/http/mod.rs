//! The listener: streams, its own safety, and what it says of itself.

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
