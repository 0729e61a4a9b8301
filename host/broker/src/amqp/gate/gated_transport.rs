//! The transport that lapin reads and writes: a socket, TLS around it for `amqps`, and the gate around both.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use super::inbound::{Inbound, ReaderEvent};
use super::loss_header::LossHeader;
use super::outbound::{Outbound, OutboundAction};
use crate::BrokerServer;

/// A connected socket with the I/O traits that lapin and its TLS use.
#[derive(Debug)]
pub(crate) struct Socket(pub(crate) TcpStream);

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

/// The transport of the bytes: a socket, or TLS on a socket.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// The control of a transport that lapin owns: ends the transport, and has the facts that the transport learnt.
#[derive(Debug, Clone, Default)]
pub(crate) struct TransportControl(Arc<TransportShared>);

#[derive(Debug, Default)]
struct TransportShared {
    is_over: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
    server: OnceLock<BrokerServer>,
}

impl TransportControl {
    /// Ends the transport. Without it lapin's thread and socket would stay for ever when the peer is silent.
    pub(crate) fn hang_up(&self) {
        self.0.is_over.store(true, Ordering::Release);
        self.0.reader.wake();
        self.0.writer.wake();
    }

    /// Product and version of the broker, once it has named them.
    pub(crate) fn server(&self) -> Option<&BrokerServer> {
        self.0.server.get()
    }

    /// Fails when the transport was ended. The task's waker has to be registered before.
    fn check(&self) -> io::Result<()> {
        if self.0.is_over.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the daemon ended the connection"));
        }
        Ok(())
    }
}

/// The transport in the place of lapin's TCP stream.
pub(crate) struct GatedTransport {
    transport: Box<dyn Transport>,
    control: TransportControl,
    inbound: Inbound,
    outbound: Outbound,
}

impl GatedTransport {
    pub(crate) fn new(transport: Box<dyn Transport>, control: TransportControl, loss_header: LossHeader) -> Self {
        Self { transport, control, inbound: Inbound::new(loss_header), outbound: Outbound::default() }
    }

    /// Takes the facts that the reader learnt.
    fn take_events(&mut self) {
        for event in self.inbound.events.drain(..) {
            match event {
                ReaderEvent::Opened(channel) => self.outbound.opened(channel),
                // A connection has one `connection.start`.
                ReaderEvent::Server(server) => drop(self.control.0.server.set(server)),
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

impl AsyncRead for GatedTransport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        loop {
            let taken = this.inbound.take(out);
            this.take_events();
            match taken {
                Ok(0) if out.is_empty() => return Poll::Ready(Ok(0)),
                Ok(0) => {}
                Ok(bytes) => return Poll::Ready(Ok(bytes)),
                Err(violation) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation))),
            }
            this.control.0.reader.register(cx.waker());
            this.control.check()?;
            let bytes = ready!(Pin::new(&mut this.transport).poll_read(cx, this.inbound.space()))?;
            if bytes == 0 {
                return Poll::Ready(Ok(0));
            }
            this.inbound.filled(bytes);
        }
    }
}

impl AsyncWrite for GatedTransport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.control.0.writer.register(cx.waker());
        this.control.check()?;
        let action = this.outbound.decide(bytes);
        if let Some(frame_max) = this.outbound.frame_max.take() {
            this.inbound.agree(frame_max);
        }
        ready!(this.write_owed(cx))?;
        match action {
            OutboundAction::Write(most) => {
                let written = ready!(Pin::new(&mut this.transport).poll_write(cx, &bytes[..most]))?;
                this.outbound.done(written);
                Poll::Ready(Ok(written))
            }
            OutboundAction::Drop(dropped) => {
                this.outbound.done(dropped);
                Poll::Ready(Ok(dropped))
            }
            OutboundAction::Kept => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.control.0.writer.register(cx.waker());
        this.control.check()?;
        ready!(this.write_owed(cx))?;
        Pin::new(&mut this.transport).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_close(cx)
    }
}
