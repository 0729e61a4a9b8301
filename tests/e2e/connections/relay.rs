//! A relay in front of a broker that counts connections and closes them on command.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A running relay; it ends when it is dropped.
pub struct Relay {
    address: SocketAddr,
    accepted: Arc<Mutex<Vec<Instant>>>,
    cuts: watch::Sender<u64>,
    _task: JoinSet<()>,
}

impl Relay {
    /// Starts a relay in front of the broker of a URL with user and virtual host.
    pub async fn start(url: &str) -> Self {
        let upstream = url.rsplit_once('@').and_then(|(_, rest)| rest.split('/').next()).expect("a URL").to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (accepted, cuts) = (Arc::<Mutex<Vec<Instant>>>::default(), watch::Sender::new(0));
        let (counted, ends) = (accepted.clone(), cuts.subscribe());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("a client");
                counted.lock().expect("no panic").push(Instant::now());
                connections.spawn(serve(client, upstream.clone(), ends.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, accepted, cuts, _task: task }
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
}

async fn serve(mut client: TcpStream, upstream: String, mut cuts: watch::Receiver<u64>) {
    cuts.mark_unchanged();
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    tokio::select! {
        _ended = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        _cut = cuts.changed() => {}
    }
}
