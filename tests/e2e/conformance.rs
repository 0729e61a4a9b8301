//! The broker contract: the same cases on RabbitMQ and on the embedded broker.

mod cases;
mod settlement;
