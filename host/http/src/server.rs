//! Binding the address and serving the router.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use trunkline_config as config;

use crate::backend::{ApiState, Backend};
use crate::listener;
use crate::request::host_policy::HostPolicy;
use crate::request::ticket::StreamTickets;
use crate::router::router;

/// Largest number of connections that the kernel keeps until the daemon accepts the connections. The number is large, because
/// many clients may reconnect at the same time.
const BACKLOG: u32 = 4096;

/// Binds the address for [`serve`].
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // The address of a daemon that has just ended is available at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop`, then finishes the requests in progress and returns. `ticket_key` signs the tickets of streams. Daemons with
/// the same key accept each other's tickets.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    settings: &config::Http,
    backend: Arc<dyn Backend>,
    ticket_key: [u8; 32],
    stop: CancellationToken,
) -> std::io::Result<()> {
    let shared = ApiState {
        backend,
        tokens: settings.tokens.clone().into(),
        tickets: Arc::new(StreamTickets::new(ticket_key)),
        max_body_bytes: settings.max_body_bytes,
    };
    let router = router(shared, HostPolicy::new(settings));
    listener::serve(listener, router, stop).await
}
