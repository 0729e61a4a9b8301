//! Changes of the set of queues.

use super::commands::QueueSetChange;
use super::shared::BrokerShared;
use crate::embedded::state::{QueueState, unconfigured_queue};
use crate::embedded::store::{Fault, LastRun, MessageStore};

/// Changes the set of queues in the store and then in memory.
pub(crate) fn change_queues(shared: &BrokerShared, store: &MessageStore, change: QueueSetChange) -> Result<(), Fault> {
    let now_ms = shared.clock.now_ms();
    match change {
        QueueSetChange::Add(names) => {
            let stored = store.add_queues(&names)?;
            let mut state = shared.lock();
            for name in names {
                if let Some(stored) = stored.get(name.as_str()).filter(|_| state.number(&name).is_none()) {
                    state.add(QueueState::new(name, unconfigured_queue(), *stored, LastRun::Clean));
                }
            }
            shared.reroute(&state);
        }
        QueueSetChange::AddStream(stream) => {
            let stored = store.add_stream(&stream)?;
            let mut state = shared.lock();
            state.add_stream(&stream, &stored, now_ms);
            shared.reroute(&state);
        }
        QueueSetChange::Remove(numbers) => {
            let names = shared.lock().remove(&numbers);
            store.remove_queues(&names)?;
        }
    }
    Ok(())
}
