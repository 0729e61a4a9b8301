//! `[event-types.NAME]`: what `POST /api/v1/events` knows of a type.

use std::collections::BTreeMap;
use std::path::Path;

use super::check_schema;
use super::checked_routes::EventType;
use super::walk::{Context, Table};
use trunkline_event::RoutingKey;

/// Reads all of them.
pub(super) fn read(cx: &mut Context<'_>, top: &Table<'_>, directory: &Path) -> BTreeMap<String, EventType> {
    let mut types = BTreeMap::new();
    for (name, table) in top.tables(cx, "event-types") {
        table.check_keys(cx, &["key", "schema", "priority", "description"], &[]);
        let key = table.text(cx, "key").and_then(|text| text.name(cx, |text| RoutingKey::new(text)));
        let schema = table.text(cx, "schema").and_then(|text| check_schema::read(cx, &text, directory));
        let priority = table.integer(cx, "priority", 0..=u8::MAX).map(|at| at.value);
        let description = table.text(cx, "description").map(|text| text.value);
        types.insert(name.value, EventType { key, schema, priority, description });
    }
    types
}
