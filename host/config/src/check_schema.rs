//! `schema`: the file of a JSON Schema, compiled when the configuration is read.

use std::ops::RangeInclusive;
use std::path::Path;

use super::checked_routes::SchemaRule;
use super::codes::Code;
use super::walk::{Context, Table, Text};
use crate::schema::{self, Schema};

const VERSION: RangeInclusive<u32> = 0..=1_000_000;

/// Of a route: `"schemas/call-ended.json"`, or `{file = "schemas/call-ended.json", version = 1}`.
pub(super) fn rule(cx: &mut Context<'_>, table: &Table<'_>, directory: &Path) -> Option<SchemaRule> {
    let value = table.value("schema")?;
    let Some(inner) = Table::inline(value, "`schema`") else {
        let text = table.text(cx, "schema")?;
        return Some(SchemaRule { schema: read(cx, &text, directory)?, version: None });
    };
    inner.check_keys(cx, &["file", "version"], &[]);
    inner.require(cx, "file", "file = \"schemas/NAME.json\"");
    let version = inner.integer(cx, "version", VERSION).map(|at| at.value);
    let text = inner.text(cx, "file")?;
    Some(SchemaRule { schema: read(cx, &text, directory)?, version })
}

/// Compiles the schema of a file. The file, and those that it refers to, are watched like the rest of the configuration,
/// also while they are of no use: the correction is a change.
pub(super) fn read(cx: &mut Context<'_>, text: &Text, directory: &Path) -> Option<Schema> {
    let path = directory.join(&text.value);
    cx.further.push(path.clone());
    let base = path.parent().unwrap_or(directory);
    let problem = match source(&path).map(|source| Schema::compile(&source, base)) {
        Ok(Ok(schema)) => {
            cx.further.extend(schema.files().map(Path::to_owned));
            return Some(schema);
        }
        Ok(Err(error)) => {
            let problem = error.to_string();
            cx.further.extend(error.files);
            problem
        }
        Err(problem) => problem,
    };
    cx.error(Code::BadSchema, &text.place, format!("the schema {} {problem}", text.shown()));
    None
}

fn source(path: &Path) -> Result<String, String> {
    let unread = |error: std::io::Error| format!("cannot be read: {error}");
    let length = std::fs::metadata(path).map_err(unread)?.len();
    if length > schema::FILE_MAX_BYTES as u64 {
        return Err(format!("is {length} bytes long; a schema may have {}", schema::FILE_MAX_BYTES));
    }
    std::fs::read_to_string(path).map_err(unread)
}
