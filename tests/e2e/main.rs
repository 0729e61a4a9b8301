//! The end-to-end tests: the real binary, real components, a real RabbitMQ and the embedded broker.

mod admission;
mod api;
mod archive;
mod bad_input;
mod bench;
mod broker_faults;
mod capabilities;
mod conformance;
mod connections;
mod delivery;
mod faults;
mod foreign;
mod guests;
mod hostile;
mod http;
mod languages;
mod lateness;
mod limits;
mod malformed;
mod messaging;
mod reload;
mod rollout;
mod shadows;
mod systems;
mod ten_thousand;
mod tls;
