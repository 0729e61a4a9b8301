//! `trunkline new` and `trunkline wrap`. The module knows nothing of the daemon.

mod create;
mod error;
mod language;
mod name;
mod template;
mod wrap;

pub use create::{Created, NewPlugin, create};
pub use error::ScaffoldError;
pub use language::Language;
pub use wrap::{WrapError, wrap};
