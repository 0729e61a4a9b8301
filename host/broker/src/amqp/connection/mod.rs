//! From the broker's URL to a session of two connections.

mod amqp_connection;
mod certificate;
mod endpoint;
mod logs;
mod resolver;
mod session;
mod tls;

pub(crate) use amqp_connection::AmqpConnection;
pub(crate) use endpoint::{ConnectError, Endpoint};
pub use logs::{CLIENT_LOG_DIRECTIVES, is_fit_to_log};
pub(crate) use session::{Session, SessionContext};
