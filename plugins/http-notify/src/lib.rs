//! Posts each event unchanged. The address is the event's attribute that config `url-attribute` names, else config
//! `url`. An event without an address is acknowledged. Passing failures are tried again. A refused request, or an
//! address that is not granted, becomes a dead letter.

use std::time::Duration;

use trunkline_plugin::http::Request;
use trunkline_plugin::{Emission, Event, Failure, config, handler};

/// Seconds for each step of a request; config `timeout-s`.
const TIMEOUT_S: f64 = 8.0;

/// Posts the event and emits nothing.
#[handler(description = "Posts events to an address from the configuration or from the event")]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let told = config::get("url-attribute").and_then(|name| event.attribute(&name).map(str::to_owned));
    let Some(url) = told.or_else(|| config::get("url")) else { return Ok(Vec::new()) };
    let timeout = config::number("timeout-s", TIMEOUT_S)?.clamp(0.001, 600.0);
    let mut request = Request::post(&url)
        .body(&event.content_type, event.data)
        .header("idempotency-key", &event.id)
        .timeout(Duration::from_secs_f64(timeout));
    if let Some(token) = config::get("NOTIFY_TOKEN") {
        request = request.header("authorization", &format!("Bearer {token}"));
    }
    request.send()?.ok()?;
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trunkline_plugin::http::{Error, Response};
    use trunkline_plugin::testing;

    use super::*;

    fn notified(attribute: Option<&str>) -> Result<Vec<Emission>, Failure> {
        let mut event = testing::event("any", &json!({ "n": 1 }));
        event.attributes.extend(attribute.map(|url| ("callback-url".to_owned(), url.to_owned())));
        handle(event)
    }

    #[test]
    fn the_events_own_address_comes_first() {
        assert_eq!(notified(None), Ok(vec![]), "no address is set");
        testing::set_http(|request| {
            assert!(request.headers.contains(&("idempotency-key".to_owned(), "event-1".to_owned())));
            assert!(request.headers.contains(&("content-type".to_owned(), "application/json".to_owned())));
            assert_eq!(request.body, br#"{"n":1}"#);
            match request.url.as_str() {
                "http://a.example/one" => Ok(Response { status: 204, ..Response::default() }),
                "http://a.example/other" => Ok(Response { status: 503, ..Response::default() }),
                _ => Err(Error::Refused("not granted".to_owned())),
            }
        });
        testing::set_config("url", "http://a.example/one");
        assert_eq!(notified(Some("http://a.example/other")), Ok(vec![]), "attributes do not count without config");
        testing::set_config("url-attribute", "callback-url");
        assert_eq!(notified(Some("http://a.example/other")), Err(Failure::retry("the server answered 503")));
        assert_eq!(notified(None), Ok(vec![]));
        assert!(matches!(notified(Some("http://b.example/")), Err(Failure::Reject(_))));
    }
}
