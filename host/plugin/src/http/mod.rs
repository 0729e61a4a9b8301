//! `wasi:http/outgoing-handler`: one gate for every request of a plugin.
//!
//! A request goes out only to a granted origin; its name is resolved once, every address of it has to be public or
//! listed, and the connection is made to one of exactly these. The host follows no redirect: the plugin sees it, and a
//! request that it makes to follow one passes the same gate. No proxy of the environment is used, and connections are
//! not kept: nothing of one call reaches the next. Everything ends shortly before the call does, so that the plugin
//! hears of it.

mod body;
mod connect;
mod link;
mod taped;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpHooks};

pub(super) use connect::Tls;
pub(super) use link::link;

use self::body::Bounded;
use self::taped::Recording;
use super::Error;
use super::grants::Services;
use super::tape::Outside;
use trunkline_config::{Allow, Host, Network, Origin};
use trunkline_telemetry::{HostCalls, HostOutcome};

/// Requests of one call at a time; one counts until its response's body is read or dropped.
const AT_A_TIME_MAX: usize = 8;
/// Names and values of a request's headers, and of a response's with its status line.
const HEADERS_MAX_BYTES: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;
/// Requests end by this part of the call's time before it does, and by this much at most.
const MARGIN_SHARE: u32 = 10;
const MARGIN_MAX: Duration = Duration::from_millis(250);

/// Where a plugin's requests may go.
pub(super) struct Gate {
    origins: Vec<Origin>,
    private: Vec<Network>,
    body_max_bytes: u64,
    tls: Option<Tls>,
    calls: Arc<HostCalls>,
}

/// One call's side of it.
pub(super) struct Call {
    pub(super) context: WasiHttpCtx,
    pub(super) hooks: Hooks,
}

/// What the interface asks.
pub(super) struct Hooks {
    gate: Option<Arc<Gate>>,
    outside: Outside,
    event: String,
    deadline: Instant,
    at_a_time: Arc<Semaphore>,
}

/// Why a request did not work out.
pub(super) struct Refusal {
    outcome: HostOutcome,
    why: String,
    error: HttpError,
}

type Answer = (Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>);

impl Refusal {
    fn new(outcome: HostOutcome, error: HttpError, why: impl Into<String>) -> Self {
        Self { outcome, why: why.into(), error }
    }

    fn timeout(error: HttpError) -> Self {
        Self::new(HostOutcome::Timeout, error, "no answer in time")
    }
}

impl Call {
    /// `ends` is when the call is over.
    pub(super) fn new(
        gate: Option<Arc<Gate>>,
        outside: Outside,
        event: &str,
        (ends, limit): (std::time::Instant, Duration),
    ) -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(HEADERS_MAX_BYTES);
        let margin = (limit / MARGIN_SHARE).min(MARGIN_MAX);
        let deadline = Instant::from_std(ends.checked_sub(margin).unwrap_or(ends));
        let at_a_time = Arc::new(Semaphore::new(AT_A_TIME_MAX));
        Self { context, hooks: Hooks { gate, outside, event: event.to_owned(), deadline, at_a_time } }
    }
}

impl WasiHttpHooks for Hooks {
    /// The gate writes it from the granted origin; a plugin's own is refused with the other forbidden headers.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _received: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Result<Answer, HttpError>> + Send> {
        let Some(gate) = self.gate.clone() else {
            return Box::new(async { Err(HttpError::HttpRequestDenied) });
        };
        let options = options.unwrap_or_default();
        let permit = self.at_a_time.clone().try_acquire_owned().ok();
        let (event, deadline, outside) = (self.event.clone(), self.deadline, self.outside.clone());
        Box::new(async move {
            let target = Origin::parse(&shown(request.uri()));
            let name = target.as_ref().map_or_else(|_| "?".to_owned(), ToString::to_string);
            let (sent, recording) = match &outside {
                Outside::Real => (gate.send(target, request, options, (deadline, permit)).await, None),
                Outside::Recorded(tape) => {
                    let (request, recording) = Recording::begin(tape, request);
                    (gate.send(target, request, options, (deadline, permit)).await, Some(recording))
                }
                Outside::Played(tape) => match gate.admit(target, &request) {
                    Ok(_) => return taped::play(tape, request, gate.body_max_bytes, deadline).await,
                    Err(refusal) => (Err(refusal), None),
                },
            };
            match (sent, recording) {
                // Counted when its body ends.
                (Ok(answer), None) => Ok(answer),
                (Ok(answer), Some(recording)) => Ok(recording.answered(answer)),
                (Err(Refusal { outcome, why, error }), recording) => {
                    gate.calls.http_failed(outcome, &event, &name, &why);
                    if let Some(recording) = recording {
                        recording.failed(&error);
                    }
                    Err(error)
                }
            }
        })
    }
}

/// Scheme and authority: paths and queries hold what is nobody's business.
fn shown(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    format!("{}://{authority}", uri.scheme_str().unwrap_or_default())
}

impl Gate {
    pub(super) fn new(
        allow: &Allow,
        body_max_bytes: u64,
        services: &Services,
        calls: Arc<HostCalls>,
    ) -> Result<Self, Error> {
        let needs_tls = allow.http.iter().any(|origin| origin.is_https);
        Ok(Self {
            origins: allow.http.clone(),
            private: allow.private_networks.clone(),
            body_max_bytes,
            tls: if needs_tls { Some(services.tls()?) } else { None },
            calls,
        })
    }

    async fn send(
        &self,
        target: Result<Origin, String>,
        request: Request<WasiBody>,
        options: RequestOptions,
        (deadline, permit): (Instant, Option<OwnedSemaphorePermit>),
    ) -> Result<Answer, Refusal> {
        let target = self.admit(target, &request)?;
        let Some(permit) = permit else {
            let why = format!("{AT_A_TIME_MAX} requests of this call are under way already");
            return Err(Refusal::new(HostOutcome::Limited, HttpError::ConnectionLimitReached, why));
        };
        let by = |wanted: Option<Duration>| {
            wanted.and_then(|wanted| Instant::now().checked_add(wanted)).map_or(deadline, |at| at.min(deadline))
        };
        let stream = self.connect(&target, by(options.connect_timeout)).await?;
        let mut builder = http1::Builder::new();
        builder.max_headers(HEADERS_MAX).max_buf_size(HEADERS_MAX_BYTES);
        let handshake = timeout_at(deadline, builder.handshake(TokioIo::new(stream))).await;
        let (mut sender, connection) =
            handshake.map_err(|_| Refusal::timeout(HttpError::ConnectionTimeout))?.map_err(network)?;
        let worker = wasmtime_wasi::runtime::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of a plugin ended badly");
            }
        });
        let (request, over) = self.outgoing(&target, request, deadline);
        let answer = timeout_at(by(options.first_byte_timeout), sender.send_request(request)).await;
        let response = match answer {
            Err(_elapsed) => return Err(Refusal::timeout(HttpError::HttpResponseTimeout)),
            Ok(Err(_)) if over.load(Ordering::Acquire) => return Err(self.request_too_large()),
            Ok(Err(error)) => return Err(network(error)),
            Ok(Ok(response)) => response,
        };
        if content_length(response.headers()).is_some_and(|length| length > self.body_max_bytes) {
            let why = format!("a response of more than limits.http-body ({} bytes)", self.body_max_bytes);
            let error = HttpError::HttpResponseBodySize(Some(self.body_max_bytes));
            return Err(Refusal::new(HostOutcome::Limited, error, why));
        }
        let calls = self.calls.clone();
        let response = response.map(|body| {
            let bounded = Bounded::response(body, self.body_max_bytes, (options.between_bytes_timeout, deadline));
            UnsyncBoxBody::new(bounded.holding(permit).telling(calls))
        });
        let io = async move {
            worker.await;
            Ok(())
        };
        Ok((response, Box::new(io)))
    }

    /// Whether the request may go out at all.
    fn admit(&self, target: Result<Origin, String>, request: &Request<WasiBody>) -> Result<Origin, Refusal> {
        let refused = |why: String| Refusal::new(HostOutcome::Refused, HttpError::HttpRequestDenied, why);
        let target = target.map_err(|problem| refused(format!("the origin {problem}")))?;
        if matches!(target.host, Host::Below(_)) || !self.origins.iter().any(|origin| origin.covers(&target)) {
            return Err(refused(format!("{target} is not among `allow.http`")));
        }
        if request.method() == Method::CONNECT {
            return Err(refused("a tunnel (CONNECT) is never granted".to_owned()));
        }
        if content_length(request.headers()).is_some_and(|length| length > self.body_max_bytes) {
            return Err(self.request_too_large());
        }
        Ok(target)
    }

    fn request_too_large(&self) -> Refusal {
        let why = format!("a request of more than limits.http-body ({} bytes)", self.body_max_bytes);
        Refusal::new(HostOutcome::Limited, HttpError::HttpRequestBodySize(Some(self.body_max_bytes)), why)
    }

    /// The request as it goes on the wire, and whether its body turned out to be too large.
    fn outgoing(
        &self,
        target: &Origin,
        request: Request<WasiBody>,
        deadline: Instant,
    ) -> (Request<Bounded<WasiBody>>, Arc<AtomicBool>) {
        let over = Arc::new(AtomicBool::new(false));
        let mut request = request.map(|body| Bounded::request(body, self.body_max_bytes, deadline, over.clone()));
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
        let origin = target.to_string();
        let host = origin.split_once("://").map_or("", |(_, host)| host);
        let host = HeaderValue::from_str(host).unwrap_or_else(|_| HeaderValue::from_static(""));
        request.headers_mut().insert(HOST, host);
        (request, over)
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn network(error: hyper::Error) -> Refusal {
    let why = error.to_string();
    Refusal::new(HostOutcome::Failed, HttpError::Hyper(error), why)
}
