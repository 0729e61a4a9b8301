//! `schema` of routes and event types: JSON Schemas in files.

use std::ops::RangeInclusive;
use std::path::Path;

use super::checked_routes::SchemaRule;
use super::codes::Code;
use super::walk::{Context, Table, Text};
use crate::schema::Schema;

const VERSION: RangeInclusive<u32> = 0..=1_000_000;

/// `"call-ended.json"`, or `{file = "call-ended.json", version = 1}`.
pub(super) fn rule(cx: &mut Context<'_>, table: &Table<'_>, directory: &Path) -> Option<SchemaRule> {
    let value = table.value("schema")?;
    let Some(inner) = Table::inline(value, "`schema`") else {
        return Some(SchemaRule { schema: file(cx, table, "schema", directory)?, version: None });
    };
    inner.check_keys(cx, &["file", "version"], &[]);
    inner.require(cx, "file", "file = \"schemas/NAME.json\"");
    let version = inner.integer(cx, "version", VERSION).map(|at| at.value);
    Some(SchemaRule { schema: file(cx, &inner, "file", directory)?, version })
}

/// The schema of the file that a key names.
pub(super) fn file(cx: &mut Context<'_>, table: &Table<'_>, key: &str, directory: &Path) -> Option<Schema> {
    let text = table.text(cx, key)?;
    let path = directory.join(&text.value);
    // Watched also when it cannot be used, so that a correction is noticed.
    cx.further.push(path.clone());
    let read = std::fs::read_to_string(&path);
    let source = match read {
        Ok(source) => source,
        Err(error) => {
            refuse(cx, &text, &path, &format!("cannot be read: {error}"));
            return None;
        }
    };
    match Schema::compile(&source, path.parent().unwrap_or(directory)) {
        Ok(schema) => {
            cx.further.extend(schema.files().map(Path::to_owned));
            Some(schema)
        }
        Err(error) => {
            cx.further.extend(error.files.iter().cloned());
            refuse(cx, &text, &path, &error.to_string());
            None
        }
    }
}

fn refuse(cx: &mut Context<'_>, text: &Text, path: &Path, problem: &str) {
    let shown = if text.literal { path.display().to_string() } else { "the file".to_owned() };
    cx.error(Code::BadSchema, &text.place, format!("{shown} {problem}"));
}
