//! Bodies that end: by size, by silence, and with the call.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::Error as HttpError;

use trunkline_telemetry::wait;
use trunkline_telemetry::{HostCalls, HostOutcome};

/// A body with its bounds.
pub(super) struct Bounded<B> {
    inner: B,
    max_bytes: u64,
    read_bytes: u64,
    is_response: bool,
    silence: Option<Duration>,
    deadline: Instant,
    sleep: Pin<Box<Sleep>>,
    over: Arc<AtomicBool>,
    calls: Option<Arc<HostCalls>>,
    /// Given back when the body is read or dropped.
    permit: Option<OwnedSemaphorePermit>,
}

impl<B> Bounded<B> {
    fn new(inner: B, max_bytes: u64, (silence, deadline): (Option<Duration>, Instant), is_response: bool) -> Self {
        let mut body = Self {
            inner,
            max_bytes,
            read_bytes: 0,
            is_response,
            silence,
            deadline,
            sleep: Box::pin(wait::until(deadline.into_std())),
            over: Arc::default(),
            calls: None,
            permit: None,
        };
        body.heard();
        body
    }

    /// What a plugin sends. `over` is set when it is too much, which hyper's error does not tell.
    pub(super) fn request(inner: B, max_bytes: u64, deadline: Instant, over: Arc<AtomicBool>) -> Self {
        let mut body = Self::new(inner, max_bytes, (None, deadline), false);
        body.over = over;
        body
    }

    /// What a server sends, with no longer silence between two parts.
    pub(super) fn response(inner: B, max_bytes: u64, times: (Option<Duration>, Instant)) -> Self {
        Self::new(inner, max_bytes, times, true)
    }

    pub(super) fn holding(mut self, permit: OwnedSemaphorePermit) -> Self {
        self.permit = Some(permit);
        self
    }

    /// Counts the request when the body ends, as what came of it.
    pub(super) fn telling(mut self, calls: Arc<HostCalls>) -> Self {
        self.calls = Some(calls);
        self
    }

    fn heard(&mut self) {
        let silent = self.silence.and_then(|silence| Instant::now().checked_add(silence));
        let until = silent.map_or(self.deadline, |silent| silent.min(self.deadline));
        if self.sleep.deadline() != until {
            self.sleep.as_mut().reset(until);
        }
    }

    fn fail(&mut self, outcome: HostOutcome, error: HttpError) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        self.permit = None;
        if let Some(calls) = self.calls.take() {
            calls.http(outcome);
        }
        Poll::Ready(Some(Err(error)))
    }

    fn too_large(&self) -> HttpError {
        match self.is_response {
            true => HttpError::HttpResponseBodySize(Some(self.max_bytes)),
            false => HttpError::HttpRequestBodySize(Some(self.max_bytes)),
        }
    }
}

impl<B> Drop for Bounded<B> {
    fn drop(&mut self) {
        if let Some(calls) = self.calls.take() {
            calls.http(HostOutcome::Ok);
        }
    }
}

impl<B> Body for Bounded<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<HttpError>,
{
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(None) => {
                self.permit = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => self.fail(HostOutcome::Failed, error.into()),
            Poll::Ready(Some(Ok(frame))) => {
                self.read_bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
                if self.read_bytes > self.max_bytes {
                    self.over.store(true, Ordering::Release);
                    let error = self.too_large();
                    return self.fail(HostOutcome::Limited, error);
                }
                self.heard();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => match self.sleep.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) if self.is_response => {
                    self.fail(HostOutcome::Timeout, HttpError::ConnectionReadTimeout)
                }
                Poll::Ready(()) => self.fail(HostOutcome::Timeout, HttpError::ConnectionWriteTimeout),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
