//! The stream that lapin reads and writes: a socket, TLS around it where wanted, and the gate around both.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use super::inbound::{Inbound, Note};
use super::marker::Marker;
use super::outbound::{Outbound, Verdict};
use crate::Server;

/// A connected socket in the traits that lapin and its TLS speak.
#[derive(Debug)]
pub(in crate::amqp) struct Socket(pub(in crate::amqp) TcpStream);

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut out = ReadBuf::new(out);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut out))?;
        Poll::Ready(Ok(out.filled().len()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// What bytes go through: a socket, or TLS on one.
pub(in crate::amqp) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// The other end of a stream, which lapin has and does not give back: ends it, and tells what was learnt from it.
#[derive(Debug, Clone, Default)]
pub(in crate::amqp) struct Line(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
    server: OnceLock<Server>,
}

impl Line {
    /// Ends the stream, whatever the broker does: lapin's thread and the socket would stay for ever behind a peer that says
    /// nothing.
    pub(in crate::amqp) fn hang_up(&self) {
        self.0.is_over.store(true, Ordering::Release);
        self.0.reader.wake();
        self.0.writer.wake();
    }

    /// Which broker answered, once it has.
    pub(in crate::amqp) fn server(&self) -> Option<&Server> {
        self.0.server.get()
    }

    /// To be asked after the task's waker is registered.
    fn check(&self) -> io::Result<()> {
        if self.0.is_over.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was given up"));
        }
        Ok(())
    }
}

/// What lapin takes for its TCP stream.
pub(in crate::amqp) struct Stream {
    transport: Box<dyn Transport>,
    line: Line,
    inbound: Inbound,
    outbound: Outbound,
}

impl Stream {
    pub(in crate::amqp) fn new(transport: Box<dyn Transport>, line: Line, marker: Marker) -> Self {
        Self { transport, line, inbound: Inbound::new(marker), outbound: Outbound::default() }
    }

    /// Takes what the reader learnt.
    fn note(&mut self) {
        for note in self.inbound.notes.drain(..) {
            match note {
                Note::Opened(channel) => self.outbound.opened(channel),
                // There is one `connection.start`.
                Note::Server(server) => drop(self.line.0.server.set(server)),
            }
        }
    }

    fn write_owed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbound.owed().is_empty() {
            let written = ready!(Pin::new(&mut self.transport).poll_write(cx, self.outbound.owed()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outbound.wrote_owed(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        loop {
            let taken = this.inbound.take(out);
            this.note();
            match taken {
                Ok(0) if out.is_empty() => return Poll::Ready(Ok(0)),
                Ok(0) => {}
                Ok(bytes) => return Poll::Ready(Ok(bytes)),
                Err(violation) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation))),
            }
            this.line.0.reader.register(cx.waker());
            this.line.check()?;
            let bytes = ready!(Pin::new(&mut this.transport).poll_read(cx, this.inbound.space()))?;
            if bytes == 0 {
                return Poll::Ready(Ok(0));
            }
            this.inbound.filled(bytes);
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.line.0.writer.register(cx.waker());
        this.line.check()?;
        let verdict = this.outbound.judge(bytes);
        if let Some(frame_max) = this.outbound.frame_max.take() {
            this.inbound.agree(frame_max);
        }
        ready!(this.write_owed(cx))?;
        match verdict {
            Verdict::Write(most) => {
                let written = ready!(Pin::new(&mut this.transport).poll_write(cx, &bytes[..most]))?;
                this.outbound.done(written);
                Poll::Ready(Ok(written))
            }
            Verdict::Drop(dropped) => {
                this.outbound.done(dropped);
                Poll::Ready(Ok(dropped))
            }
            Verdict::Kept => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.line.0.writer.register(cx.waker());
        this.line.check()?;
        ready!(this.write_owed(cx))?;
        Pin::new(&mut this.transport).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_close(cx)
    }
}
