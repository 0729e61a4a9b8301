//! The OpenAPI document against the reviewed one and against docs/reference/http.md.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;
use utoipa::OpenApi;
use utoipa::openapi;
use utoipa_axum::router::OpenApiRouter;

use crate::openapi::document::OpenApiDocument;
use crate::{problem, router};

fn document() -> openapi::OpenApi {
    OpenApiRouter::with_openapi(OpenApiDocument::openapi())
        .merge(router::guarded())
        .merge(router::open())
        .into_openapi()
}

/// `UPDATE_EXPECTED=1 cargo test -p trunkline-http --lib` writes the file. Review the difference before you commit it.
#[test]
fn the_document_is_the_reviewed_one() {
    let printed = document().to_pretty_json().expect("JSON") + "\n";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/assets/openapi.expected.json");
    if std::env::var_os("UPDATE_EXPECTED").is_some_and(|value| value == "1") {
        std::fs::write(&file, &printed).expect("writable");
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = printed.lines().zip(expected.lines()).find(|(printed, expected)| printed != expected);
    assert!(printed == expected, "UPDATE_EXPECTED=1 accepts it; it begins to differ at {differs:?}");
}

/// `TRUNKLINE_WRITE_REFERENCE=1 cargo test -p trunkline-http --lib` writes the page.
#[test]
fn the_reference_page_is_the_document() {
    let document = serde_json::to_value(document()).expect("JSON");
    let page = page(&document);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/http.md");
    if std::env::var_os("TRUNKLINE_WRITE_REFERENCE").is_some() {
        std::fs::write(&file, &page).expect("the page is written");
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page, "docs/reference/http.md is old; TRUNKLINE_WRITE_REFERENCE=1 writes it");
}

fn page(document: &Value) -> String {
    let mut page = format!(
        "# HTTP API\n\n{}\n\nThe daemon serves this description as an OpenAPI 3.1 document at `/openapi.json`. The pages `/docs` and `/redoc`\n\
         show the document. A test compares this page with the program.\n",
        text(&document["info"]["description"])
    );
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            operation_section(&mut page, path, method, operation);
        }
    }
    page.push_str("\n## Problem codes\n\n| code | title | meaning |\n|---|---|---|\n");
    for known in &problem::CODES {
        writeln!(page, "| `{}` | {} | {} |", known.code, known.title, cell(known.meaning)).expect("a string");
    }
    page.push_str("\n## Schemas\n");
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        schema_section(&mut page, name, schema);
    }
    page
}

fn operation_section(page: &mut String, path: &str, method: &str, operation: &Value) {
    let (summary, description) = (text(&operation["summary"]), text(&operation["description"]));
    write!(page, "\n## `{} {path}`\n\n{summary}.", method.to_uppercase()).expect("a string");
    page.push_str(&if description.is_empty() { "\n".to_owned() } else { format!(" {description}\n") });
    if operation["security"]
        .as_array()
        .is_some_and(|schemes| schemes.iter().any(|scheme| scheme.get("token").is_some()))
    {
        page.push_str("\nThe path needs a bearer token if `[http] tokens` is set.\n");
    }
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    if !parameters.is_empty() {
        page.push_str("\n| parameter | in | type | required | meaning |\n|---|---|---|---|---|\n");
        for parameter in &parameters {
            let required = if parameter["required"] == true { "yes" } else { "no" };
            let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
            let (kind, meaning) = (kind(&parameter["schema"]), cell(&text(&parameter["description"])));
            writeln!(page, "| `{name}` | {place} | {kind} | {required} | {meaning} |").expect("a string");
        }
    }
    if let Some((media_type, content)) =
        operation["requestBody"]["content"].as_object().and_then(|all| all.iter().next())
    {
        writeln!(page, "\nThe body is {} as `{media_type}`.", kind(&content["schema"])).expect("a string");
    }
    page.push_str("\n| status | body | meaning |\n|---|---|---|\n");
    for (status, response) in operation["responses"].as_object().expect("responses") {
        let body = response["content"].as_object().and_then(|all| all.values().next());
        let body = body.map(|content| kind(&content["schema"])).unwrap_or_default();
        let description = text(&response["description"]);
        // The section of the problem codes has the rest of a problem's description.
        let meaning = if status.starts_with(['4', '5']) && body.contains("Problem") {
            description.split(". ").next().unwrap_or_default().to_owned()
        } else {
            cell(&description)
        };
        writeln!(page, "| {status} | {body} | {meaning} |").expect("a string");
    }
}

fn schema_section(page: &mut String, name: &str, schema: &Value) {
    write!(page, "\n### {name}\n\n{}\n", text(&schema["description"])).expect("a string");
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words.iter().map(|word| format!("`{}`", text(word))).collect();
        writeln!(page, "\nOne of {}.", words.join(", ")).expect("a string");
    }
    let Some(properties) = schema["properties"].as_object() else { return };
    page.push_str("\n| field | type | required | meaning |\n|---|---|---|---|\n");
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (field, property) in properties {
        let is_required = if required.iter().any(|known| known == field) { "yes" } else { "no" };
        let (kind, meaning) = (kind(property), cell(&description(property)));
        writeln!(page, "| `{field}` | {kind} | {is_required} | {meaning} |").expect("a string");
    }
}

/// The description of a property. A property that may be null has its description in a part of `oneOf`.
fn description(property: &Value) -> String {
    let parts = property["oneOf"].as_array().into_iter().flatten();
    let mut texts = std::iter::once(property).chain(parts).map(|schema| text(&schema["description"]));
    texts.find(|text| !text.is_empty()).unwrap_or_default()
}

/// The type of a schema in words.
fn kind(schema: &Value) -> String {
    if let Some(target) = schema["$ref"].as_str() {
        let name = target.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for list in ["oneOf", "anyOf", "allOf"] {
        if let Some(all) = schema[list].as_array() {
            return all.iter().map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(name) if name == "object" && schema["additionalProperties"].is_object() => {
            format!("map of {}", kind(&schema["additionalProperties"]))
        }
        Value::String(name) => name.clone(),
        Value::Array(names) => names.iter().map(text).collect::<Vec<_>>().join(" or "),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "any JSON".to_owned(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().trim().to_owned()
}

/// A text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}
