//! A connection of lapin's, and the line by which it is ended whatever the broker does.

use std::ops::Deref;
use std::time::Duration;

use lapin::Connection;
use lapin::types::ShortString;

use super::gate::Line;
use crate::Server;

/// Closing hangs while the broker has blocked the connection, or says nothing.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// An open connection. Dropped, it ends at once, with its thread and its socket.
pub(super) struct Link {
    connection: Connection,
    line: Guard,
}

impl Link {
    pub(super) fn new(connection: Connection, line: Guard) -> Self {
        Self { connection, line }
    }

    /// Which broker answered.
    pub(super) fn server(&self) -> Option<&Server> {
        self.line.0.server()
    }

    /// Says goodbye, and ends the connection if the broker does not answer in time.
    pub(super) async fn close(&self) {
        let goodbye = self.connection.close(200, ShortString::default());
        if !matches!(tokio::time::timeout(CLOSE_WITHIN, goodbye).await, Ok(Ok(()))) {
            self.line.0.hang_up();
        }
    }
}

impl Deref for Link {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// Ends a stream when it is dropped: an attempt that is abandoned leaves neither a thread nor a socket behind.
pub(super) struct Guard(pub(super) Line);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.hang_up();
    }
}
