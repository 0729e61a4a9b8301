//! Second stage of loading: a component whose imports and exports fit.

use bytes::Bytes;
use wasmtime::component::Component;

use super::compiled::Compiled;
use super::error::Error;
use crate::abi::imports;
use crate::abi::interface::{Interface, InterfaceMismatch};
use crate::abi::linked::LinkedComponent;
use crate::engine::shared::Engine;
use trunkline_config as config;

/// A component that is linked with the imports that it is granted.
pub struct Linked {
    pub(crate) component: LinkedComponent,
    pub(crate) digest: String,
    pub(crate) is_cached: bool,
    /// Content of the file, if the code is quick code.
    pub(crate) unoptimised: Option<Bytes>,
}

impl Compiled {
    /// Checks exports and imports, and links the component with the imports that it is granted.
    ///
    /// # Errors
    /// When the component is not a plugin, or imports an interface that is not granted.
    pub fn link(self, engine: &Engine, allow: &config::Allow) -> Result<Linked, Error> {
        let Self { component, digest, is_cached, unoptimised, .. } = self;
        Ok(Linked { component: link(engine, &component, allow)?, digest, is_cached, unoptimised })
    }
}

/// Checks exports and imports, and links a component with the imports that it is granted.
pub(crate) fn link(engine: &Engine, component: &Component, allow: &config::Allow) -> Result<LinkedComponent, Error> {
    let interface = Interface::of(component, &engine.engine).map_err(|mismatch| match mismatch {
        InterfaceMismatch::NoHandler(exports) => Error::World {
            exports: if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") },
            handler: Interface::V0_1.handler(),
        },
        InterfaceMismatch::SeveralHandlers(one, other) => {
            Error::Ambiguous { one: one.handler(), other: other.handler() }
        }
    })?;
    let refused = imports::refused(component, &engine.engine, interface, allow);
    if !refused.is_empty() {
        return Err(Error::Imports(refused.join("; ")));
    }
    let link_error = |error: wasmtime::Error| Error::Link(format!("{error:#}"));
    let linker = imports::granted(&engine.linker, allow).map_err(link_error)?;
    let pre = linker.instantiate_pre(component).map_err(link_error)?;
    LinkedComponent::new(interface, pre).map_err(link_error)
}
