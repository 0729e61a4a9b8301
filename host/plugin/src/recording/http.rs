//! HTTP requests of a plugin, and the replies as far as the plugin read them.

use hyper::{HeaderMap, Method, StatusCode, Uri};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

/// A request. Headers are not compared, because libraries of languages differ in them.
pub(crate) struct RecordedRequest {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) body: Vec<u8>,
}

/// The reply to a request, as far as the plugin got it.
#[derive(Clone)]
pub(crate) enum RecordedReply {
    /// No reply came before the call ended.
    Nothing,
    /// The request failed.
    Failed(ErrorCode),
    /// A response, with the part of its body that was read.
    Response { status: StatusCode, headers: HeaderMap, body: Vec<u8>, end: BodyEnd },
}

/// End of a response's body.
#[derive(Clone)]
pub(crate) enum BodyEnd {
    /// The plugin did not read to the end.
    Unread,
    /// The body was read completely. Holds the trailers.
    Complete(Option<HeaderMap>),
    /// The body broke off.
    Broken(ErrorCode),
}
