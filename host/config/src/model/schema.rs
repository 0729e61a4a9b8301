//! JSON Schemas (drafts 4 to 2020-12) of the data of events.
//!
//! Nothing is fetched over a network, and only files beside the schema and below its directory are read. A violation names
//! a place and a rule, never the data. The number and the length of violations and the steps of a pattern have bounds.
//! The module knows no route and no event; it checks bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use jsonschema::{PatternOptions, Retrieve, Uri, ValidationError, Validator};
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use serde_json::Value;
use trunkline_event::without_byte_order_mark;

/// Largest number of reported violations.
pub const VIOLATIONS_MAX: usize = 32;
/// Longest pointer and longest message, in bytes.
const TEXT_MAX_BYTES: usize = 256;
/// Only the first violation of larger data is reported: a small error that is repeated often would take a lot of memory.
const EVERY_VIOLATION_MAX_BYTES: usize = 64 * 1024;
/// Largest number of other files that a schema may refer to.
const FILES_MAX: usize = 64;
/// Largest size of a schema's file.
pub const FILE_MAX_BYTES: usize = 1024 * 1024;
/// Largest number of backtracking steps of one match of a pattern.
const BACKTRACK_MAX: usize = 50_000;

/// A compiled schema. Clones share it. Schemas are equal when their texts are.
#[derive(Clone)]
pub struct Schema(Arc<CompiledSchema>);

struct CompiledSchema {
    validator: Validator,
    document: Value,
    /// The files that the schema refers to, with their content.
    files: BTreeMap<PathBuf, Value>,
}

/// A rule of a schema that some data breaks.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SchemaViolation {
    /// The place as a JSON pointer (RFC 6901) into the data; empty for all of it.
    pub pointer: String,
    /// The broken rule, without the data.
    pub message: String,
}

/// The reason why a text is no usable schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SchemaError {
    message: String,
    /// The other files that were read, so that a correction of them is noticed.
    pub files: Vec<PathBuf>,
}

impl Schema {
    /// Compiles a schema. A `$ref` may name a file in `base` or below it. Other files and URLs are refused.
    ///
    /// # Errors
    /// The problem, as the end of a sentence that begins with the schema.
    pub fn compile(text: &str, base: &Path) -> Result<Self, SchemaError> {
        let bare = |message: String| SchemaError { message, files: Vec::new() };
        if text.len() > FILE_MAX_BYTES {
            return Err(bare(format!("has {} bytes, but a schema may have at most {FILE_MAX_BYTES}", text.len())));
        }
        let document = without_byte_order_mark(text.as_bytes());
        let document =
            serde_json::from_slice::<Value>(document).map_err(|error| bare(format!("is not JSON: {error}")))?;
        let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
        let neighbours = Neighbours { root: uri_of(&base), base, read: Arc::default() };
        let built = jsonschema::options()
            .with_base_uri(neighbours.root.clone())
            .with_retriever(neighbours.clone())
            .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_MAX))
            .should_validate_formats(true)
            .build(&document);
        let files = neighbours.read.lock().clone();
        match built {
            Ok(validator) => {
                let files = files.into_iter().filter_map(|(path, read)| Some((path, read?))).collect();
                Ok(Self(Arc::new(CompiledSchema { validator, document, files })))
            }
            Err(error) => Err(SchemaError { message: refusal(&error), files: files.into_keys().collect() }),
        }
    }

    /// Checks data, which has to be JSON.
    ///
    /// # Errors
    /// The violations: at least one, at most [`VIOLATIONS_MAX`].
    pub fn check(&self, data: &[u8]) -> Result<(), Vec<SchemaViolation>> {
        let value = serde_json::from_slice::<Value>(without_byte_order_mark(data)).map_err(|error| {
            vec![SchemaViolation { pointer: String::new(), message: cut(&format!("is not JSON: {error}")) }]
        })?;
        if self.0.validator.is_valid(&value) {
            return Ok(());
        }
        let most = if data.len() > EVERY_VIOLATION_MAX_BYTES { 1 } else { VIOLATIONS_MAX };
        let found: Vec<SchemaViolation> = match most {
            1 => self.0.validator.validate(&value).err().iter().map(violation).collect(),
            _ => self.0.validator.iter_errors(&value).take(most).map(|error| violation(&error)).collect(),
        };
        if found.is_empty() {
            return Err(vec![SchemaViolation {
                pointer: String::new(),
                message: "the data does not fit the schema".to_owned(),
            }]);
        }
        Err(found)
    }

    /// The schema as it was written.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.0.document
    }

    /// The other files that the schema refers to. Absolute.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.files.keys().map(PathBuf::as_path)
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.0.document == other.0.document && self.0.files == other.0.files
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({})", self.0.document.get("$id").and_then(Value::as_str).unwrap_or("without $id"))
    }
}

impl fmt::Display for SchemaViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.pointer, self.message)
        }
    }
}

/// Makes a violation without the data: violations stand in logs, dead letters and HTTP answers.
fn violation(error: &ValidationError<'_>) -> SchemaViolation {
    SchemaViolation {
        pointer: cut(error.instance_path().as_str()),
        message: cut(&error.masked_with("the value").to_string()),
    }
}

/// The reason why a schema cannot be compiled. It may show parts of the schema.
fn refusal(error: &ValidationError<'_>) -> String {
    let place = error.instance_path().as_str();
    let place = if place.is_empty() { String::new() } else { format!("at {}: ", cut(place)) };
    format!("is not a valid JSON Schema: {place}{}", cut(&error.to_string()))
}

fn cut(text: &str) -> String {
    if text.len() <= TEXT_MAX_BYTES {
        return text.to_owned();
    }
    let end = (0..=TEXT_MAX_BYTES - 3).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}...", &text[..end])
}

/// Reads the files that a schema refers to, in a directory and below.
#[derive(Clone)]
struct Neighbours {
    base: PathBuf,
    root: String,
    /// The requested files, with the content of those that could be read.
    read: Arc<Mutex<BTreeMap<PathBuf, Option<Value>>>>,
}

impl Retrieve for Neighbours {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let refused = || format!("{uri} is not a file in the directory of the schema or below this directory");
        let relative = uri.as_str().strip_prefix(&self.root).ok_or_else(refused)?;
        let relative = percent_decode_str(relative).decode_utf8().map_err(|_| refused())?.into_owned();
        let is_below = Path::new(&relative).components().all(|part| matches!(part, Component::Normal(_)));
        if !is_below || relative.is_empty() {
            return Err(refused().into());
        }
        let path = self.base.join(&relative);
        let mut read = self.read.lock();
        if read.len() >= FILES_MAX && !read.contains_key(&path) {
            return Err(format!("the schema refers to more than {FILES_MAX} files").into());
        }
        read.insert(path.clone(), None);
        let file = path.display();
        let length =
            std::fs::metadata(&path).map_err(|error| format!("the file {file} cannot be read: {error}"))?.len();
        if length > FILE_MAX_BYTES as u64 {
            return Err(
                format!("the file {file} has {length} bytes, but a schema may have at most {FILE_MAX_BYTES}").into()
            );
        }
        let text = std::fs::read(&path).map_err(|error| format!("the file {file} cannot be read: {error}"))?;
        let value: Value = serde_json::from_slice(without_byte_order_mark(&text))
            .map_err(|error| format!("the file {file} is not JSON: {error}"))?;
        read.insert(path, Some(value.clone()));
        Ok(value)
    }
}

/// `file:///a/b/`
fn uri_of(directory: &Path) -> String {
    /// RFC 3986 leaves these unreserved, and the slash separates the parts of a path.
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
    let mut uri = format!("file://{}", percent_encode(directory.as_os_str().as_encoded_bytes(), KEPT));
    if !uri.ends_with('/') {
        uri.push('/');
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(text: &str) -> Schema {
        Schema::compile(text, Path::new("/nowhere")).expect(text)
    }

    fn shown(schema: &Schema, data: &str) -> Vec<String> {
        schema.check(data.as_bytes()).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_byte_order_mark_is_left_out() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("part.json"), "\u{feff}{\"type\": \"integer\"}").expect("a file");
        let text = "\u{feff}{\"properties\": {\"a\": {\"$ref\": \"part.json\"}}}";
        let schema = Schema::compile(text, directory.path()).expect("a schema");
        assert_eq!(shown(&schema, "\u{feff}{\"a\": 1}"), Vec::<String>::new());
        assert_eq!(shown(&schema, "\u{feff}{\"a\": \"b\"}").len(), 1);
    }

    #[test]
    fn every_violation_is_reported_with_its_place_and_without_the_data() {
        let schema = schema(
            r#"{"type": "object", "required": ["call_id", "score"], "additionalProperties": false, "properties": {
                "call_id": {"type": "string", "format": "uuid"}, "score": {"type": "number", "minimum": -1},
                "keywords": {"type": "array", "items": {"type": "string", "maxLength": 3}}}}"#,
        );
        assert_eq!(shown(&schema, r#"{"call_id": "6f2c1d9e-0d3c-4f0a-9a54-6a4d3b9d5a11", "score": 1}"#), [""; 0]);
        assert_eq!(
            shown(&schema, r#"{"call_id": "hunter2", "score": -2, "keywords": ["ok", "secret"]}"#),
            [
                "/call_id: the value is not a \"uuid\"",
                "/keywords/1: the value is longer than 3 characters",
                "/score: the value is less than the minimum of -1",
            ]
        );
        let missing = shown(&schema, "{}");
        assert_eq!(missing, ["\"call_id\" is a required property", "\"score\" is a required property"]);
        assert!(shown(&schema, "{\"a\"")[0].starts_with("is not JSON: EOF"));
        assert!(shown(&schema, &"[".repeat(10_000))[0].contains("recursion limit"), "deep data ends nothing");
    }

    #[test]
    fn the_report_is_bounded() {
        let schema = schema(r#"{"type": "array", "items": {"type": "string"}}"#);
        let some = format!("[{}1]", "1,".repeat(999));
        assert_eq!(shown(&schema, &some).len(), VIOLATIONS_MAX);
        let many = format!("[{}1]", "1,".repeat(200_000));
        assert_eq!(shown(&schema, &many), ["/0: the value is not of type \"string\""]);
        let closed = Schema::compile(r#"{"properties": {"a": {}}, "additionalProperties": false}"#, Path::new("/"))
            .expect("a schema");
        let long = format!(r#"{{"{}": 1}}"#, "é".repeat(300));
        let found = closed.check(long.as_bytes()).expect_err("an unknown name");
        assert!(found[0].message.len() <= TEXT_MAX_BYTES && found[0].message.ends_with("..."), "{found:?}");
    }

    #[test]
    fn a_schema_that_is_none_says_why() {
        for (text, wanted) in [
            ("{", "is not JSON: EOF"),
            ("3", "is not a valid JSON Schema"),
            (r#"{"type": "strin"}"#, "at /type: "),
            (r#"{"properties": {"a": {"minimum": "1"}}}"#, "at /properties/a/minimum: "),
            (r#"{"pattern": "("}"#, "is not a valid JSON Schema"),
            (r##"{"$ref": "#/$defs/none"}"##, "none"),
            (
                r#"{"$ref": "https://example.com/s.json"}"#,
                "https://example.com/s.json is not a file in the directory of the schema",
            ),
            (r#"{"$ref": "file:///etc/passwd"}"#, "is not a file in the directory of the schema"),
            (r#"{"$ref": "%2e%2e/s.json"}"#, "is not a file in the directory of the schema"),
            (r#"{"$ref": "absent.json"}"#, "the file /nowhere/absent.json cannot be read"),
        ] {
            let error = Schema::compile(text, Path::new("/nowhere")).expect_err(text).to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn files_beside_it_are_read_and_count() {
        let directory = tempfile::tempdir().expect("a directory");
        let base = directory.path().join("with space");
        std::fs::create_dir_all(base.join("parts")).expect("a directory");
        let part = base.join("parts/call id.json");
        std::fs::write(&part, r#"{"$defs": {"id": {"type": "string", "minLength": 3}}}"#).expect("a file");
        let text = r#"{"properties": {"id": {"$ref": "parts/call%20id.json#/$defs/id"}}}"#;
        let one = Schema::compile(text, &base).expect("a schema");
        assert_eq!(one.files().collect::<Vec<_>>(), [part.as_path()]);
        assert_eq!(shown(&one, r#"{"id": "ab"}"#), ["/id: the value is shorter than 3 characters"]);
        assert_eq!(one, Schema::compile(text, &base).expect("a schema"));
        std::fs::write(&part, r#"{"$defs": {"id": {"type": "string", "minLength": 2}}}"#).expect("a file");
        assert_ne!(one, Schema::compile(text, &base).expect("a schema"), "another file, another schema");
        std::fs::remove_file(&part).expect("gone");
        assert_eq!(Schema::compile(text, &base).expect_err("no file").files, [part]);
    }

    #[test]
    fn patterns_and_circles_end() {
        let slow = schema(r#"{"type": "string", "pattern": "^(?=(a+)+$)(a|aa)+$"}"#);
        assert!(!shown(&slow, &format!("\"{}!\"", "a".repeat(5_000))).is_empty());
        let tree = schema(r##"{"type": "object", "additionalProperties": {"$ref": "#"}}"##);
        assert_eq!(shown(&tree, r#"{"a": {"b": {}}}"#), [""; 0]);
        assert_eq!(shown(&tree, r#"{"a": {"b": 1}}"#), ["/a/b: the value is not of type \"object\""]);
        // Either is fine, as long as it ends.
        if let Ok(circle) = Schema::compile(r##"{"$ref": "#"}"##, Path::new("/nowhere")) {
            let _ends = circle.check(b"{}");
        }
    }
}
