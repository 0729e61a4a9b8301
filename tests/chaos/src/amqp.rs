//! Producer and sinks on RabbitMQ, with connections of their own that bypass the proxy. They reconnect without a limit;
//! the runner decides when the run ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

use crate::hostile::Sighting;
use crate::ledger::{DeadLetter, Output};
use crate::plan::{EXCHANGE, Event, Plan, TARGET_QUEUE};
use crate::source::Source;

/// Connections that publish.
pub const PRODUCERS: usize = 3;
const BATCH: u64 = 200;
const SINK_PREFETCH: u16 = 1000;
const ACK_EVERY: u32 = 100;
const IDLE: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_millis(100);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longer than any alarm.
const CONFIRM_WITHIN: Duration = Duration::from_secs(60);

/// A connection with one channel.
pub struct Link {
    connection: Connection,
    /// The channel.
    pub channel: Channel,
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// When the broker is away.
    pub async fn open(url: &str, name: &str) -> Result<Self> {
        let url = format!("{url}?frame_max=131072&heartbeat=10&connection_timeout=5000");
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connecting = Connection::connect(&url, properties);
        let connection = tokio::time::timeout(CONNECT_WITHIN, connecting).await.context("no connection in time")??;
        let channel = connection.create_channel().await?;
        Ok(Self { connection, channel })
    }

    /// Closes the connection in order, if it is open.
    pub async fn close(self) {
        let _gone = tokio::time::timeout(PAUSE * 10, self.connection.close(200, ShortString::default())).await;
    }
}

/// Publishes until the source ends. Each event is sent with the same id until it is confirmed.
pub async fn produce(source: Arc<Source>, url: String) {
    let mut link = None;
    loop {
        let mut open = source.take(BATCH).await;
        if open.is_empty() {
            return;
        }
        while !open.is_empty() {
            match publish(&mut link, &source, &url, &open).await {
                Ok(confirmed) => open.retain(|event| !confirmed.contains(&event.number)),
                Err(_lost) => link = None,
            }
            if !open.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Publishes a batch, and gives the numbers of the confirmed events. When a message was returned, no event counts,
/// because lapin does not say which one it was.
///
/// # Errors
/// When the broker is away, or goes away before all answers.
pub async fn publish(link: &mut Option<Link>, source: &Source, url: &str, events: &[Event]) -> Result<Vec<u64>> {
    let channel = match link {
        Some(link) => &link.channel,
        None => {
            let opened = Link::open(url, "chaos producer").await?;
            opened.channel.confirm_select(ConfirmSelectOptions::default()).await?;
            &link.insert(opened).channel
        }
    };
    let sending = async {
        let mut confirms = Vec::with_capacity(events.len());
        for event in events {
            source.ledger().attempt(event.number);
            confirms.push((event.number, send(channel, source.plan(), *event).await));
        }
        let mut confirmed = Vec::with_capacity(events.len());
        let mut failed = None;
        let mut is_returned = false;
        for (number, confirm) in confirms {
            let answer = match confirm {
                Ok(confirm) => confirm.await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(Confirmation::Ack(None)) => confirmed.push(number),
                Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(_) | Confirmation::NotRequested) => {
                    is_returned = true;
                }
                Err(error) => failed = Some(error),
            }
        }
        if is_returned {
            confirmed.clear();
        }
        (confirmed, failed)
    };
    let (confirmed, failed) = tokio::time::timeout(CONFIRM_WITHIN, sending).await.context("no confirm in time")?;
    if failed.is_some() {
        *link = None;
    }
    let mut ledger = source.ledger();
    confirmed.iter().for_each(|number| ledger.confirm(*number));
    Ok(confirmed)
}

async fn send(channel: &Channel, plan: &Plan, event: Event) -> lapin::Result<lapin::PublisherConfirm> {
    let mut properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/json".into())
        .with_type(event.route.key().into())
        .with_message_id(plan.id(event.number).into());
    let attributes = Plan::attributes(event);
    if !attributes.is_empty() {
        let mut table = FieldTable::default();
        for (name, text) in attributes {
            table.insert(name.into(), AMQPValue::LongString(text.into()));
        }
        properties = properties.with_headers(table);
    }
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let body = Plan::body(event.number);
    channel.basic_publish(EXCHANGE.into(), event.route.key().into(), options, body.as_bytes(), properties).await
}

/// The content of a queue, for the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Emissions.
    Outputs,
    /// Dead letters.
    Dead,
    /// Results of hostile messages.
    Side,
}

/// Consumes a queue without end.
pub async fn sink(source: Arc<Source>, url: String, queue: String, holds: Holds) {
    loop {
        let _lost = consume(&source, &url, &queue, holds).await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn consume(source: &Source, url: &str, queue: &str, holds: Holds) -> Result<()> {
    let link = Link::open(url, "chaos sink").await?;
    link.channel.basic_qos(SINK_PREFETCH, BasicQosOptions::default()).await?;
    let (options, table) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = link.channel.basic_consume(queue.into(), ShortString::default(), options, table).await?;
    let (mut open, mut last) = (0, 0);
    loop {
        match tokio::time::timeout(IDLE, consumer.next()).await {
            Ok(Some(delivery)) => {
                let delivery = delivery?;
                record(source, &delivery, queue, holds);
                (open, last) = (open + 1, delivery.delivery_tag);
                if open < ACK_EVERY {
                    continue;
                }
            }
            Ok(None) => {
                link.close().await;
                bail!("the queue was deleted");
            }
            Err(_idle) => {}
        }
        if open > 0 {
            link.channel.basic_ack(last, BasicAckOptions { multiple: true }).await?;
            open = 0;
        }
    }
}

/// Notes a delivery of a queue.
pub fn record(source: &Source, delivery: &Delivery, queue: &str, holds: Holds) {
    let id = delivery.properties.message_id().as_ref().map_or("", ShortString::as_str);
    let (redelivered, cause) = (delivery.redelivered, text(delivery, "trunkline-cause"));
    match holds {
        Holds::Outputs => source.ledger().output(Output {
            id,
            cause,
            index: number(delivery, "trunkline-index"),
            digest: text(delivery, "trunkline-plugin-digest"),
            body: &delivery.data,
            redelivered,
        }),
        Holds::Dead => {
            let reason = text(delivery, "trunkline-reason");
            source.ledger().dead(DeadLetter { id, reason, redelivered });
        }
        Holds::Side => {
            let now = source.ledger().now_ms();
            let (reason, names) =
                (text(delivery, "trunkline-reason"), [id.as_bytes(), cause.as_bytes(), &delivery.data]);
            source.hostile().see(Sighting { queue, reason, names, redelivered }, now);
        }
    }
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> Option<&'a AMQPValue> {
    let table = delivery.properties.headers().as_ref()?;
    table.inner().iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value)
}

fn text<'a>(delivery: &'a Delivery, name: &str) -> &'a str {
    let Some(AMQPValue::LongString(text)) = header(delivery, name) else {
        return "";
    };
    std::str::from_utf8(text.as_bytes()).unwrap_or_default()
}

fn number(delivery: &Delivery, name: &str) -> Option<i64> {
    match header(delivery, name) {
        Some(AMQPValue::LongLongInt(number)) => Some(*number),
        Some(AMQPValue::LongInt(number)) => Some(i64::from(*number)),
        Some(_) | None => None,
    }
}

/// Deletes the queue of the direct exchange without losing messages. First the queue gets no more messages, then the
/// sink takes the rest, and only then the queue is deleted. The broker confirms messages that are on their way into a
/// queue that is being deleted; the deletion alone would lose such messages.
///
/// # Errors
/// When the broker refuses, or the queue does not become empty.
pub async fn delete_target(url: &str) -> Result<()> {
    let link = Link::open(url, "chaos operator").await?;
    let (queue, exchange) = (|| TARGET_QUEUE.into(), || "chaos-direct".into());
    link.channel.queue_unbind(queue(), exchange(), "target".into(), FieldTable::default()).await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let mut was_empty = 0;
    for _ in 0..100 {
        let declared = link.channel.queue_declare(queue(), passive, FieldTable::default()).await?;
        was_empty = if declared.message_count() == 0 { was_empty + 1 } else { 0 };
        if was_empty > 3 {
            break;
        }
        tokio::time::sleep(PAUSE / 2).await;
    }
    let only_empty = QueueDeleteOptions { if_empty: true, ..QueueDeleteOptions::default() };
    link.channel.queue_delete(queue(), only_empty).await?;
    link.close().await;
    Ok(())
}

/// Tells whether a listener accepts connections at a URL's address.
pub async fn is_listening(url: &str) -> bool {
    let address = url.rsplit('@').next().and_then(|rest| rest.split('/').next()).unwrap_or_default();
    tokio::net::TcpStream::connect(address).await.is_ok()
}

/// The number of messages in a queue, or none when the queue is missing.
///
/// # Errors
/// When the broker is away.
pub async fn depth(url: &str, queue: &str) -> Result<Option<u32>> {
    let link = Link::open(url, "chaos inspector").await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = link.channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
    let depth = declared.ok().map(|queue| queue.message_count());
    link.close().await;
    Ok(depth)
}
