//! The store of one call.

use wasmtime::Store;

use super::call_data::{CallContext, CallData, budget_bytes};
use crate::engine::shared::Engine;

/// A fresh store with the limits of the call.
pub(crate) fn new_store(engine: &Engine, context: CallContext<'_>) -> Store<CallData> {
    let fuel = budget_bytes(context.limits);
    let mut store = Store::new(&engine.engine, CallData::new(context));
    store.limiter(|host| &mut host.memory);
    // The guest gives its thread back at every tick. The time limit around the call then ends it.
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    store.set_hostcall_fuel(fuel);
    store
}
