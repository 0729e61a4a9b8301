//! A linked component, called through its interface version.

use wasmtime::Store;
use wasmtime::component::InstancePre;

use super::descriptor::PluginDescriptor;
use super::interface::Interface;
use super::{messaging, v0_1};
use crate::call::call_data::CallData;
use trunkline_event::{CallFailure, Emission, Event};

/// A linked component whose exports are looked up.
#[derive(Clone)]
pub(crate) enum LinkedComponent {
    V0_1(v0_1::HandlerComponent),
    Messaging(messaging::MessagingComponent),
}

impl LinkedComponent {
    pub(crate) fn new(interface: Interface, pre: InstancePre<CallData>) -> wasmtime::Result<Self> {
        Ok(match interface {
            Interface::V0_1 => Self::V0_1(v0_1::HandlerComponent::new(pre)?),
            Interface::Messaging => Self::Messaging(messaging::MessagingComponent::new(pre)?),
        })
    }

    /// The name of the interface, with its version.
    pub(crate) const fn interface(&self) -> &'static str {
        match self {
            Self::V0_1(_) => "trunkline:plugin@0.1.0",
            Self::Messaging(_) => "wasi:messaging@0.2.0-draft",
        }
    }

    /// Calls the handler in a fresh instance. The outer error is a trap or a broken rule, the inner one the plugin's
    /// failure.
    pub(crate) async fn handle(
        &self,
        store: &mut Store<CallData>,
        event: &Event,
    ) -> wasmtime::Result<Result<Vec<Emission>, CallFailure>> {
        match self {
            Self::V0_1(component) => component.handle(store, event).await,
            Self::Messaging(component) => component.handle(store, event).await,
        }
    }

    /// Calls `describe` in a fresh instance; `None` when the component does not export it.
    pub(crate) async fn describe(&self, store: &mut Store<CallData>) -> wasmtime::Result<Option<PluginDescriptor>> {
        match self {
            Self::V0_1(component) => component.describe(store).await,
            Self::Messaging(_) => Ok(None),
        }
    }
}
