//! Producer and sink on the embedded broker. Events go in through the daemon's HTTP API. Other processes cannot consume
//! from the embedded broker, so the harness opens the store with the broker's library while no daemon runs. It does so
//! after an orderly end only: after a kill the daemon's own recovery must be the first to open the store.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use trunkline_broker::{Broker, Delivery, Next, NothingPublished, Settlement};
use trunkline_config::{self as config, Config, Sources};
use trunkline_event::QueueName;

use crate::amqp::Holds;
use crate::hostile::Sighting;
use crate::http::Client;
use crate::ledger::{DeadLetter, Output};
use crate::plan::{DEAD_LETTER_QUEUES, Event, OUTPUT_QUEUE, TARGET_QUEUE};
use crate::side;
use crate::source::Source;

/// The number of publishing connections, because so many events share one sync.
pub const PRODUCERS: usize = 192;
const PAUSE: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_millis(300);
const CLOSE_WITHIN: Duration = Duration::from_secs(30);
const PREFETCH: u16 = 2000;

/// The queues to empty, and their content.
pub const SINKS: [(&str, Holds); 4] = [
    (OUTPUT_QUEUE, Holds::Outputs),
    (TARGET_QUEUE, Holds::Outputs),
    (DEAD_LETTER_QUEUES[0], Holds::Dead),
    (DEAD_LETTER_QUEUES[1], Holds::Dead),
];

/// Publishes until the source ends. Each event is sent with the same id until it is accepted.
pub async fn produce(source: Arc<Source>, address: SocketAddr) {
    let mut client = Client::new(address);
    loop {
        let events = source.take(1).await;
        let Some(event) = events.first() else {
            return;
        };
        while !publish(&mut client, &source, *event).await {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Publishes one event, and tells whether it was accepted.
pub async fn publish(client: &mut Client, source: &Source, event: Event) -> bool {
    let body = source.plan().request(event).to_string();
    source.ledger().attempt(event.number);
    let is_accepted = matches!(client.post("/api/v1/events", &body).await, Ok((202, _)));
    if is_accepted {
        source.ledger().confirm(event.number);
    }
    is_accepted
}

/// The checked form of routes.toml, as the daemon reads it.
///
/// # Errors
/// When the file is wrong.
pub fn config(routes: &Path, state: &Path, broker: &str) -> Result<Config> {
    let sources = Sources {
        file: routes.to_owned(),
        environment: std::collections::BTreeMap::new(),
        broker_url: Some(broker.to_owned()),
        listen: None,
        state_dir: Some(state.to_owned()),
        insecure: false,
    };
    match config::load(&sources) {
        Ok(loaded) => Ok(loaded.config),
        Err(rejected) => bail!("{}", rejected.render(false)),
    }
}

/// Opens the broker as the daemon does, which declares the topology.
///
/// # Errors
/// When the store cannot be opened.
pub async fn open(config: &Config) -> Result<Broker> {
    let broker = Broker::open(&config.broker, Arc::new(config.topology.clone()), &config.state_dir).await?;
    let mut status = broker.status();
    let connected = status.wait_for(|status| status.connected);
    tokio::time::timeout(CLOSE_WITHIN, connected).await.context("the broker did not open in time")??;
    Ok(broker)
}

/// Closes the broker in order.
pub async fn close(broker: Broker) {
    broker.close(CLOSE_WITHIN).await;
}

/// Empties the output and dead-letter queues.
///
/// # Errors
/// When the store cannot be opened or read.
pub async fn drain(source: &Source, config: &Config) -> Result<u64> {
    let broker = open(config).await?;
    let mut taken = 0;
    let aside = side::QUEUES.into_iter().chain([side::LOOKED_DEAD]).map(|queue| (queue, Holds::Side));
    // Reading an empty queue costs a wait.
    let full: Vec<String> = depths(&broker).into_iter().map(|(queue, _)| queue).collect();
    for (queue, holds) in SINKS.into_iter().chain(aside).filter(|(queue, _)| full.iter().any(|full| full == queue)) {
        taken += drain_queue(source, &broker, &QueueName::new(queue)?, holds).await?;
    }
    close(broker).await;
    Ok(taken)
}

/// Takes messages of a queue and returns them, `times` times; gives the number of redelivered messages.
///
/// # Errors
/// When the store cannot be opened or read.
pub async fn look(config: &Config, queue: &str, times: usize) -> Result<usize> {
    let broker = open(config).await?;
    let queue = QueueName::new(queue)?;
    let mut again = 0;
    for _ in 0..times {
        let mut subscription = broker.subscribe(&queue, PREFETCH, "chaos").await?;
        while let Ok(next) = tokio::time::timeout(IDLE / 10, subscription.next()).await {
            match next {
                Next::Delivery(delivery) => again += usize::from(delivery.redelivered || delivery.delivery_count > 0),
                Next::Cancelled(reason) | Next::Ended(reason) => bail!("{queue}: {reason}"),
            }
        }
        subscription.close().await?;
    }
    close(broker).await;
    Ok(again)
}

async fn drain_queue(source: &Source, broker: &Broker, queue: &QueueName, holds: Holds) -> Result<u64> {
    let mut subscription = broker.subscribe(queue, PREFETCH, "chaos").await?;
    let mut taken = 0;
    loop {
        match tokio::time::timeout(IDLE, subscription.next()).await {
            Ok(Next::Delivery(delivery)) => {
                record(source, &delivery, queue, holds);
                taken += 1;
                delivery.settle(Settlement::Nothing(NothingPublished::Duplicate));
            }
            Ok(Next::Cancelled(reason) | Next::Ended(reason)) => bail!("{queue}: {reason}"),
            Err(_idle) => break,
        }
    }
    subscription.close().await?;
    Ok(taken)
}

fn record(source: &Source, delivery: &Delivery, queue: &QueueName, holds: Holds) {
    let properties = &delivery.message.properties;
    let id = properties.message_id.as_deref().unwrap_or_default();
    let text = |name| properties.headers.text(name).unwrap_or_default();
    let body = &delivery.message.body[..];
    // Only the harness takes these messages, and every drain ends in order. The flag would only say that the daemon was
    // killed.
    let redelivered = false;
    let (cause, reason) = (text("trunkline-cause"), text("trunkline-reason"));
    match holds {
        Holds::Outputs => source.ledger().output(Output {
            id,
            cause,
            index: properties.headers.int("trunkline-index"),
            digest: text("trunkline-plugin-digest"),
            body,
            redelivered,
        }),
        Holds::Dead => source.ledger().dead(DeadLetter { id, reason, redelivered }),
        Holds::Side => {
            let (now, names) = (source.ledger().now_ms(), [id.as_bytes(), cause.as_bytes(), body]);
            source.hostile().see(Sighting { queue: queue.as_str(), reason, names, redelivered }, now);
        }
    }
}

/// Queues that are not empty.
fn depths(broker: &Broker) -> Vec<(String, u64)> {
    let depths = broker.queue_depths().into_iter();
    let waiting = depths.map(|(queue, depth)| (queue.to_string(), depth.ready + depth.unacknowledged));
    waiting.filter(|(_, count)| *count > 0).collect()
}

/// Messages in queues that should be empty, of an open broker.
#[must_use]
pub fn left(broker: &Broker) -> Vec<String> {
    depths(broker).into_iter().map(|(queue, count)| format!("{queue}: {count}")).collect()
}
