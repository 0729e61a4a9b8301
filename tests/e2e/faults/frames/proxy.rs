//! A proxy that reads frames, between a daemon and a real RabbitMQ.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::book::{Book, Mode, Seen};
use super::wire::{Unit, Units};

/// Units that may wait to be written to the client.
const WAITING_MAX: usize = 1024;
/// The interval in which held confirms are checked.
const LOOK: Duration = Duration::from_millis(2);

/// A running proxy, which ends when it is dropped.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

struct Shared {
    /// Host and port of the broker.
    upstream: String,
    book: Mutex<Book>,
    /// The number of cuts.
    cuts: watch::Sender<u64>,
}

impl Proxy {
    /// Starts a proxy in front of the broker of a URL, with this number of emissions for each event; gives the proxy's
    /// URL too.
    pub(crate) async fn start(url: &str, mode: Mode, emissions: usize) -> (Self, String) {
        let (before, rest) = url.rsplit_once('@').expect("a URL with a user");
        let (upstream, after) = rest.split_once('/').expect("a URL with a virtual host");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let book = Mutex::new(Book::new(mode, emissions));
        let shared = Arc::new(Shared { upstream: upstream.to_owned(), book, cuts: watch::Sender::new(0) });
        let mut task = JoinSet::new();
        task.spawn(accept(listener, shared.clone()));
        (Self { shared, _task: task }, format!("{before}@{address}/{after}"))
    }

    /// The counts so far.
    pub(super) fn seen(&self) -> Seen {
        self.shared.book.lock().expect("no panic in the proxy").seen
    }

    /// Input events that the client acknowledged.
    pub(crate) fn acked(&self) -> u64 {
        self.seen().acked
    }

    /// Acknowledgements that came before the confirms of their events' outputs.
    pub(super) fn early(&self) -> Vec<String> {
        self.shared.book.lock().expect("no panic in the proxy").early.clone()
    }

    /// Ends every connection.
    pub(in crate::faults) fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.expect("a client");
        connections.spawn(serve(client, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    let number = shared.book.lock().expect("no panic in the proxy").connected();
    // The broker is away: the connection of the client ends.
    let Ok(server) = TcpStream::connect(&shared.upstream).await else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("an open socket");
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ended = up(Units::new(from_client), to_server, number, &shared) => {}
        _ended = down(from_server, to_client, number, &shared) => {}
        _cut = cuts.changed() => {}
    }
}

async fn up(
    mut from: Units<OwnedReadHalf>,
    mut to: OwnedWriteHalf,
    number: u64,
    shared: &Shared,
) -> std::io::Result<()> {
    to.write_all(&from.greeting().await?).await?;
    loop {
        let unit = from.next().await?;
        let arrives = shared.book.lock().expect("no panic in the proxy").up(number, &unit);
        if arrives {
            to.write_all(&unit.raw).await?;
        }
    }
}

async fn down(from: OwnedReadHalf, mut to: OwnedWriteHalf, number: u64, shared: &Shared) -> std::io::Result<()> {
    let (sender, mut units) = mpsc::channel::<Unit>(WAITING_MAX);
    let mut reader = JoinSet::new();
    reader.spawn(async move {
        let mut from = Units::new(from);
        while let Ok(unit) = from.next().await {
            if sender.send(unit).await.is_err() {
                return;
            }
        }
    });
    loop {
        let unit = match tokio::time::timeout(LOOK, units.recv()).await {
            Ok(Some(unit)) => Some(unit),
            Ok(None) => return Ok(()),
            Err(_nothing_now) => None,
        };
        let out = shared.book.lock().expect("no panic in the proxy").down(number, unit);
        to.write_all(&out).await?;
    }
}
