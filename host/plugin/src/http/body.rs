//! Bodies with limits on their size, on the time between two parts, and on the time of the call.

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
use trunkline_telemetry::{HostCallMetrics, HostOutcome};

/// Limits of one body.
#[derive(Clone, Copy)]
pub(crate) struct BodyLimits {
    pub(crate) max_bytes: u64,
    /// Longest time between two parts.
    pub(crate) silence: Option<Duration>,
    pub(crate) deadline: Instant,
}

/// A body within its limits.
pub(crate) struct BoundedBody<B> {
    inner: B,
    limits: BodyLimits,
    read_bytes: u64,
    sleep: Pin<Box<Sleep>>,
    role: BodyRole,
}

enum BodyRole {
    /// Sent by a plugin. The flag is set when the body is too large, because hyper's error does not say so.
    Request { is_too_large: Arc<AtomicBool> },
    /// Sent by a server. The request is counted when the body ends, and its permit is given back.
    Response { calls: Option<Arc<HostCallMetrics>>, permit: Option<OwnedSemaphorePermit> },
}

impl<B> BoundedBody<B> {
    fn new(inner: B, limits: BodyLimits, role: BodyRole) -> Self {
        let sleep = Box::pin(wait::until(limits.deadline.into_std()));
        let mut body = Self { inner, limits, read_bytes: 0, sleep, role };
        body.restart_silence();
        body
    }

    /// The body of a plugin's request. `is_too_large` is set when the body is larger than its limit.
    pub(crate) fn request(inner: B, limits: BodyLimits, is_too_large: Arc<AtomicBool>) -> Self {
        Self::new(inner, limits, BodyRole::Request { is_too_large })
    }

    /// The body of a server's response. `calls` counts the request when the body ends.
    pub(crate) fn response(
        inner: B,
        limits: BodyLimits,
        permit: OwnedSemaphorePermit,
        calls: Arc<HostCallMetrics>,
    ) -> Self {
        Self::new(inner, limits, BodyRole::Response { calls: Some(calls), permit: Some(permit) })
    }

    fn restart_silence(&mut self) {
        let silent = self.limits.silence.and_then(|silence| Instant::now().checked_add(silence));
        let until = silent.map_or(self.limits.deadline, |silent| silent.min(self.limits.deadline));
        if self.sleep.deadline() != until {
            self.sleep.as_mut().reset(until);
        }
    }

    fn count(&mut self, outcome: HostOutcome) {
        if let BodyRole::Response { calls, .. } = &mut self.role
            && let Some(calls) = calls.take()
        {
            calls.http(outcome);
        }
    }

    fn release_permit(&mut self) {
        if let BodyRole::Response { permit, .. } = &mut self.role {
            *permit = None;
        }
    }

    fn fail(&mut self, outcome: HostOutcome, error: HttpError) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        self.release_permit();
        self.count(outcome);
        Poll::Ready(Some(Err(error)))
    }

    fn fail_too_large(&mut self) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let max_bytes = Some(self.limits.max_bytes);
        let error = match &self.role {
            BodyRole::Request { is_too_large } => {
                is_too_large.store(true, Ordering::Release);
                HttpError::HttpRequestBodySize(max_bytes)
            }
            BodyRole::Response { .. } => HttpError::HttpResponseBodySize(max_bytes),
        };
        self.fail(HostOutcome::Limited, error)
    }

    fn fail_timeout(&mut self) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let error = match &self.role {
            BodyRole::Request { .. } => HttpError::ConnectionWriteTimeout,
            BodyRole::Response { .. } => HttpError::ConnectionReadTimeout,
        };
        self.fail(HostOutcome::Timeout, error)
    }
}

impl<B> Drop for BoundedBody<B> {
    fn drop(&mut self) {
        self.count(HostOutcome::Ok);
    }
}

impl<B> Body for BoundedBody<B>
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
                self.release_permit();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => self.fail(HostOutcome::Failed, error.into()),
            Poll::Ready(Some(Ok(frame))) => {
                self.read_bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
                if self.read_bytes > self.limits.max_bytes {
                    return self.fail_too_large();
                }
                self.restart_silence();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => match self.sleep.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => self.fail_timeout(),
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
