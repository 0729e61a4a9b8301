//! The HTTP requests of one call.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Request, Uri};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpHooks};

use super::client::{CONCURRENT_MAX, HttpAnswer, HttpClient, SendBounds};
use super::recorded::{self, RequestRecorder};
use super::request_refusal::RequestRefusal;
use crate::recording::answers::HostAnswers;
use trunkline_config::Origin;

/// Bytes of names and values of a request's headers.
const HEADERS_MAX_BYTES: usize = 64 * 1024;
/// Requests end by this share of the call's time before the call does, and by this time at most.
const MARGIN_SHARE: u32 = 10;
const MARGIN_MAX: Duration = Duration::from_millis(250);

/// The HTTP interface of one call.
pub(crate) struct HttpCall {
    pub(crate) context: WasiHttpCtx,
    pub(crate) hooks: RequestHooks,
}

/// The function that wasmtime calls for a request of a plugin.
pub(crate) struct RequestHooks {
    client: Option<Arc<HttpClient>>,
    answers: HostAnswers,
    event: String,
    deadline: Instant,
    concurrent: Arc<Semaphore>,
}

impl HttpCall {
    /// The interface of a call that ends at `ends`, within the time limit `limit`.
    pub(crate) fn new(
        client: Option<Arc<HttpClient>>,
        answers: HostAnswers,
        event: &str,
        ends: std::time::Instant,
        limit: Duration,
    ) -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(HEADERS_MAX_BYTES);
        let margin = (limit / MARGIN_SHARE).min(MARGIN_MAX);
        let deadline = Instant::from_std(ends.checked_sub(margin).unwrap_or(ends));
        let concurrent = Arc::new(Semaphore::new(CONCURRENT_MAX));
        Self { context, hooks: RequestHooks { client, answers, event: event.to_owned(), deadline, concurrent } }
    }
}

impl WasiHttpHooks for RequestHooks {
    /// The client writes `host` from the granted origin. A `host` of the plugin is refused with the other forbidden headers.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _received: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Result<HttpAnswer, HttpError>> + Send> {
        let Some(client) = self.client.clone() else {
            return Box::new(async { Err(HttpError::HttpRequestDenied) });
        };
        let options = options.unwrap_or_default();
        let permit = self.concurrent.clone().try_acquire_owned().ok();
        let (event, deadline, answers) = (self.event.clone(), self.deadline, self.answers.clone());
        Box::new(async move {
            let target = Origin::parse(&scheme_and_authority(request.uri()));
            let name = target.as_ref().map_or_else(|_| "?".to_owned(), ToString::to_string);
            let bounds = SendBounds { options, deadline, permit };
            let (sent, recorder) = match &answers {
                HostAnswers::Live => (client.send(target, request, bounds).await, None),
                HostAnswers::LiveRecorded(recording) => {
                    let (request, recorder) = RequestRecorder::begin(recording, request);
                    (client.send(target, request, bounds).await, Some(recorder))
                }
                HostAnswers::Recorded(recording) => match client.admit(target, &request) {
                    Ok(_) => return recorded::answer(recording, request, client.body_max_bytes, deadline).await,
                    Err(refusal) => (Err(refusal), None),
                },
            };
            match (sent, recorder) {
                // The request is counted when the response's body ends.
                (Ok(answer), None) => Ok(answer),
                (Ok(answer), Some(recorder)) => Ok(recorder.answered(answer)),
                (Err(RequestRefusal { outcome, reason, error }), recorder) => {
                    client.calls.http_failed(outcome, &event, &name, &reason);
                    if let Some(recorder) = recorder {
                        recorder.failed(&error);
                    }
                    Err(error)
                }
            }
        })
    }
}

/// The part of a URL that the log shows. Path and query may hold secrets.
fn scheme_and_authority(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    format!("{}://{authority}", uri.scheme_str().unwrap_or_default())
}
