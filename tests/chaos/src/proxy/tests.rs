//! Tests of the proxy in front of an echo server.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trunkline_support::eventually;

use super::*;

struct Bench {
    proxy: Proxy,
    _echo: JoinSet<()>,
}

async fn bench() -> Bench {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let mut echo = JoinSet::new();
    echo.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ended = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Bench { proxy: Proxy::start(upstream).await.unwrap(), _echo: echo }
}

async fn round_trip(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(bytes).await?;
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).await?;
    Ok(back)
}

async fn is_disturbed(bench: &Bench) {
    eventually("the count", || {
        let seen = bench.proxy.seen();
        async move { (seen.disturbed > 0).then_some(()) }
    })
    .await;
}

#[tokio::test]
async fn it_forwards() {
    let bench = bench().await;
    let mut stream = TcpStream::connect(bench.proxy.address()).await.unwrap();
    assert_eq!(round_trip(&mut stream, b"hello").await.unwrap(), b"hello");
    eventually("the count", || {
        let seen = bench.proxy.seen();
        async move { (seen == Seen { accepted: 1, bytes: 10, ..Seen::default() }).then_some(()) }
    })
    .await;
}

#[tokio::test]
async fn a_cut_is_a_reset_and_the_next_connection_works() {
    let bench = bench().await;
    let mut stream = TcpStream::connect(bench.proxy.address()).await.unwrap();
    round_trip(&mut stream, b"hello").await.unwrap();
    bench.proxy.cut();
    let error = round_trip(&mut stream, b"hello").await.unwrap_err();
    assert!(matches!(error.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe), "{error}");
    let mut next = TcpStream::connect(bench.proxy.address()).await.unwrap();
    assert_eq!(round_trip(&mut next, b"again").await.unwrap(), b"again");
    assert_eq!(bench.proxy.seen().cut, 1);
}

#[tokio::test]
async fn new_connections_can_be_refused() {
    let bench = bench().await;
    bench.proxy.set(Mode { refuse: true, ..Mode::default() });
    // Either connecting or the first use fails, depending on the timing.
    let refused = match TcpStream::connect(bench.proxy.address()).await {
        Ok(mut stream) => round_trip(&mut stream, b"hello").await.is_err(),
        Err(_refused) => true,
    };
    assert!(refused);
    assert_eq!(bench.proxy.seen().refused, 1);
}

#[tokio::test]
async fn a_hole_keeps_what_it_swallows() {
    for mode in [Mode { hole_up: true, ..Mode::default() }, Mode { hole_down: true, ..Mode::default() }] {
        let bench = bench().await;
        let mut stream = TcpStream::connect(bench.proxy.address()).await.unwrap();
        round_trip(&mut stream, b"hello").await.unwrap();
        bench.proxy.set(mode);
        let mut trip = Box::pin(round_trip(&mut stream, b"held"));
        assert!(tokio::time::timeout(Duration::from_millis(100), &mut trip).await.is_err(), "{mode:?}");
        bench.proxy.heal();
        assert_eq!(trip.await.unwrap(), b"held", "as after a partition: late, whole, in order");
        is_disturbed(&bench).await;
    }
}

#[tokio::test]
async fn bytes_can_be_late_slow_and_in_pieces() {
    let bytes: Vec<u8> = (0..4_000).map(|number: u32| number.to_le_bytes()[0]).collect();
    let modes = [
        (Mode { delay: Duration::from_millis(80), ..Mode::default() }, 160),
        (Mode { bytes_per_second: Some(20_000), ..Mode::default() }, 140),
        (Mode { slice: Some(7), ..Mode::default() }, 0),
    ];
    for (mode, at_least_ms) in modes {
        let bench = bench().await;
        bench.proxy.set(mode);
        let mut stream = TcpStream::connect(bench.proxy.address()).await.unwrap();
        let started = Instant::now();
        assert_eq!(round_trip(&mut stream, &bytes).await.unwrap(), bytes, "{mode:?}");
        assert!(started.elapsed() >= Duration::from_millis(at_least_ms), "{mode:?} took {:?}", started.elapsed());
        is_disturbed(&bench).await;
    }
}
