//! The listener: streams, its own safety, and what it says of itself.

mod documents;
mod listener;
pub mod sse;
mod stream;
mod taps;
