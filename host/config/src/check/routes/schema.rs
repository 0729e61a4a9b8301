//! JSON Schemas, compiled when the configuration is read.

use std::path::Path;

use crate::diagnostics::codes::Code;
use crate::model::schema::{FILE_MAX_BYTES, Schema};
use crate::parse::context::{ReadContext, Text};

/// Compiles the schema of a file. The file, and those that it refers to, are watched, also while they cannot be used: a
/// correction is a change of the configuration.
pub(crate) fn compile(cx: &mut ReadContext<'_>, text: &Text) -> Option<Schema> {
    let path = cx.path(&text.value);
    cx.watched.push(path.clone());
    let base = path.parent().unwrap_or(&cx.directory);
    let (problem, help) = match source(&path).map(|source| Schema::compile(&source, base)) {
        Ok(Ok(schema)) => {
            cx.watched.extend(schema.files().map(Path::to_owned));
            return Some(schema);
        }
        Ok(Err(error)) => {
            let problem = error.to_string();
            cx.watched.extend(error.files);
            (problem, "write a JSON Schema into the file, such as {\"type\": \"object\"}")
        }
        Err(problem) => (
            problem,
            "write a path such as \"schemas/call-ended.json\": a relative path is resolved from the directory of routes.toml",
        ),
    };
    cx.error(Code::BadSchema, &text.place, format!("the schema {} {problem}", text.shown())).help(help);
    None
}

fn source(path: &Path) -> Result<String, String> {
    let unread = |error: std::io::Error| format!("cannot be read: {error}");
    let length = std::fs::metadata(path).map_err(unread)?.len();
    if length > FILE_MAX_BYTES as u64 {
        return Err(format!("has {length} bytes, but a schema may have at most {FILE_MAX_BYTES}"));
    }
    std::fs::read_to_string(path).map_err(unread)
}
