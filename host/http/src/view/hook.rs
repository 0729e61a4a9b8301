//! A request to a hook.

use bytes::Bytes;

/// A request to a hook. The token and the signature are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRequest {
    /// The header `Idempotency-Key`.
    pub id: Option<String>,
    /// Media type of the body.
    pub content_type: Option<String>,
    /// `ce-*` headers, without the prefix `ce-`.
    pub cloudevent: Vec<(String, String)>,
    /// The headers that the templates of the hook use, with their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}
