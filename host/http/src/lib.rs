//! The HTTP listener: publishing, hooks, streams, queues, reloading, rollouts, health, metrics and their description.
//!
//! A client gets 202 only after the broker's confirm. Every error is an RFC 9457 problem document with a code that
//! `trunkline explain` knows. The health paths and `/metrics` answer also without a session with the broker. No response
//! contains a secret. The crate uses no broker. The daemon implements [`Backend`].

#![deny(unsafe_code)]

mod api;
mod backend;
mod listener;
mod openapi;
mod problem;
mod request;
mod router;
mod sender;
mod server;
mod view;

pub use backend::{Backend, Boxed};
pub use problem::{Problem, explain};
pub use server::{bind, serve};
pub use view::event::{Accepted, PublishRequest};
pub use view::event_type::EventTypeView;
pub use view::generation::{GenerationView, PluginView, ReloadView, Reloaded};
pub use view::health::{BrokerHealth, ConditionView, Health, RouteHealth};
pub use view::hook::HookRequest;
pub use view::queue::{QueueView, QueuesView, RatesView, RemovableQueueView, Role};
pub use view::rollout::{RolloutOrder, RolloutView};
pub use view::stream::{StreamEvent, StreamGap, StreamItem, StreamItems, StreamReady, StreamRequest};

#[cfg(test)]
mod tests;
