//! A connection whose client has to take what it is sent.
//!
//! hyper waits for ever to write to a client that reads nothing, and such a connection would hold its place, and what it
//! was to be sent, for as long as the client likes.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use trunkline_telemetry::wait;

/// Ends with an error when nothing could be written for so long.
pub(super) struct Patient<S> {
    stream: S,
    /// What was read of it before; it comes first.
    begun: Bytes,
    patience: Duration,
    /// Runs while the client takes nothing.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, begun: Bytes, patience: Duration) -> Self {
        Self { stream, begun, patience, stuck: None }
    }

    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<Result<T>>) -> Poll<Result<T>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let patience = self.patience;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(wait::after(patience)));
        stuck.as_mut().poll(cx).map(|()| Err(Error::new(ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if self.begun.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let bytes = self.begun.len().min(buffer.remaining());
        buffer.put_slice(&self.begun.split_to(bytes));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn only_a_client_that_takes_nothing_is_too_slow() {
        const PATIENCE: Duration = Duration::from_secs(1);
        let (mut client, ours) = tokio::io::duplex(8);
        let mut ours = Patient::new(ours, Bytes::new(), PATIENCE);
        let reading = async {
            // A byte now and then is enough, however long it all takes.
            for _ in 0..5 {
                wait::after(PATIENCE / 4).await;
                client.read_u8().await.expect("a byte");
            }
        };
        let ((), written) = tokio::join!(reading, ours.write_all(&[0; 13]));
        written.expect("all is taken, or in the pipe");
        let began = tokio::time::Instant::now();
        let refused = ours.write_all(&[0; 1]).await.expect_err("nobody reads");
        assert_eq!(refused.kind(), ErrorKind::TimedOut);
        assert!(began.elapsed() >= PATIENCE);
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first() {
        let (mut client, ours) = tokio::io::duplex(8);
        let mut ours = Patient::new(ours, Bytes::from_static(b"GET /"), Duration::from_secs(1));
        client.write_all(b"livez").await.expect("written");
        drop(client);
        let mut first = [0; 3];
        ours.read_exact(&mut first).await.expect("three bytes");
        let mut rest = String::new();
        ours.read_to_string(&mut rest).await.expect("the rest");
        assert_eq!((&first, rest.as_str()), (b"GET", " /livez"));
    }
}
