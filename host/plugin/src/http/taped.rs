//! Requests that are recorded, and those that a tape answers.

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

use super::body::Bounded;
use super::{Answer, link};
use crate::tape::{End, Exchange, Reply, Tape};

/// A request that goes out and is written down.
pub(super) struct Recording {
    tape: Tape,
    exchange: Exchange,
}

impl Recording {
    /// The request, with a body that is written down as it passes.
    pub(super) fn begin(tape: &Tape, request: Request<WasiBody>) -> (Request<WasiBody>, Self) {
        let exchange = tape.record_request(request.method().clone(), request.uri().clone());
        let request = request.map(|body| copied(body, tape.clone(), exchange, Direction::Up));
        (request, Self { tape: tape.clone(), exchange })
    }

    pub(super) fn answered(self, (response, io): Answer) -> Answer {
        let Self { tape, exchange } = self;
        let (status, headers) = (response.status(), response.headers().clone());
        let end = if response.body().is_end_stream() { End::Whole(None) } else { End::Unread };
        tape.record_reply(exchange, Reply::Response { status, headers, body: Vec::new(), end });
        (response.map(|body| copied(body, tape, exchange, Direction::Down)), io)
    }

    pub(super) fn failed(self, error: &HttpError) {
        // As the library tells the plugin of it.
        let is_protocol = matches!(error, HttpError::Hyper(_));
        let code = if is_protocol { ErrorCode::HttpProtocolError } else { link::code(error) };
        self.tape.record_reply(self.exchange, Reply::Failed(code));
    }
}

/// The answer that is on the tape. The whole request has to be there first, for it is what is looked up.
pub(super) async fn play(
    tape: &Tape,
    request: Request<WasiBody>,
    body_max_bytes: u64,
    deadline: Instant,
) -> Result<Answer, HttpError> {
    let (head, body) = request.into_parts();
    let body = Bounded::request(body, body_max_bytes, deadline, Arc::default());
    let body = body.collect().await?.to_bytes();
    match tape.play_request(&head.method, &head.uri, &body) {
        Reply::Nothing => {
            // The stable plugin waited until its call was over.
            let _never = timeout_at(deadline, std::future::pending::<()>()).await;
            Err(HttpError::HttpResponseTimeout)
        }
        Reply::Failed(code) => Err(code.into()),
        Reply::Response { status, headers, body, end } => {
            let mut response = Response::new(played(tape.clone(), body, end));
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            Ok((response, Box::new(std::future::ready(Ok(())))))
        }
    }
}

/// A body that has what was read, and ends as that did.
fn played(tape: Tape, body: Vec<u8>, end: End) -> WasiBody {
    let data = (!body.is_empty()).then(|| Ok(Frame::data(Bytes::from(body))));
    let last = stream::once(async move {
        match end {
            End::Whole(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            End::Broken(code) => Some(Err(code.into())),
            End::Unread => {
                tape.stray();
                Some(Err(HttpError::HttpResponseIncomplete))
            }
        }
    });
    let frames = stream::StreamExt::chain(stream::iter(data), stream::StreamExt::filter_map(last, std::future::ready));
    UnsyncBoxBody::new(StreamBody::new(frames))
}

#[derive(Clone, Copy)]
enum Direction {
    Up,
    Down,
}

/// A body that is written down as it passes.
struct Copied {
    inner: WasiBody,
    tape: Tape,
    exchange: Exchange,
    direction: Direction,
}

fn copied(inner: WasiBody, tape: Tape, exchange: Exchange, direction: Direction) -> WasiBody {
    UnsyncBoxBody::new(Copied { inner, tape, exchange, direction })
}

impl Copied {
    fn note(&self, frame: Option<&Result<Frame<Bytes>, HttpError>>) {
        match (self.direction, frame) {
            (Direction::Up, Some(Ok(frame))) => {
                self.tape.record_upload(self.exchange, frame.data_ref().map_or(&[], Bytes::as_ref));
            }
            (Direction::Up, None | Some(Err(_))) => {}
            (Direction::Down, Some(Ok(frame))) => match frame.trailers_ref() {
                Some(trailers) => self.tape.record_end(self.exchange, End::Whole(Some(trailers.clone()))),
                None => {
                    self.tape.record_download(self.exchange, frame.data_ref().map_or(&[], Bytes::as_ref));
                    if self.inner.is_end_stream() {
                        self.tape.record_end(self.exchange, End::Whole(None));
                    }
                }
            },
            (Direction::Down, Some(Err(error))) => {
                self.tape.record_end(self.exchange, End::Broken(link::code(error)));
            }
            (Direction::Down, None) => {
                self.tape.record_end(self.exchange, End::Whole(None));
            }
        }
    }
}

impl Body for Copied {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            self.note(frame.as_ref());
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
