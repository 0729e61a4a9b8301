//! From changed files to a generation that can run: watching, reading, compiling, linking.
//!
//! A [`Generation`] is whole and immutable: each of its plugins can be called or has an error. A reload that is refused
//! changes nothing. The module knows no broker and no route; the daemon adopts generations.

mod blocking;
mod file_stamp;
mod generation;
mod inputs;
mod notifications;
mod prepare;
mod refusal;
mod watch;

pub use generation::{Generation, InstalledPlugin};
pub use inputs::Inputs;
pub use prepare::Preparer;
pub use refusal::{RefusalReason, RefusedReload};
pub use watch::Watch;
