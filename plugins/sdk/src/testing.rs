//! Support for tests of handlers outside WebAssembly. The module makes sample events, and has log lines, config values,
//! state and HTTP answers for each test thread.

use std::cell::RefCell;
use std::collections::HashMap;

use serde::Serialize;

use crate::Event;
use crate::log::Level;

thread_local! {
    static LOG: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    static CONFIG: RefCell<HashMap<String, String>> = RefCell::new(HashMap::new());
}

/// Creates an event of a type, with a JSON payload and fixed sample values in the other fields.
///
/// # Panics
/// Panics when the payload has no JSON form.
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
        own_id: true,
        ..Event::default()
    }
}

/// Sets a config value for this thread.
pub fn set_config(key: &str, value: &str) {
    CONFIG.with_borrow_mut(|values| values.insert(key.to_owned(), value.to_owned()));
}

/// Returns the log lines of this thread since the last call of this function.
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

/// State in memory, for each test thread.
#[cfg(all(feature = "kv", not(target_family = "wasm")))]
pub(crate) mod state {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use crate::kv::Error;

    thread_local! {
        static VALUES: RefCell<BTreeMap<String, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
        static FAILING: RefCell<Option<String>> = const { RefCell::new(None) };
    }

    pub(super) fn fail(why: Option<&str>) {
        FAILING.set(why.map(str::to_owned));
    }

    fn values<T>(work: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> Result<T, Error>) -> Result<T, Error> {
        match FAILING.with_borrow(Clone::clone) {
            Some(why) => Err(Error(why)),
            None => VALUES.with_borrow_mut(work),
        }
    }

    pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
        values(|values| Ok(values.get(key).cloned()))
    }

    pub(crate) fn set(key: &str, value: &[u8]) -> Result<(), Error> {
        values(|values| {
            values.insert(key.to_owned(), value.to_vec());
            Ok(())
        })
    }

    pub(crate) fn delete(key: &str) -> Result<(), Error> {
        values(|values| {
            values.remove(key);
            Ok(())
        })
    }

    pub(crate) fn exists(key: &str) -> Result<bool, Error> {
        values(|values| Ok(values.contains_key(key)))
    }

    pub(crate) fn keys() -> Result<Vec<String>, Error> {
        values(|values| Ok(values.keys().cloned().collect()))
    }

    pub(crate) fn increment(key: &str, by: i64) -> Result<i64, Error> {
        let before = match get(key)? {
            None => 0,
            Some(bytes) => std::str::from_utf8(&bytes)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or_else(|| Error(format!("{key:?} is not a number")))?,
        };
        let after = before.checked_add(by).ok_or_else(|| Error(format!("{key:?} would not fit 64 bits")))?;
        set(key, after.to_string().as_bytes())?;
        Ok(after)
    }

    pub(crate) fn compare_and_set(key: &str, seen: Option<&[u8]>, value: &[u8]) -> Result<bool, Error> {
        if get(key)?.as_deref() != seen {
            return Ok(false);
        }
        set(key, value)?;
        Ok(true)
    }
}

/// Makes every access to the state fail on this thread with the text `why`. With `None` accesses succeed again.
#[cfg(all(feature = "kv", not(target_family = "wasm")))]
pub fn fail_state(why: Option<&str>) {
    state::fail(why);
}

/// The fake server of this thread.
#[cfg(all(feature = "http", not(target_family = "wasm")))]
pub(crate) mod server {
    use std::cell::RefCell;
    use std::rc::Rc;

    use crate::http::{Error, Request, Response};

    pub(super) type FakeServer = dyn Fn(&Request) -> Result<Response, Error>;

    thread_local! {
        pub(super) static SERVER: RefCell<Option<Rc<FakeServer>>> = const { RefCell::new(None) };
    }

    pub(crate) fn send(request: &Request) -> Result<Response, Error> {
        match SERVER.with_borrow(Clone::clone) {
            Some(server) => server(request),
            None => Err(Error::Refused("no fake server is set; see `testing::set_http`".to_owned())),
        }
    }
}

/// Sets the fake server that answers the requests of this thread.
#[cfg(all(feature = "http", not(target_family = "wasm")))]
pub fn set_http(server: impl Fn(&crate::http::Request) -> Result<crate::http::Response, crate::http::Error> + 'static) {
    server::SERVER.set(Some(std::rc::Rc::new(server)));
}
