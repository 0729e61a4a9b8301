//! Event types that the HTTP API publishes.

use std::collections::BTreeMap;

use crate::check::routes::schema;
use crate::model::http::event_type::EventType;
use crate::parse::context::ReadContext;
use crate::parse::raw::hook::RawEventType;
use trunkline_event::RoutingKey;

pub(crate) fn check(cx: &mut ReadContext<'_>, raw: Vec<RawEventType>) -> BTreeMap<String, EventType> {
    let mut types = BTreeMap::new();
    for raw in raw {
        let key = raw.key.and_then(|text| text.name(cx, "routing key", |text| RoutingKey::new(text)));
        let schema = raw.schema.and_then(|text| schema::compile(cx, &text));
        let (priority, description) = (raw.priority, raw.description);
        types.insert(raw.name.value, EventType { key, schema, priority, description });
    }
    types
}
