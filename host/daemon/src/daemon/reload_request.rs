//! A request for a reload, and its result.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::reload::{Generation, RefusedReload};

/// The origin of a request for a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReloadTrigger {
    /// Files changed.
    Watch,
    /// SIGHUP.
    Signal,
    /// `POST /api/v1/reload`.
    Api,
}

impl ReloadTrigger {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Signal => "signal",
            Self::Api => "api",
        }
    }
}

/// The running generation after a reload that was not refused.
#[derive(Clone)]
pub(super) enum AdoptedGeneration {
    /// A new generation.
    Swapped(Arc<Generation>),
    /// The same generation, because nothing changed.
    Unchanged(Arc<Generation>),
}

/// The result of a reload.
pub(super) type ReloadReply = Result<AdoptedGeneration, RefusedReload>;

/// A request for a reload.
pub(super) struct ReloadRequest {
    pub(super) trigger: ReloadTrigger,
    pub(super) reply: Option<oneshot::Sender<ReloadReply>>,
}
