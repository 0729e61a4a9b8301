//! A wish to reload, and what became of it.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::reload::{Generation, Refused};

/// Who asks for a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// Files changed.
    Watch,
    /// SIGHUP.
    Signal,
    /// `POST /api/v1/reload`.
    Api,
}

impl By {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Signal => "signal",
            Self::Api => "api",
        }
    }
}

/// What became of a reload: the generation that runs now, and whether it is a new one.
pub(super) type Answer = Result<(Arc<Generation>, bool), Refused>;

/// A wish to reload.
pub(super) struct Request {
    pub(super) by: By,
    pub(super) reply: Option<oneshot::Sender<Answer>>,
}
