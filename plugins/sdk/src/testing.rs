//! A native harness: events built in a line, log lines and config values kept apart for each test thread.

use std::cell::RefCell;
use std::collections::HashMap;

use serde::Serialize;

use crate::Event;
use crate::log::Level;

thread_local! {
    static LOG: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    static CONFIG: RefCell<HashMap<String, String>> = RefCell::new(HashMap::new());
}

/// An event of a type, with a JSON payload and everything else as plain as possible.
///
/// # Panics
/// When the payload has no JSON form.
#[must_use]
pub fn event<T: Serialize>(kind: &str, data: &T) -> Event {
    Event {
        id: "event-1".to_owned(),
        source: "test".to_owned(),
        kind: kind.to_owned(),
        time: Some("2026-11-21T10:00:00Z".to_owned()),
        content_type: "application/json".to_owned(),
        data: serde_json::to_vec(data).expect("a payload that is JSON"),
        routing_key: kind.to_owned(),
        exchange: "events".to_owned(),
        tenant: Some("org-1".to_owned()),
        user: Some("user-1".to_owned()),
        attempt: 1,
        ..Event::default()
    }
}

/// Sets a config value for this thread.
pub fn set_config(key: &str, value: &str) {
    CONFIG.with_borrow_mut(|values| values.insert(key.to_owned(), value.to_owned()));
}

/// The lines that were logged on this thread since the last call.
#[must_use]
pub fn take_log() -> Vec<(Level, String)> {
    LOG.take()
}

#[cfg(not(target_family = "wasm"))]
pub(crate) fn record_log(level: Level, message: &str) {
    LOG.with_borrow_mut(|lines| lines.push((level, message.to_owned())));
}

#[cfg(not(target_family = "wasm"))]
pub(crate) fn config(key: &str) -> Option<String> {
    CONFIG.with_borrow(|values| values.get(key).cloned())
}
