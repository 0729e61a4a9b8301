//! Requests whose replies are recorded, and requests that a recording answers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Request, Response};
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error as HttpError, WasiBody};

use super::body::{BodyLimits, BoundedBody};
use super::client::HttpAnswer;
use super::error_code::code;
use crate::recording::contents::{Recording, RequestIndex};
use crate::recording::http::{BodyEnd, RecordedReply};

/// Records a request that is sent, with its reply.
pub(crate) struct RequestRecorder {
    recording: Recording,
    index: RequestIndex,
}

impl RequestRecorder {
    /// The request, with a body that is recorded while it is sent.
    pub(crate) fn begin(recording: &Recording, request: Request<WasiBody>) -> (Request<WasiBody>, Self) {
        let index = recording.record_request(request.method().clone(), request.uri().clone());
        let request = request.map(|body| recorded(body, recording.clone(), index, Direction::Upload));
        (request, Self { recording: recording.clone(), index })
    }

    /// The answer, with a body that is recorded while it is read.
    pub(crate) fn answered(self, (response, io): HttpAnswer) -> HttpAnswer {
        let Self { recording, index } = self;
        let (status, headers) = (response.status(), response.headers().clone());
        let end = if response.body().is_end_stream() { BodyEnd::Complete(None) } else { BodyEnd::Unread };
        recording.record_reply(index, RecordedReply::Response { status, headers, body: Vec::new(), end });
        (response.map(|body| recorded(body, recording, index, Direction::Download)), io)
    }

    /// Records that the request failed.
    pub(crate) fn failed(self, error: &HttpError) {
        // The same error code that the library gives the plugin.
        let is_protocol = matches!(error, HttpError::Hyper(_));
        let code = if is_protocol { ErrorCode::HttpProtocolError } else { code(error) };
        self.recording.record_reply(self.index, RecordedReply::Failed(code));
    }
}

/// The recorded answer to a request. The whole request is read first, because its body is compared.
pub(crate) async fn answer(
    recording: &Recording,
    request: Request<WasiBody>,
    body_max_bytes: u64,
    deadline: Instant,
) -> Result<HttpAnswer, HttpError> {
    let (head, body) = request.into_parts();
    let limits = BodyLimits { max_bytes: body_max_bytes, silence: None, deadline };
    let body = BoundedBody::request(body, limits, Arc::default());
    let body = body.collect().await?.to_bytes();
    match recording.answer_request(&head.method, &head.uri, &body) {
        RecordedReply::Nothing => {
            // The stable plugin waited until its call ended.
            let _never = timeout_at(deadline, std::future::pending::<()>()).await;
            Err(HttpError::HttpResponseTimeout)
        }
        RecordedReply::Failed(code) => Err(code.into()),
        RecordedReply::Response { status, headers, body, end } => {
            let mut response = Response::new(recorded_body(recording.clone(), body, end));
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            Ok((response, Box::new(std::future::ready(Ok(())))))
        }
    }
}

/// A body with the bytes that the stable plugin read, and with the recorded end.
fn recorded_body(recording: Recording, body: Vec<u8>, end: BodyEnd) -> WasiBody {
    let data = (!body.is_empty()).then(|| Ok(Frame::data(Bytes::from(body))));
    let last = stream::once(async move {
        match end {
            BodyEnd::Complete(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            BodyEnd::Broken(code) => Some(Err(code.into())),
            BodyEnd::Unread => {
                recording.note_other_question();
                Some(Err(HttpError::HttpResponseIncomplete))
            }
        }
    });
    let frames = stream::StreamExt::chain(stream::iter(data), stream::StreamExt::filter_map(last, std::future::ready));
    UnsyncBoxBody::new(StreamBody::new(frames))
}

#[derive(Clone, Copy)]
enum Direction {
    Upload,
    Download,
}

/// A body that is recorded while it is read.
struct RecordedBody {
    inner: WasiBody,
    recording: Recording,
    index: RequestIndex,
    direction: Direction,
}

fn recorded(inner: WasiBody, recording: Recording, index: RequestIndex, direction: Direction) -> WasiBody {
    UnsyncBoxBody::new(RecordedBody { inner, recording, index, direction })
}

impl RecordedBody {
    fn record(&self, frame: Option<&Result<Frame<Bytes>, HttpError>>) {
        match (self.direction, frame) {
            (Direction::Upload, Some(Ok(frame))) => {
                self.recording.record_upload(self.index, frame.data_ref().map_or(&[], Bytes::as_ref));
            }
            (Direction::Upload, None | Some(Err(_))) => {}
            (Direction::Download, Some(Ok(frame))) => match frame.trailers_ref() {
                Some(trailers) => self.recording.record_end(self.index, BodyEnd::Complete(Some(trailers.clone()))),
                None => {
                    self.recording.record_download(self.index, frame.data_ref().map_or(&[], Bytes::as_ref));
                    if self.inner.is_end_stream() {
                        self.recording.record_end(self.index, BodyEnd::Complete(None));
                    }
                }
            },
            (Direction::Download, Some(Err(error))) => {
                self.recording.record_end(self.index, BodyEnd::Broken(code(error)));
            }
            (Direction::Download, None) => {
                self.recording.record_end(self.index, BodyEnd::Complete(None));
            }
        }
    }
}

impl Body for RecordedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            self.record(frame.as_ref());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
