//! Where a route finds its plugin: one place a name, whose content is replaced while calls run.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Ready;

/// The plugin of a name, as it is now. Cheap to clone; all clones see the same.
#[derive(Clone)]
pub struct Slot(Arc<ArcSwap<Ready>>);

impl Slot {
    /// A place that begins with this plugin.
    #[must_use]
    pub fn new(plugin: Ready) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(plugin)))
    }

    /// The plugin for the next call. Who holds it goes on with it, whatever is put here meanwhile.
    #[must_use]
    pub fn current(&self) -> Arc<Ready> {
        self.0.load_full()
    }

    /// From the next call on this plugin runs.
    pub fn put(&self, plugin: Ready) {
        self.0.store(Arc::new(plugin));
    }
}
