//! The systems of `examples/`. Each runs with its own files on both brokers, and its whole story is played with stubs
//! of the outside services.

mod applications;
mod beside;
mod clients;
mod event_broker;
mod example;
mod grading;
mod handover;
mod schemas;
mod stub;
mod voice;
mod whatsapp;
