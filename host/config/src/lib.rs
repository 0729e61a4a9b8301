//! The configuration: routes.toml with the environment and the flags, checked.
//!
//! The crate makes a [`Config`] of text. No name, key or number of a [`Config`] can be wrong. All errors of a file are
//! reported together, each with a stable code, a place and the correct form. The crate knows no broker and no engine: it
//! does not look at plugins' files.

#![deny(unsafe_code)]

mod check;
mod diagnostics;
mod keys;
mod load;
mod model;
mod parse;
pub mod pem;
mod quantity;
mod sources;
pub mod state_dir;
#[cfg(test)]
mod tests;

pub use check::state_dir::STATE_BESIDE;
pub use diagnostics::codes::explain;
pub use diagnostics::diagnostic::{Diagnostic, Severity, render};
pub use diagnostics::reference::diagnostics_reference;
pub use keys::reference::reference;
pub use keys::shape::{KeyEntry, Shape};
pub use keys::table::keys;
pub use load::{Loaded, Rejected, load};
pub use model::broker::codec::Codec;
pub use model::broker::connection::{AmqpBroker, BrokerChoice, ClientCertificate, Management, Tls};
pub use model::broker::topology::{
    Binding, DeadLetter, Exchange, ExchangeKind, Match, Overflow, Queue, QueueKind, QueueOwnership, QueuePurpose,
    Topology, TopologyMode,
};
pub use model::broker::url::{BrokerQuery, BrokerUrl};
pub use model::config::Config;
pub use model::http::event_type::EventType;
pub use model::http::hook::{Hook, Signature};
pub use model::http::listener::{Http, is_own_name};
pub use model::http::placeholder::{PathStep, Placeholder, ValueSource};
pub use model::http::sender::{
    HookProvider, MacDigits, STANDARD_SECRET_PREFIX, SenderAnswer, SenderForm, SenderHandshake, SenderProfile,
    SignatureScheme,
};
pub use model::http::template::Template;
pub use model::log_filter::LogFilter;
pub use model::plugins::allow::{Allow, EmitGrant, WrittenAllow, WrittenEmit};
pub use model::plugins::lock::{LockPolicy, LockedPlugin, PluginLock};
pub use model::plugins::network::{Network, is_public};
pub use model::plugins::origin::{Origin, OriginHost};
pub use model::plugins::plugin::{Limits, Plugin};
pub use model::plugins::quota::{Quota, WrittenQuota};
pub use model::routes::archive::{Archive, ArchivePlace, ObjectStore};
pub use model::routes::flow::{CircuitBreaker, DedupeWindow, OrderBy, Rate, Tenant};
pub use model::routes::rollout::{Canary, Shadow};
pub use model::routes::route::{Emit, Handler, Retry, RetryStep, Route, SchemaRule, Unroutable};
pub use model::schema;
pub use model::secret::Secret;
pub use sources::Sources;
