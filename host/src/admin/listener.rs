//! Connections: how many there may be at once, how long a client may take to say what it wants and to take the answer,
//! and their end.
//!
//! `axum::serve` bounds none of it, so a few clients that send their headers byte by byte would hold the listener.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::patience::Patient;
use crate::wait::{Loop, Retry};

/// Connections at once; the next ones wait in the kernel's queue until one of them ends.
const CONNECTIONS_MAX: usize = 512;
/// From the first moment of a connection, or from its last answer, to the end of a request's headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// A client that takes nothing of its answer for so long has gone, or wants to hold us.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// What open connections get once the daemon stops: a client that takes nothing must not hold that either.
const END_WITHIN: Duration = Duration::from_secs(5);
/// Bounds the headers of a request, and what of an answer is buffered beside the kernel's own buffers.
const BUFFER_MAX_BYTES: usize = 64 << 10;

/// Serves until `stop`, then answers what is under way and returns.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut accepting = Retry::new(Loop::Accept, "");
    loop {
        let accepted = async {
            // Only closed semaphores refuse, and nobody closes this one.
            let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>((place, listener.accept().await?.0))
        };
        let (place, stream) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    // The loop has no bound: it waits and never gives up.
                    let _never = accepting.pause(&error.to_string()).await;
                    continue;
                }
            },
        };
        accepting.succeeded();
        while connections.try_join_next().is_some() {}
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            answer(stream, router, stop).await;
            drop(place);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn answer(stream: TcpStream, router: Router, stop: CancellationToken) {
    let _unset = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(BUFFER_MAX_BYTES)
        .serve_connection(TokioIo::new(Patient::new(stream, TAKEN_WITHIN)), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(END_WITHIN, connection).await {
                Ok(ended) => ended,
                Err(_elapsed) => return tracing::debug!("a client's connection is cut: the daemon stops"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended badly");
    }
}
