//! A time limit for writes.
//!
//! hyper has no time limit for a write to a client that reads nothing. The connection of this client would keep its slot and
//! its buffered response without end.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use trunkline_telemetry::wait;

/// A stream whose writes fail when no byte could be written for `limit`.
pub(super) struct WriteTimeout<S> {
    stream: S,
    /// Bytes that were already read from the stream. The next reads get these bytes first.
    prefix: Bytes,
    limit: Duration,
    /// Timer that runs while the client reads nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteTimeout<S> {
    pub(super) fn new(stream: S, prefix: Bytes, limit: Duration) -> Self {
        Self { stream, prefix, limit, stalled: None }
    }

    fn check<T>(&mut self, cx: &mut Context<'_>, written: Poll<Result<T>>) -> Poll<Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(wait::after(limit)));
        stalled
            .as_mut()
            .poll(cx)
            .map(|()| Err(Error::new(ErrorKind::TimedOut, "the client does not read the response")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let bytes = self.prefix.len().min(buffer.remaining());
        buffer.put_slice(&self.prefix.split_to(bytes));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.check(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.check(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.check(cx, flushed)
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
    async fn a_client_that_takes_nothing_is_disconnected() {
        const LIMIT: Duration = Duration::from_secs(1);
        let (mut client, server) = tokio::io::duplex(8);
        let mut server = WriteTimeout::new(server, Bytes::new(), LIMIT);
        let reading = async {
            // One byte within each limit is enough, however long the whole takes.
            for _ in 0..5 {
                wait::after(LIMIT / 4).await;
                client.read_u8().await.expect("a byte");
            }
        };
        let ((), written) = tokio::join!(reading, server.write_all(&[0; 13]));
        written.expect("all is taken, or in the pipe");
        let began = tokio::time::Instant::now();
        let refused = server.write_all(&[0; 1]).await.expect_err("the client does not read");
        assert_eq!(refused.kind(), ErrorKind::TimedOut);
        assert!(began.elapsed() >= LIMIT);
    }

    #[tokio::test]
    async fn bytes_that_were_read_before_come_first() {
        let (mut client, server) = tokio::io::duplex(8);
        let mut server = WriteTimeout::new(server, Bytes::from_static(b"GET /"), Duration::from_secs(1));
        client.write_all(b"livez").await.expect("written");
        drop(client);
        let mut first = [0; 3];
        server.read_exact(&mut first).await.expect("three bytes");
        let mut rest = String::new();
        server.read_to_string(&mut rest).await.expect("the rest");
        assert_eq!((&first, rest.as_str()), (b"GET", " /livez"));
    }
}
