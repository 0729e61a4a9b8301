//! tokio as lapin's runtime, with the gated transport in place of lapin's own TCP stream.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use async_rs::Tokio;
use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream as Items;
use tokio::net::TcpStream;

use super::gated_transport::{GatedTransport, Socket, TransportControl};
use super::loss_header::LossHeader;

/// The tokio runtime of the caller.
#[derive(Debug, Clone)]
pub(crate) struct GateRuntime {
    tokio: Tokio,
    loss_header: LossHeader,
}

impl GateRuntime {
    /// The present runtime. Panics outside tokio.
    pub(crate) fn current(loss_header: LossHeader) -> Self {
        Self { tokio: Tokio::current(), loss_header }
    }
}

impl RuntimeKit for GateRuntime {}

impl Executor for GateRuntime {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.tokio.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(&self, future: F) -> Task<Self::Task<T>> {
        self.tokio.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(&self, work: F) -> Task<Self::Task<T>> {
        self.tokio.spawn_blocking(work)
    }
}

impl Reactor for GateRuntime {
    type TcpStream = GatedTransport;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.tokio.register(socket)
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        self.tokio.sleep(time)
    }

    fn interval(&self, period: Duration) -> impl Items<Item = Instant> + Send + 'static {
        self.tokio.interval(period)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let loss_header = self.loss_header.clone();
        async move {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            Ok(GatedTransport::new(Box::new(Socket(socket)), TransportControl::default(), loss_header))
        }
    }
}
