//! The systems of `examples/`: each is loaded exactly as it lies there, on both brokers, and its whole story is played
//! through stubs of the outside services.

mod example;
mod foreign;
mod grading;
mod schemas;
mod stub;
mod whatsapp;
