//! The running daemon: it owns the broker, the engine, the route tasks and the listener.
//!
//! Start: listen, open the broker, load plugins, run routes. A plugin that cannot run stops only its own routes. `control`
//! owns every later change: a whole generation is prepared beside the running one and then adopted or refused. Stop: the
//! routes drain, the broker delivers unfinished messages again, then the listener and the broker end.

mod backend;
mod control;
mod former_retry_queues;
mod former_state_dir;
mod phase;
mod queue_poll;
mod queue_views;
mod reload_request;
mod removable_queues;
mod run;
mod scrape;
mod signals;
mod state;
mod state_dir;
mod threads;
mod views;

pub use run::{RunOutcome, RunSettings, run};
pub use state_dir::take_state_dir;
pub use threads::{IDLE_THREAD_ENDS_AFTER, room_for_threads};
pub use trunkline_broker::amqp::{CLIENT_LOG_DIRECTIVES, is_fit_to_log};
pub use trunkline_broker::embedded::{RepairReport, repair};
