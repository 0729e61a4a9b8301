//! Streams of events to HTTP clients.

use metrics::{counter, gauge};

/// A client opened a stream.
pub fn stream_opened() {
    gauge!("trunkline_streams_open").increment(1.0);
}

/// A stream ended.
pub fn stream_closed() {
    gauge!("trunkline_streams_open").decrement(1.0);
}

/// An event was handed to the connection of a stream.
pub fn stream_sent() {
    counter!("trunkline_stream_events_total").increment(1);
}
