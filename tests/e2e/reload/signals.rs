//! F28: signals take effect at once during a start or a reload.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use trunkline_support::{eventually, handmade};

use crate::bench::{Bench, becomes_ready, binary};

/// "At once" on a busy machine. Otherwise it takes 5 s for the broker and half a minute for the compiler.
const AT_ONCE: Duration = Duration::from_secs(3);

const BOMB: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[routes.$P-bomb]
from = "bomb"
plugin = "bomb"
[plugins.bomb]
file = "bomb.wasm"
"#;

/// A process that is killed when it is dropped.
struct Running(Child);

impl Running {
    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status();
        assert!(sent.expect("kill can be run").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A daemon whose first plugin takes a minute to compile.
async fn compiling(bench: &Bench) -> Running {
    std::fs::write(bench.path("bomb.wasm"), handmade::many_blocks(100_000)).expect("a file");
    let (file, log) = (bench.write_routes(BOMB), bench.path("log"));
    let mut command = Command::new(binary());
    command.args(["run", "--listen", "127.0.0.1:0", "--broker", "embedded", "--config"]).arg(file);
    command.arg("--state").arg(bench.state()).stdin(Stdio::null()).stdout(Stdio::null());
    let daemon = Running(command.stderr(std::fs::File::create(&log).expect("a file")).spawn().expect("it runs"));
    let children = format!("/proc/{}/task", daemon.0.id());
    eventually("its compiler", || {
        let tasks = std::fs::read_dir(&children).into_iter().flatten().flatten();
        let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let has_child = children.collect::<String>().split_whitespace().next().is_some();
        async move { has_child.then_some(()) }
    })
    .await;
    daemon
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_a_daemon_that_still_compiles_its_first_plugin() {
    let bench = Bench::embedded();
    let mut daemon = compiling(&bench).await;
    daemon.signal("HUP");
    daemon.signal("TERM");
    let signalled = Instant::now();
    let status = eventually("the end", || {
        let ended = daemon.0.try_wait().expect("it can be asked");
        async move { ended }
    })
    .await;
    println!("{status} after {:?}", signalled.elapsed());
    assert!(signalled.elapsed() < AT_ONCE, "{:?}", signalled.elapsed());
    assert_eq!(status.code(), Some(0), "there was nothing in work");
}

const BEFORE: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[queues.$P-out]
bind = ["echoed", "old"]
[routes.$P-echo]
from = "echo"
plugin = "echo"
"#;

/// Forwards everything until a client unbinds a queue. From then on nothing from the broker is forwarded.
async fn mute_from_unbind(broker: SocketAddr) -> (SocketAddr, Arc<AtomicBool>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, is_mute) = (listener.local_addr().expect("an address"), Arc::new(AtomicBool::new(false)));
    let shared = is_mute.clone();
    let mut proxy = JoinSet::new();
    proxy.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(broker).await.expect("the broker answers");
            connections.spawn(pass(client, server, shared.clone()));
        }
    });
    (address, is_mute, proxy)
}

async fn pass(client: TcpStream, server: TcpStream, is_mute: Arc<AtomicBool>) {
    /// Class and method of `queue.unbind`, at the beginning of a method frame's payload.
    const UNBIND: [u8; 4] = [0, 50, 0, 50];
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let up = async {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            if bytes[..count].windows(4).any(|four| four == UNBIND) {
                is_mute.store(true, Ordering::SeqCst);
            }
            if to_server.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            if is_mute.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            if to_client.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(up, down);
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_are_heard_while_the_broker_does_not_answer_a_reload() {
    let mut bench = Bench::amqp();
    let (rest, path) = bench.broker.trim_start_matches("amqp://").split_once('/').expect("a URL with a path");
    let (login, broker) = rest.split_once('@').expect("a login");
    let (proxy, is_mute, _proxy) = mute_from_unbind(broker.parse().expect("an address")).await;
    bench.broker = format!("amqp://{login}@{proxy}/{path}");
    let daemon = bench.start(BEFORE).await;
    becomes_ready(&daemon, true).await;

    bench.write_routes(&BEFORE.replace(", \"old\"", ""));
    daemon.signal("HUP");
    eventually("the old binding is taken away", || {
        let is_mute = is_mute.load(Ordering::SeqCst);
        async move { is_mute.then_some(()) }
    })
    .await;
    daemon.signal("TERM");
    let signalled = Instant::now();
    daemon.logged("the routes accept no further deliveries").await;
    println!("heard after {:?}", signalled.elapsed());
    assert!(signalled.elapsed() < AT_ONCE, "{:?}", signalled.elapsed());
    // A second signal ends the daemon, which would otherwise wait for the broker.
    daemon.signal("TERM");
    let _status = daemon.ended().await;
}
