//! Recordings: answers of the host to a stable plugin's call, kept for a shadow.
//!
//! A shadow has no effect outside. It gets the recorded answer for every question that the stable plugin asked too, in the
//! order of the recording where a question is repeated. Any other question is refused and counts as a difference. An
//! effect of the stable plugin that the shadow leaves out is a difference too. Both calls read the same times and draw the
//! same random numbers.

pub(crate) mod answers;
pub(crate) mod contents;
pub(crate) mod http;
pub(crate) mod state;
