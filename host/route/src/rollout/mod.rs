//! Trials of canaries, shadows, and the calls that they share with the stable plugin.

mod call;
mod handlers;
mod rollouts;
mod shadow;
mod trial;

pub(crate) use handlers::RouteHandler;
pub use handlers::{Handlers, RoutePlugins};
pub use rollouts::Rollouts;
pub use trial::{Trial, TrialPhase};
