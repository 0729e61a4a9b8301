//! The end of a channel.

use std::time::Duration;

use lapin::Channel;
use lapin::types::ShortString;
use tokio::time::Instant;

use trunkline_telemetry::wait;

/// The longest wait for a channel that is closing.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// Time between two looks at a channel that is closing.
const CLOSING_PAUSE: Duration = Duration::from_millis(2);
/// `reply-success` of AMQP 0-9-1.
const REPLY_SUCCESS: u16 = 200;

/// Closes a channel that is not used again. An error is ignored, because the channel is gone either way.
pub(crate) async fn close(channel: Channel) {
    let _closed = channel.close(REPLY_SUCCESS, ShortString::default()).await;
    release(channel).await;
}

/// Drops a channel that failed, once its close is complete.
///
/// lapin closes a channel that is dropped while it is still closing by its number. By then the number may belong to
/// another channel.
pub(crate) async fn release(channel: Channel) {
    let deadline = Instant::now() + CLOSE_WITHIN;
    while channel.status().closing() && Instant::now() < deadline {
        wait::after(CLOSING_PAUSE).await;
    }
}
