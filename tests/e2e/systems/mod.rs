//! The systems of `examples/`: each is loaded exactly as it lies there, on both brokers, and its whole story is played
//! through stubs of the outside services.

mod clients;
mod event_broker;
mod example;
mod grading;
mod schemas;
mod stub;
mod voice;
mod whatsapp;
