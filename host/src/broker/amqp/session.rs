//! One pair of connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::types::ShortString;
use lapin::{Connection, ConnectionProperties};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::collector::{self, Job};
use crate::broker::{Error, Status};
use crate::event::ExchangeName;

/// A connection that does not come up in this time will not.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Closing hangs while the broker has blocked the connection.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
const CLOSING_PAUSE: Duration = Duration::from_millis(2);
/// Publishes that wait for their channel.
const JOBS_WAITING_MAX: usize = 1024;

/// Set unless the URL says otherwise. Without an explicit `frame_max` lapin's buffers take 7.6 MB a connection, and
/// with its 60 s heartbeat a dead peer is seen after two minutes.
const DEFAULTS: [(&str, &str); 3] = [("frame_max", "131072"), ("heartbeat", "10"), ("connection_timeout", "5000")];

pub(super) struct Session {
    pub(super) number: u64,
    pub(super) consume: Connection,
    pub(super) publish: Connection,
    /// Cancelled when the session is over.
    pub(super) over: CancellationToken,
    pub(super) status: watch::Receiver<Status>,
    collectors: Mutex<HashMap<ExchangeName, mpsc::Sender<Job>>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Session {
    pub(super) async fn connect(url: &str, number: u64, status: watch::Receiver<Status>) -> Result<Self, lapin::Error> {
        let [consume, publish] = [connect(url, "trunkline consume"), connect(url, "trunkline publish")];
        let (consume, publish) = tokio::try_join!(consume, publish)?;
        Ok(Self {
            number,
            consume,
            publish,
            over: CancellationToken::new(),
            status,
            collectors: Mutex::default(),
            tasks: Mutex::default(),
        })
    }

    /// The channel of a destination exchange, opened on first use: a missing exchange closes its channel, and must not
    /// take the confirms of others with it.
    pub(super) fn collector(self: &Arc<Self>, exchange: &ExchangeName) -> mpsc::Sender<Job> {
        let mut collectors = self.collectors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = collectors.get(exchange)
            && !known.is_closed()
        {
            return known.clone();
        }
        let (sender, jobs) = mpsc::channel(JOBS_WAITING_MAX);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(collector::run(self.clone(), exchange.clone(), jobs));
        collectors.insert(exchange.clone(), sender.clone());
        sender
    }

    /// Whether both connections are up.
    pub(super) fn is_connected(&self) -> bool {
        self.consume.status().connected() && self.publish.status().connected()
    }

    /// Ends everything of the session.
    pub(super) async fn close(&self) {
        self.over.cancel();
        self.collectors.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in [&self.publish, &self.consume] {
            let goodbye = connection.close(200, ShortString::default());
            let _lost_already = tokio::time::timeout(CLOSE_WITHIN, goodbye).await;
        }
        let ended = async { while tasks.join_next().await.is_some() {} };
        let _hung = tokio::time::timeout(CLOSE_WITHIN, ended).await;
    }
}

async fn connect(url: &str, name: &str) -> Result<Connection, lapin::Error> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    match tokio::time::timeout(CONNECT_WITHIN, Connection::connect(url, properties)).await {
        Ok(connected) => connected,
        Err(_elapsed) => {
            let text = format!("no answer within {} s", CONNECT_WITHIN.as_secs());
            Err(lapin::ErrorKind::IOError(Arc::new(std::io::Error::other(text))).into())
        }
    }
}

/// Lets go of a channel that failed. lapin closes a channel that is dropped while it is still closing by its number, and
/// by then the number may be another channel's: so it is kept until the close has come to its end.
pub(super) async fn let_go(channel: lapin::Channel) {
    let deadline = tokio::time::Instant::now() + CLOSE_WITHIN;
    while channel.status().closing() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(CLOSING_PAUSE).await;
    }
}

/// The URL with our defaults in its query.
pub(super) fn with_defaults(url: &str) -> Result<String, Error> {
    url.parse::<lapin::uri::AMQPUri>().map_err(|error| Error::Unusable(format!("the broker's URL: {error}")))?;
    let query = url.split_once('?').map(|(_, query)| query);
    let has =
        |name: &str| query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with(&format!("{name}="))));
    let missing = DEFAULTS.iter().filter(|(name, _)| !has(name)).map(|(name, value)| format!("{name}={value}"));
    let missing = missing.collect::<Vec<_>>().join("&");
    let separator = if query.is_some() { "&" } else { "?" };
    Ok(if missing.is_empty() { url.to_owned() } else { format!("{url}{separator}{missing}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_give_way_to_the_url() {
        let plain = with_defaults("amqp://guest:guest@localhost:5672/%2f").expect("valid");
        assert!(plain.ends_with("/%2f?frame_max=131072&heartbeat=10&connection_timeout=5000"), "{plain}");
        let given = with_defaults("amqp://localhost/%2f?heartbeat=3").expect("valid");
        assert!(given.ends_with("?heartbeat=3&frame_max=131072&connection_timeout=5000"), "{given}");
        assert!(with_defaults("http://localhost").is_err());
    }
}
