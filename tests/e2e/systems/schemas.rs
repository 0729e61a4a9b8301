//! The schemas of an example, checked against real messages.

use jsonschema::Validator;
use serde_json::Value;

fn read(path: &std::path::Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `examples/EXAMPLE/schemas/NAME.json`
pub fn schema(example: &str, name: &str) -> Validator {
    let path = xtask::root().join(format!("examples/{example}/schemas/{name}.json"));
    let schema = read(&path);
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{}", path.display());
    jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Checks that a value fits.
pub fn fits(schema: &Validator, value: &Value) {
    let problems =
        schema.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect::<Vec<_>>();
    assert!(problems.is_empty(), "{problems:?}\n{value:#}");
}

/// `examples/EXAMPLE/FILE`
pub fn sample(example: &str, file: &str) -> Value {
    read(&xtask::root().join("examples").join(example).join(file))
}
