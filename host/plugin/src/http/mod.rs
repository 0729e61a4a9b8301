//! `wasi:http/outgoing-handler`: one client for every request of a plugin.
//!
//! A request goes to a granted origin only. The name of the origin is resolved once, every address has to be public or
//! listed, and the connection is made to one of exactly these addresses. The host follows no redirect: the plugin gets
//! the response, and the plugin's next request passes the same checks. Proxies of the environment are not used. A connection
//! serves one request, so that nothing of one call reaches the next. Every request ends shortly before its call does, so
//! that the plugin gets the error.

mod body;
pub(crate) mod call;
pub(crate) mod client;
mod connect;
pub(crate) mod error_code;
pub(crate) mod link;
mod recorded;
mod request_refusal;
pub(crate) mod tls;
