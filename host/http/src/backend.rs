//! The interface between the listener and the daemon.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use trunkline_config::{Hook, Secret};

use crate::problem::Problem;
use crate::request::ticket::StreamTickets;
use crate::view::event::{Accepted, PublishRequest};
use crate::view::event_type::EventTypeView;
use crate::view::generation::{GenerationView, Reloaded};
use crate::view::health::Health;
use crate::view::hook::HookRequest;
use crate::view::queue::QueuesView;
use crate::view::rollout::{RolloutOrder, RolloutView};
use crate::view::stream::{StreamItems, StreamRequest};

/// A boxed future, because [`Backend`] is used as a trait object.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The functions that the daemon provides for the listener.
pub trait Backend: Send + Sync + 'static {
    /// Publishes one event and waits for the broker's confirm.
    fn publish(&self, request: PublishRequest) -> Boxed<'_, Result<Accepted, Problem>>;
    /// The hook of the running generation that accepts requests to a path. If several hooks accept the path, the hook with the
    /// longest path.
    fn hook(&self, path: &str) -> Option<Hook>;
    /// Publishes a request to a hook as an event and waits for the broker's confirm.
    fn receive(&self, hook: Hook, request: HookRequest) -> Boxed<'_, Result<Accepted, Problem>>;
    /// The event types of the running generation.
    fn event_types(&self) -> Vec<EventTypeView>;
    /// The queues of routes.toml, with the broker's figures.
    fn queues(&self) -> Boxed<'_, Result<QueuesView, Problem>>;
    /// Opens a stream of events, or resumes a stream.
    fn stream(&self, request: StreamRequest) -> Boxed<'_, Result<StreamItems, Problem>>;
    /// The health of the daemon.
    fn health(&self) -> Health;
    /// The running generation.
    fn generation(&self) -> GenerationView;
    /// Reads the files again, and adopts a new generation if the files are valid.
    fn reload(&self) -> Boxed<'_, Result<Reloaded, Problem>>;
    /// Every canary.
    fn rollouts(&self) -> Vec<RolloutView>;
    /// Ends the trial of a canary. The result is on disk before the future ends. A route without a canary is an error.
    fn order_rollout<'a>(&'a self, route: &'a str, order: RolloutOrder) -> Boxed<'a, Result<RolloutView, Problem>>;
    /// The text of `/metrics`.
    fn metrics(&self) -> String;
}

/// The state that all handlers share.
#[derive(Clone)]
pub(crate) struct ApiState {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) tokens: Arc<[Secret]>,
    pub(crate) tickets: Arc<StreamTickets>,
    pub(crate) max_body_bytes: usize,
}
