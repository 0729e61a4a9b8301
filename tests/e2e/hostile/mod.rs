//! Messages that any producer can send: with parts that are too long, with headers that the broker obeys, without an
//! id, or with forged headers of the daemon. Each has one outcome, and other messages are not affected.

mod anonymous;
mod any;
mod forged;
mod oversized;
mod routing_headers;

use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::json;
use trunkline_support::Daemon;

use crate::bench::Bench;

/// The limit for all outcomes. On an idle machine they take a tenth of a second.
const SOON: Duration = Duration::from_secs(30);

/// A producer like other programs.
struct Producer {
    _connection: Connection,
    channel: Channel,
    exchange: String,
}

impl Producer {
    async fn on(bench: &Bench) -> Self {
        let connecting = Connection::connect(&bench.broker, ConnectionProperties::default());
        let connection = connecting.await.expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        Self { _connection: connection, channel, exchange: format!("{}-events", bench.prefix) }
    }

    async fn publish(&self, key: &str, properties: BasicProperties, body: &[u8]) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirm = self.channel.basic_publish(self.exchange.as_str().into(), key.into(), options, body, properties);
        let confirmed = confirm.await.expect("sent").await.expect("confirmed");
        assert!(confirmed.is_ack(), "{key}: {confirmed:?}");
    }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

fn table(headers: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert((*name).into(), value.clone());
    }
    table
}

/// Checks that a good event is not late.
async fn a_good_one_goes_on(daemon: &Daemon, kind: &str) {
    let started = Instant::now();
    let (status, accepted) = daemon.post("/api/v1/events", &json!({ "type": kind, "data": "good" }).to_string());
    assert_eq!(status, 202, "{accepted}");
    let settled = daemon.settled(accepted["id"].as_str().expect("an id")).await;
    assert_eq!(settled["outcome"], "ack", "{settled}");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

/// Checks that the daemon reports itself as healthy.
fn is_well(daemon: &Daemon) {
    let (status, health) = daemon.get("/health");
    let health: serde_json::Value = serde_json::from_str(&health).expect("JSON");
    assert_eq!((status, &health["status"]), (200, &json!("ok")), "{health}");
}
