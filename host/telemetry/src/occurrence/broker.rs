//! The broker: its connection, and the figures of the embedded store.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

/// The state of the connection to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerConnectionState {
    /// There is no session.
    Down,
    /// There is a session, and the broker takes publishes.
    Up,
    /// There is a session, and an alarm of the broker stops publishers.
    Blocked,
}

/// The daemon has opened its broker for the first time or again.
pub fn broker_reconnected() {
    counter!("trunkline_broker_reconnects_total").increment(1);
}

/// The connection to the broker changed.
pub fn broker_status(connection: BrokerConnectionState) {
    let (connected, blocked) = match connection {
        BrokerConnectionState::Down => (0.0, 0.0),
        BrokerConnectionState::Up => (1.0, 0.0),
        BrokerConnectionState::Blocked => (1.0, 1.0),
    };
    gauge!("trunkline_broker_connected").set(connected);
    gauge!("trunkline_broker_blocked").set(blocked);
}

/// The broker showed a certificate that is valid until this time, in seconds since the Unix epoch.
pub fn broker_certificate(expiry: u64) {
    gauge!("trunkline_broker_certificate_expiry_timestamp_seconds").set(expiry as f64);
}

/// One transaction of the embedded store is on disk.
pub fn store_committed(duration: Duration, messages: usize) {
    histogram!("trunkline_store_commit_duration_seconds").record(duration.as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a transaction holds far fewer than 2^52 messages")]
    histogram!("trunkline_store_commit_messages").record(messages as f64);
}

/// The size of the embedded store's file.
pub fn store_size(bytes: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; sizes below 2^52 are exact")]
    gauge!("trunkline_store_bytes").set(bytes as f64);
}
