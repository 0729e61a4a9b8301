//! A connection of lapin together with the control that ends its transport.

use std::ops::Deref;
use std::time::Duration;

use lapin::Connection;
use lapin::types::ShortString;

use crate::BrokerServer;
use crate::amqp::gate::TransportControl;

/// The longest wait for the broker's answer to a close. A broker that has blocked the connection does not answer.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// An open connection. Dropping it ends its thread and its socket at once.
pub(crate) struct AmqpConnection {
    connection: Connection,
    transport: HangUpOnDrop,
}

impl AmqpConnection {
    pub(crate) fn new(connection: Connection, transport: HangUpOnDrop) -> Self {
        Self { connection, transport }
    }

    /// Product and version of the broker.
    pub(crate) fn server(&self) -> Option<&BrokerServer> {
        self.transport.0.server()
    }

    /// Closes the connection, and ends its transport if the broker does not answer in time.
    pub(crate) async fn close(&self) {
        let closing = self.connection.close(200, ShortString::default());
        if !matches!(tokio::time::timeout(CLOSE_WITHIN, closing).await, Ok(Ok(()))) {
            self.transport.0.hang_up();
        }
    }
}

impl Deref for AmqpConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// Ends a transport when it is dropped, so that an abandoned attempt leaves neither a thread nor a socket behind.
pub(crate) struct HangUpOnDrop(pub(crate) TransportControl);

impl Drop for HangUpOnDrop {
    fn drop(&mut self) {
        self.0.hang_up();
    }
}
