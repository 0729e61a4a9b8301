//! The state of the embedded broker in memory: queues, bindings and the changes that wait for a transaction.

mod change;
mod message;
mod meter;
mod queue_state;
mod routing;
mod session_state;
mod settings;
mod stream;

pub(crate) use change::{DeliveryId, QueueChange};
pub(crate) use message::{QueueHead, QueuedMessage, ReadRequest};
pub(crate) use queue_state::QueueState;
pub(crate) use routing::{Destinations, Routing};
pub(crate) use session_state::SessionState;
pub(crate) use settings::unconfigured_queue;
pub(crate) use stream::restored;
