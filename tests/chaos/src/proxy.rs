//! A TCP proxy that misbehaves on command. It decodes nothing. It keeps the bytes that it holds back, so that the end
//! of a hole looks like the end of a network partition, after which TCP sends again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bytes of one read.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks that may wait in one direction. With more, the sender has to wait.
const CHUNKS_MAX: usize = 256;
/// Writes a second on a throttled connection.
const THROTTLE_STEPS: u64 = 20;

/// The proxy's treatment of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mode {
    /// New connections are reset at once.
    pub refuse: bool,
    /// Nothing is forwarded to the broker.
    pub hole_up: bool,
    /// Nothing is forwarded from the broker.
    pub hole_down: bool,
    /// All bytes are delayed by this time.
    pub delay: Duration,
    /// Bytes a second in each direction.
    pub bytes_per_second: Option<u64>,
    /// Bytes of one write.
    pub slice: Option<usize>,
}

/// Counts of the proxy.
#[derive(Debug, Default)]
struct Totals {
    accepted: AtomicU64,
    refused: AtomicU64,
    cut: AtomicU64,
    bytes: AtomicU64,
    /// Chunks that were delayed, held, throttled or sliced.
    disturbed: AtomicU64,
}

/// A snapshot of the counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Accepted connections.
    pub accepted: u64,
    /// Refused connections.
    pub refused: u64,
    /// Reset connections.
    pub cut: u64,
    /// Forwarded bytes.
    pub bytes: u64,
    /// Chunks that were delayed, held, throttled or sliced.
    pub disturbed: u64,
}

struct Shared {
    mode: watch::Receiver<Mode>,
    /// The number of cuts. A connection ends when it changes.
    cuts: watch::Receiver<u64>,
    totals: Totals,
}

/// A running proxy, which ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    cuts: watch::Sender<u64>,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("the proxy cannot listen")?;
        let address = listener.local_addr()?;
        let (mode, modes) = watch::channel(Mode::default());
        let (cuts, cut) = watch::channel(0);
        let shared = Arc::new(Shared { mode: modes, cuts: cut, totals: Totals::default() });
        let mut task = JoinSet::new();
        task.spawn(accept(listener, upstream, shared.clone()));
        Ok(Self { address, mode, cuts, shared, _task: task })
    }

    /// The address of the listener.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the mode at once.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Forwards all bytes unchanged from now on.
    pub fn heal(&self) {
        self.set(Mode::default());
    }

    /// Resets every connection.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// The counts so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let totals = &self.shared.totals;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Seen {
            accepted: read(&totals.accepted),
            refused: read(&totals.refused),
            cut: read(&totals.cut),
            bytes: read(&totals.bytes),
            disturbed: read(&totals.disturbed),
        }
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else {
                    continue;
                };
                connections.spawn(serve(client, upstream, shared.clone()));
            }
            Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn serve(mut client: TcpStream, upstream: SocketAddr, shared: Arc<Shared>) {
    if shared.mode.borrow().refuse {
        shared.totals.refused.fetch_add(1, Ordering::Relaxed);
        return reset(&client);
    }
    shared.totals.accepted.fetch_add(1, Ordering::Relaxed);
    let mut cuts = shared.cuts.clone();
    cuts.mark_unchanged();
    // The broker is away. A client of the broker itself would be refused; a reset is the closest to that.
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        return reset(&client);
    };
    for stream in [&client, &server] {
        let _slower = stream.set_nodelay(true);
        // At any end of this connection its peer sees a reset, unless the connection was shut down in order before.
        let _milder = stream.set_zero_linger();
    }
    // Borrowed halves, because owned halves send a FIN when they are dropped, which would make a cut an orderly end.
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = pump(from_client, to_server, &shared, true);
    let down = pump(from_server, to_client, &shared, false);
    tokio::select! {
        _changed = cuts.changed() => {
            shared.totals.cut.fetch_add(1, Ordering::Relaxed);
        }
        _ended = async { tokio::join!(up, down) } => {}
    }
}

fn reset(stream: &TcpStream) {
    let _milder = stream.set_zero_linger();
}

/// One direction: a reader that notes when each chunk is due, and a writer that waits for that time.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, shared: &Shared, is_up: bool) {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Bytes)>(CHUNKS_MAX);
    let read = async {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(count) = from.read(&mut buffer).await {
            let due = Instant::now() + shared.mode.borrow().delay;
            let chunk = Bytes::copy_from_slice(&buffer[..count]);
            if count == 0 || sender.send((due, chunk)).await.is_err() {
                break;
            }
        }
        drop(sender);
    };
    let write = async {
        while let Some((due, chunk)) = chunks.recv().await {
            if due > Instant::now() {
                shared.totals.disturbed.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep_until(due).await;
            }
            let length = chunk.len() as u64;
            if forward(&mut to, chunk, shared, is_up).await.is_err() {
                return;
            }
            shared.totals.bytes.fetch_add(length, Ordering::Relaxed);
        }
        let _gone = to.shutdown().await;
    };
    // The end of the reader is not the end of the direction, because its chunks still have to be written.
    tokio::select! {
        () = write => {}
        () = async { read.await; std::future::pending().await } => {}
    }
}

/// Writes one chunk in the mode of each moment.
async fn forward(to: &mut WriteHalf<'_>, mut chunk: Bytes, shared: &Shared, is_up: bool) -> std::io::Result<()> {
    let mut modes = shared.mode.clone();
    let mut was_disturbed = false;
    while !chunk.is_empty() {
        let mode = *modes.borrow_and_update();
        if if is_up { mode.hole_up } else { mode.hole_down } {
            was_disturbed = true;
            let _ended = modes.changed().await;
            continue;
        }
        let per_step = mode.bytes_per_second.map(|rate| usize::try_from(rate / THROTTLE_STEPS).unwrap_or(1).max(1));
        let most = mode.slice.unwrap_or(usize::MAX).min(per_step.unwrap_or(usize::MAX)).max(1);
        was_disturbed |= most != usize::MAX;
        let piece = chunk.split_to(most.min(chunk.len()));
        to.write_all(&piece).await?;
        if per_step.is_some() {
            tokio::time::sleep(Duration::from_millis(1000 / THROTTLE_STEPS)).await;
        } else if mode.slice.is_some() {
            tokio::task::yield_now().await;
        }
    }
    shared.totals.disturbed.fetch_add(u64::from(was_disturbed), Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests;
