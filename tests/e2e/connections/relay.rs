//! A relay in front of a broker that counts connections and closes them: all on command, and each that sends one of some texts.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A running relay; it ends when it is dropped.
pub struct Relay {
    address: SocketAddr,
    accepted: Arc<Mutex<Vec<Instant>>>,
    cuts: watch::Sender<u64>,
    refusal: Arc<Refusal>,
    _task: JoinSet<()>,
}

/// The texts that end the connection of a client that sends one of them.
#[derive(Default)]
struct Refusal {
    texts: Mutex<Vec<String>>,
    /// The connections that the texts have ended.
    count: AtomicUsize,
}

impl Refusal {
    /// Whether a part of a client's bytes contains one of the texts.
    fn concerns(&self, part: &[u8]) -> bool {
        let texts = self.texts.lock().expect("no panic");
        texts.iter().any(|text| part.windows(text.len()).any(|window| window == text.as_bytes()))
    }
}

impl Relay {
    /// Starts a relay in front of the broker of a URL with user and virtual host.
    pub async fn start(url: &str) -> Self {
        let upstream = url.rsplit_once('@').and_then(|(_, rest)| rest.split('/').next()).expect("a URL").to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (accepted, cuts) = (Arc::<Mutex<Vec<Instant>>>::default(), watch::Sender::new(0));
        let refusal = Arc::<Refusal>::default();
        let (counted, ends, refuses) = (accepted.clone(), cuts.subscribe(), refusal.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("a client");
                counted.lock().expect("no panic").push(Instant::now());
                connections.spawn(serve(client, upstream.clone(), ends.clone(), refuses.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, accepted, cuts, refusal, _task: task }
    }

    /// The URL through the relay, for a user on a virtual host.
    pub fn url(&self, user: &str, vhost: &str) -> String {
        format!("amqp://{user}@{}/{vhost}", self.address)
    }

    /// The times of the connections.
    pub fn accepted(&self) -> Vec<Instant> {
        self.accepted.lock().expect("no panic").clone()
    }

    /// Ends every connection.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Ends each connection that sends one of these texts from now on. No text is empty.
    pub fn refuse(&self, texts: &[&str]) {
        *self.refusal.texts.lock().expect("no panic") = texts.iter().map(|text| (*text).to_owned()).collect();
    }

    /// The number of connections that the texts have ended.
    pub fn refused(&self) -> usize {
        self.refusal.count.load(Ordering::Relaxed)
    }
}

async fn serve(mut client: TcpStream, upstream: String, mut cuts: watch::Receiver<u64>, refusal: Arc<Refusal>) {
    cuts.mark_unchanged();
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    tokio::select! {
        _ended = pass_on(&mut from_client, &mut to_server, &refusal) => {}
        _ended = tokio::io::copy(&mut from_server, &mut to_client) => {}
        _cut = cuts.changed() => {}
    }
}

/// Passes on the bytes of a client until its connection ends, or until the relay refuses a part.
async fn pass_on(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, refusal: &Refusal) -> std::io::Result<()> {
    let mut part = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut part).await?;
        if length == 0 {
            return Ok(());
        }
        if refusal.concerns(&part[..length]) {
            refusal.count.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        to.write_all(&part[..length]).await?;
    }
}
