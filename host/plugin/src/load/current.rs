//! The current plugin of a name, which a reload replaces while calls run.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::ready::Ready;

/// Handle of a route to the current plugin of a name. Cheap to clone; all clones share the plugin.
#[derive(Clone)]
pub struct CurrentPlugin(Arc<ArcSwap<Ready>>);

impl CurrentPlugin {
    /// A handle with its first plugin.
    #[must_use]
    pub fn new(plugin: Ready) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(plugin)))
    }

    /// The plugin for the next call. The call keeps this plugin, even when it is replaced meanwhile.
    #[must_use]
    pub fn current(&self) -> Arc<Ready> {
        self.0.load_full()
    }

    /// Replaces the plugin for every call that begins from now on.
    pub fn replace(&self, plugin: Ready) {
        self.0.store(Arc::new(plugin));
    }
}
