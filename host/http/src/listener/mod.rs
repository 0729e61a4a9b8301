//! The connections of clients: their number, their time limits and their end.

mod acceptor;
mod admission;
mod connection;
mod limits;
mod write_timeout;

pub(crate) use acceptor::serve;
