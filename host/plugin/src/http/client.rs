//! The HTTP client of a plugin: the checks of a request, and sending it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody};

use super::body::{BodyLimits, BoundedBody};
use super::connect::Connector;
use super::request_refusal::RequestRefusal;
use super::tls::ClientTls;
use trunkline_config::{Allow, Origin, OriginHost};
use trunkline_telemetry::{HostCallMetrics, HostOutcome};

/// Requests of one call at a time. A request counts until its response's body is read or dropped.
pub(crate) const CONCURRENT_MAX: usize = 8;
/// Bytes of a response's headers with its status line.
const HEADERS_MAX_BYTES: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;

/// The HTTP client of a plugin, for the granted origins.
pub(crate) struct HttpClient {
    origins: Vec<Origin>,
    connector: Connector,
    pub(crate) body_max_bytes: u64,
    pub(crate) calls: Arc<HostCallMetrics>,
}

/// Bounds of one request. Without a permit the call has too many requests already.
pub(crate) struct SendBounds {
    pub(crate) options: RequestOptions,
    pub(crate) deadline: Instant,
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// A response, with the future that drives its connection.
pub(crate) type HttpAnswer = (Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>);

impl HttpClient {
    /// A client for the granted origins. `tls` is needed when one of them has https.
    pub(crate) fn new(allow: &Allow, body_max_bytes: u64, tls: Option<ClientTls>, calls: Arc<HostCallMetrics>) -> Self {
        let connector = Connector::new(allow.private_networks.clone(), tls);
        Self { origins: allow.http.clone(), connector, body_max_bytes, calls }
    }

    /// Sends a request through all checks. The response's body counts the request when it ends.
    pub(crate) async fn send(
        &self,
        target: Result<Origin, String>,
        request: Request<WasiBody>,
        bounds: SendBounds,
    ) -> Result<HttpAnswer, RequestRefusal> {
        let SendBounds { options, deadline, permit } = bounds;
        let target = self.admit(target, &request)?;
        let Some(permit) = permit else {
            let why = format!(
                "{CONCURRENT_MAX} requests of this call are already running; the plugin must wait for one of the responses"
            );
            return Err(RequestRefusal::new(HostOutcome::Limited, HttpError::ConnectionLimitReached, why));
        };
        let by = |wanted: Option<Duration>| {
            wanted.and_then(|wanted| Instant::now().checked_add(wanted)).map_or(deadline, |at| at.min(deadline))
        };
        let stream = self.connector.connect(&target, by(options.connect_timeout)).await?;
        let mut builder = http1::Builder::new();
        builder.max_headers(HEADERS_MAX).max_buf_size(HEADERS_MAX_BYTES);
        let handshake = timeout_at(deadline, builder.handshake(TokioIo::new(stream))).await;
        let (mut sender, connection) =
            handshake.map_err(|_| RequestRefusal::timeout(HttpError::ConnectionTimeout))?.map_err(network)?;
        let worker = wasmtime_wasi::runtime::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection of a plugin ended with an error");
            }
        });
        let (request, is_too_large) = self.outgoing(&target, request, deadline);
        let answer = timeout_at(by(options.first_byte_timeout), sender.send_request(request)).await;
        let response = match answer {
            Err(_elapsed) => return Err(RequestRefusal::timeout(HttpError::HttpResponseTimeout)),
            Ok(Err(_)) if is_too_large.load(Ordering::Acquire) => return Err(self.request_too_large()),
            Ok(Err(error)) => return Err(network(error)),
            Ok(Ok(response)) => response,
        };
        if content_length(response.headers()).is_some_and(|length| length > self.body_max_bytes) {
            let why = format!("the response is larger than limits.http-body ({} bytes)", self.body_max_bytes);
            let error = HttpError::HttpResponseBodySize(Some(self.body_max_bytes));
            return Err(RequestRefusal::new(HostOutcome::Limited, error, why));
        }
        let calls = self.calls.clone();
        let response = response.map(|body| {
            let limits =
                BodyLimits { max_bytes: self.body_max_bytes, silence: options.between_bytes_timeout, deadline };
            UnsyncBoxBody::new(BoundedBody::response(body, limits, permit, calls))
        });
        let io = async move {
            worker.await;
            Ok(())
        };
        Ok((response, Box::new(io)))
    }

    /// The target of a request that may be sent.
    pub(crate) fn admit(
        &self,
        target: Result<Origin, String>,
        request: &Request<WasiBody>,
    ) -> Result<Origin, RequestRefusal> {
        let refused = |why: String| RequestRefusal::new(HostOutcome::Refused, HttpError::HttpRequestDenied, why);
        let target = target.map_err(|problem| refused(format!("the origin {problem}")))?;
        if matches!(target.host, OriginHost::Below(_)) || !self.origins.iter().any(|origin| origin.covers(&target)) {
            return Err(refused(format!("the origin {target} is not in `allow.http`")));
        }
        if request.method() == Method::CONNECT {
            return Err(refused("the method CONNECT opens a tunnel, which no key grants".to_owned()));
        }
        if content_length(request.headers()).is_some_and(|length| length > self.body_max_bytes) {
            return Err(self.request_too_large());
        }
        Ok(target)
    }

    fn request_too_large(&self) -> RequestRefusal {
        let why = format!("the request is larger than limits.http-body ({} bytes)", self.body_max_bytes);
        RequestRefusal::new(HostOutcome::Limited, HttpError::HttpRequestBodySize(Some(self.body_max_bytes)), why)
    }

    /// The request in the form that is sent, with a flag that is set when its body is too large.
    fn outgoing(
        &self,
        target: &Origin,
        request: Request<WasiBody>,
        deadline: Instant,
    ) -> (Request<BoundedBody<WasiBody>>, Arc<AtomicBool>) {
        let is_too_large = Arc::new(AtomicBool::new(false));
        let limits = BodyLimits { max_bytes: self.body_max_bytes, silence: None, deadline };
        let mut request = request.map(|body| BoundedBody::request(body, limits, is_too_large.clone()));
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
        let origin = target.to_string();
        let host = origin.split_once("://").map_or("", |(_, host)| host);
        let host = HeaderValue::from_str(host).unwrap_or_else(|_| HeaderValue::from_static(""));
        request.headers_mut().insert(HOST, host);
        (request, is_too_large)
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn network(error: hyper::Error) -> RequestRefusal {
    let why = error.to_string();
    RequestRefusal::new(HostOutcome::Failed, HttpError::Hyper(error), why)
}
