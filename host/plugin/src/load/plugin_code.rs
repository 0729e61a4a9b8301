//! The machine code that the calls of a loaded plugin use. Optimised code replaces quick code while calls run.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::compile::mode::CodeKind;
use crate::abi::linked::LinkedComponent;

/// A linked component, with the kind of its machine code.
pub(crate) struct PluginCode {
    pub(crate) component: LinkedComponent,
    pub(crate) kind: CodeKind,
}

/// The code for the next call of a plugin.
pub(crate) struct CodeSlot(ArcSwap<PluginCode>);

impl CodeSlot {
    pub(crate) fn new(component: LinkedComponent, kind: CodeKind) -> Self {
        Self(ArcSwap::from_pointee(PluginCode { component, kind }))
    }

    /// The code for a call. The call keeps this code, even when the code is replaced meanwhile.
    pub(crate) fn current(&self) -> Guard<Arc<PluginCode>> {
        self.0.load()
    }

    /// Replaces the code for every call that begins from now on. The old code is freed with its last call.
    pub(crate) fn replace(&self, component: LinkedComponent) {
        self.0.store(Arc::new(PluginCode { component, kind: CodeKind::Optimised }));
    }
}
