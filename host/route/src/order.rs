//! The key within which a route keeps order, and the tenant that an event belongs to.

use super::decide::Decision;
use trunkline_config::OrderBy;
use trunkline_event::{Event, Reason};

/// It is a header of every emission, and part of every key in the state.
const TENANT_MAX_BYTES: usize = 255;

/// The key of an event; what lacks it shares the empty key.
pub(super) fn key(by: &OrderBy, event: &Event) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    match by {
        OrderBy::Tenant => text(&event.tenant),
        OrderBy::User => text(&event.user),
        OrderBy::Subject => text(&event.subject),
        OrderBy::Type => event.kind.clone(),
        OrderBy::Source => event.source.clone(),
        OrderBy::RoutingKey => event.routing_key.clone(),
        OrderBy::Attribute(name) => {
            event.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).unwrap_or_default()
        }
        OrderBy::Data(path) => field(path, &event.data).unwrap_or_default(),
    }
}

/// Whose event it is. One that does not say is let in nowhere: it could reach what another tenant keeps.
pub(super) fn tenant(by: &OrderBy, event: &Event) -> Result<String, Decision> {
    let name = key(by, event);
    if name.is_empty() {
        let error = "the event does not have what `tenant` of the route names";
        return Err(Decision::dead_letter(Reason::Invalid, error));
    }
    if name.len() > TENANT_MAX_BYTES {
        let error = format!("the name of its tenant takes {} bytes; {TENANT_MAX_BYTES} is the most", name.len());
        return Err(Decision::dead_letter(Reason::Invalid, error));
    }
    Ok(name)
}

/// A field of JSON data; numbers and the like as JSON writes them.
fn field(path: &[String], data: &[u8]) -> Option<String> {
    let mut value: &serde_json::Value = &serde_json::from_slice(data).ok()?;
    for name in path {
        value = value.get(name)?;
    }
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Null => None,
        serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => Some(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_data() {
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let data = br#"{"call":{"id":"c-1","n":7,"none":null}}"#;
        assert_eq!(field(&path("call.id"), data).as_deref(), Some("c-1"));
        assert_eq!(field(&path("call.n"), data).as_deref(), Some("7"));
        assert_eq!(field(&path("call.none"), data), None);
        assert_eq!(field(&path("call.id.x"), data), None);
        assert_eq!(field(&path("id"), b"no json"), None);
    }
}
