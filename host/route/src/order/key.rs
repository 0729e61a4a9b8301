//! The ordering key and the tenant of an event.

use trunkline_config::OrderBy;
use trunkline_event::Event;

/// Longest tenant: the tenant is a header of every emission, and part of every key in the state.
const TENANT_MAX_BYTES: usize = 255;

/// The value of a field of an event. The result is `None` if the event has no value or an empty value.
pub(crate) fn key(by: &OrderBy, event: &Event) -> Option<String> {
    let value = match by {
        OrderBy::Tenant => event.tenant.clone(),
        OrderBy::User => event.user.clone(),
        OrderBy::Subject => event.subject.clone(),
        OrderBy::Type => Some(event.kind.clone()),
        OrderBy::Source => Some(event.source.clone()),
        OrderBy::RoutingKey => Some(event.routing_key.clone()),
        OrderBy::Attribute(name) => {
            event.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        }
        OrderBy::Data(path) => field(path, &event.data),
    };
    value.filter(|value| !value.is_empty())
}

/// The tenant of an event. An event without a tenant is not let in, because it could reach the state of another tenant.
///
/// # Errors
/// A sentence that says what is wrong with the name.
pub(crate) fn tenant(by: &OrderBy, event: &Event) -> Result<String, String> {
    let Some(name) = key(by, event) else {
        return Err(format!("the event has no value for `{by}`, which `tenant` of the route names"));
    };
    if name.len() > TENANT_MAX_BYTES {
        return Err(format!("the name of the tenant has {} bytes; the limit is {TENANT_MAX_BYTES} bytes", name.len()));
    }
    Ok(name)
}

/// A field of JSON data. A value that is not a text is given as JSON.
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
    use trunkline_config::Codec;
    use trunkline_event::{ExchangeName, HeaderValue, Message, Properties, RoutingKey};

    /// The event of a message with one header.
    fn event(name: &'static str, value: impl Into<HeaderValue>) -> Event {
        let mut message = Message {
            exchange: ExchangeName::new("events").expect("valid"),
            routing_key: RoutingKey::new("a.b").expect("valid"),
            properties: Properties::default(),
            body: bytes::Bytes::from_static(br#"{"n":0,"empty":""}"#),
        };
        message.properties.headers.set(name, value);
        crate::codec::decode(Codec::Raw, &message, 1 << 10).expect("valid")
    }

    #[test]
    fn a_missing_value_and_an_empty_value_are_no_key() {
        let attribute = OrderBy::Attribute("customer".to_owned());
        for (value, expected) in [
            (HeaderValue::Int(42), Some("42")),
            (HeaderValue::Bool(false), Some("false")),
            (HeaderValue::from("c-1"), Some("c-1")),
            (HeaderValue::from(""), None),
            (HeaderValue::Null, None),
            (HeaderValue::List(vec!["c-1".into()]), None),
        ] {
            assert_eq!(key(&attribute, &event("customer", value.clone())).as_deref(), expected, "{value:?}");
        }
        let plain = event("other", 1_u32);
        for by in [attribute, OrderBy::Tenant, OrderBy::User, OrderBy::Subject] {
            assert_eq!(key(&by, &plain), None, "{by}");
            let error = tenant(&by, &plain).expect_err("no tenant");
            assert!(error.starts_with(&format!("the event has no value for `{by}`")), "{error}");
        }
        let data = |name: &str| OrderBy::Data(vec![name.to_owned()]);
        assert_eq!(key(&data("n"), &plain).as_deref(), Some("0"));
        assert_eq!((key(&data("empty"), &plain), key(&data("none"), &plain)), (None, None));
    }

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
