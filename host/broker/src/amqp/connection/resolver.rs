//! The broker's host: from a name to a socket.
//!
//! The system's resolver blocks its thread while name servers are silent, and nothing can end it. Look-ups therefore run on
//! one thread of their own. An attempt that comes during a look-up waits for the same answer.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// The addresses of a host, or why there are none.
type LookupResult = Result<Vec<SocketAddr>, String>;
type Lookup = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// Finds the addresses of one host.
pub(crate) struct Resolver {
    host: String,
    port: u16,
    lookup: Lookup,
    /// The look-up that is running.
    running: Mutex<Option<watch::Receiver<Option<LookupResult>>>>,
}

impl Resolver {
    pub(crate) fn new(host: String, port: u16) -> Self {
        Self::with(host, port, Arc::new(|host, port| Ok((host, port).to_socket_addrs()?.collect())))
    }

    fn with(host: String, port: u16, lookup: Lookup) -> Self {
        Self { host, port, lookup, running: Mutex::default() }
    }

    /// The host's addresses at this time. A host that is an address is not looked up. The future may be dropped.
    async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let mut running = self.running()?;
        let answer = running.wait_for(Option::is_some).await.map(|answer| answer.clone());
        *self.running.lock() = None;
        match answer {
            Ok(Some(Ok(addresses))) if !addresses.is_empty() => Ok(addresses),
            Ok(Some(Ok(_))) => Err(self.unknown("the name has no address")),
            Ok(Some(Err(error))) => Err(self.unknown(&error)),
            Ok(None) | Err(_) => Err(self.unknown("the look-up of the name ended without an answer")),
        }
    }

    fn unknown(&self, why: &str) -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, format!("the host `{}` of the broker's URL: {why}", self.host))
    }

    /// The look-up that is running, or a new one.
    fn running(&self) -> io::Result<watch::Receiver<Option<LookupResult>>> {
        let mut running = self.running.lock();
        if let Some(running) = &*running {
            return Ok(running.clone());
        }
        let (sender, receiver) = watch::channel(None);
        let (host, port, lookup) = (self.host.clone(), self.port, self.lookup.clone());
        // A thread of the runtime would hold up the end of the process.
        std::thread::Builder::new().name("look-up".to_owned()).spawn(move || {
            sender.send_replace(Some(lookup(&host, port).map_err(|error| error.to_string())));
        })?;
        *running = Some(receiver.clone());
        Ok(receiver)
    }

    /// Connects to the first address that answers. Each address gets an equal share of the time that is left.
    ///
    /// # Errors
    /// Why no address answered within the time.
    pub(crate) async fn dial(self: Arc<Self>, within: Duration) -> io::Result<TcpStream> {
        let deadline = Instant::now() + within;
        let looked_up = tokio::time::timeout(within, self.addresses()).await;
        let addresses = looked_up.unwrap_or_else(|_elapsed| {
            Err(self.unknown(&format!("no name server answers within {} s", within.as_secs_f32())))
        })?;
        let mut error = None;
        for (at, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - at).unwrap_or(1);
            match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(socket)) => {
                    socket.set_nodelay(true)?;
                    return Ok(socket);
                }
                Ok(Err(failed)) => error = Some(io::Error::new(failed.kind(), format!("{address}: {failed}"))),
                Err(_elapsed) => {
                    // The share differs at each attempt. An error with the share would never be the same error again.
                    let all = within.as_secs_f32();
                    let text = format!("{address}: the broker did not answer; the time for all addresses is {all} s");
                    error = Some(io::Error::new(io::ErrorKind::TimedOut, text));
                }
            }
        }
        Err(error.unwrap_or_else(|| self.unknown("the name has no address")))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn an_address_is_not_looked_up() {
        for (host, address) in [("127.0.0.1", "127.0.0.1:5672"), ("fd00::1", "[fd00::1]:5672")] {
            let never = Arc::new(|_: &str, _| panic!("looked up"));
            let found = Resolver::with(host.to_owned(), 5672, never).addresses().await.expect("an address");
            assert_eq!(found, [address.parse().expect("an address")]);
        }
    }

    /// Every attempt ends in time while a name server hangs, and all attempts share one thread.
    #[tokio::test]
    async fn look_ups_that_hang_share_one_thread() {
        let lookups = Arc::new(AtomicUsize::new(0));
        let (answer, answers) = mpsc::channel::<()>();
        let (counted, answers) = (lookups.clone(), std::sync::Mutex::new(answers));
        let hangs = Arc::new(move |_: &str, port| {
            counted.fetch_add(1, Ordering::Relaxed);
            let _over = answers.lock().expect("one at a time").recv();
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
        });
        let resolver = Arc::new(Resolver::with("broker.test".to_owned(), 1, hangs));
        for _ in 0..50 {
            let error = resolver.clone().dial(Duration::from_millis(5)).await.expect_err("no name server answers");
            assert!(error.to_string().contains("`broker.test` of the broker's URL: no name server answers"), "{error}");
        }
        assert_eq!(lookups.load(Ordering::Relaxed), 1);
        drop(answer);
        let error = resolver.clone().dial(Duration::from_secs(60)).await.expect_err("no server listens there");
        assert!(error.to_string().starts_with("127.0.0.1:1: "), "{error}");
        let again = resolver.addresses().await.expect("an answer");
        assert_eq!((again.len(), lookups.load(Ordering::Relaxed)), (1, 2), "an old answer is not kept");
    }

    #[tokio::test]
    async fn the_first_address_that_answers_is_taken() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let listens = listener.local_addr().expect("an address");
        let two = Arc::new(move |_: &str, _| Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1)), listens]));
        let resolver = Arc::new(Resolver::with("broker.test".to_owned(), 1, two));
        let socket = resolver.dial(Duration::from_secs(60)).await.expect("the second one listens");
        assert_eq!(socket.peer_addr().expect("an address"), listens);
    }
}
