//! Claims about the emissions of plugins, and about the example's samples.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::stage::{folder, story};
use super::{FIRST, SECOND};

/// The envelopes so far, each id once.
pub struct Claims {
    by_id: BTreeMap<String, Value>,
    messages: usize,
}

impl Claims {
    /// Checks that repeats have the same data, and that no envelope belongs to another organisation.
    pub fn new(seen: Vec<Value>) -> Self {
        let messages = seen.len();
        let mut by_id = BTreeMap::<String, Value>::new();
        for envelope in seen {
            let owner = envelope["organizationId"].as_str().expect("an organisation").to_owned();
            let other = if owner == FIRST { SECOND } else { FIRST };
            assert!([FIRST, SECOND].contains(&&*owner) && !envelope.to_string().contains(other), "{envelope}");
            assert_eq!(envelope["data"]["organization_id"], owner, "{envelope}");
            let id = envelope["id"].as_str().expect("an id").to_owned();
            if let Some(first) = by_id.get(&id) {
                for field in ["type", "data", "organizationId", "userId"] {
                    assert_eq!(first[field], envelope[field], "a repetition says something else");
                }
            } else {
                by_id.insert(id, envelope);
            }
        }
        Self { by_id, messages }
    }

    /// The number of messages, including repeats.
    pub fn messages(&self) -> usize {
        self.messages
    }

    pub fn are_the_same_as(&self, other: &Self) {
        let ids = |claims: &Self| claims.by_id.keys().cloned().collect::<BTreeSet<_>>();
        let new: Vec<_> = ids(other).difference(&ids(self)).map(|id| other.by_id[id].clone()).collect();
        assert!(new.is_empty(), "no new event follows from earlier ones: {new:?}");
        assert_eq!(ids(self), ids(other));
    }

    /// Checks the number of an organisation's events of each type, and that there are no other types.
    pub fn counts(&self, organization: &str, expected: &[(&str, usize)]) {
        let mut counts = BTreeMap::<&str, usize>::new();
        for envelope in self.of(organization) {
            *counts.entry(envelope["type"].as_str().expect("a type")).or_default() += 1;
        }
        assert_eq!(counts, expected.iter().copied().collect(), "{organization}");
    }

    fn of<'a>(&'a self, organization: &'a str) -> impl Iterator<Item = &'a Value> {
        self.by_id.values().filter(move |envelope| envelope["organizationId"] == organization)
    }

    /// The only event of a type.
    pub fn envelope(&self, organization: &str, kind: &str) -> Value {
        let found: Vec<&Value> = self.of(organization).filter(|envelope| envelope["type"] == kind).collect();
        assert_eq!(found.len(), 1, "{organization} {kind}: {found:?}");
        found[0].clone()
    }

    /// The data of the only event of a type.
    pub fn one(&self, organization: &str, kind: &str) -> Value {
        self.envelope(organization, kind)["data"].clone()
    }

    /// The data of the only matching event of a type.
    pub fn find(&self, organization: &str, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let of_kind =
            self.of(organization).filter(|envelope| envelope["type"] == kind).map(|envelope| &envelope["data"]);
        let all: Vec<&Value> = of_kind.collect();
        let found: Vec<&&Value> = all.iter().filter(|data| fits(data)).collect();
        assert_eq!(found.len(), 1, "{organization} {kind}: {all:?}");
        (**found[0]).clone()
    }
}

fn schema(name: &str) -> jsonschema::Validator {
    let file = folder().join("schemas").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    assert!(jsonschema::meta::is_valid(&schema), "{name} is no schema");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub fn samples_fit_their_schemas() {
    let envelope = schema("envelope");
    let mut kinds = BTreeSet::new();
    for event in story() {
        let kind = event["type"].as_str().expect("a type").to_owned();
        assert!(envelope.is_valid(&event), "{event}");
        assert!(schema(&kind).is_valid(&event["data"]), "{event}");
        kinds.insert(kind);
    }
    assert_eq!(kinds.len(), 6, "the story has every type");
    for entry in std::fs::read_dir(folder().join("events")).expect("a folder") {
        let path = entry.expect("a file").path();
        let sample: Value = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
        let kind = sample["publish"]["type"].as_str().expect("a type");
        let is_good = sample["expect"]["outcome"] == "ack";
        assert_eq!(schema(kind).is_valid(&sample["publish"]["data"]), is_good, "{}", path.display());
    }
}

/// For each type the first good event of the story with one changed field: values that still fit, and values that do
/// not.
pub fn bad_data_does_not_fit() {
    let long = "x".repeat(201);
    let cases: [(&str, &str, Value, Value); 14] = [
        ("call.started", "call_id", json!(["c"]), json!(["", 1, null, long])),
        (
            "call.started",
            "from_number",
            json!(["+12", "+420601111111", "+123456789012345"]),
            json!(["420601111111", "+0123", "+1234567890123456", "+42 1", "", null]),
        ),
        ("call.started", "to_number", json!(["+420601111111"]), json!(["00420601111111", "+"])),
        ("call.started", "campaign_id", json!([null, "k-1"]), json!(["", 7])),
        ("call.ended", "duration", json!([0, 12.5]), json!([-1, "12", null])),
        (
            "call.ended",
            "outcome",
            json!(["completed", "callback_requested", "voicemail", "failed"]),
            json!(["abducted", null, ""]),
        ),
        ("call.ended", "transcript", json!([null, "", "Hello"]), json!([1, {}])),
        (
            "call.transcribed",
            "language",
            json!(["en", "cs-CZ", "zh-Hant-TW", "de-CH-1996", "es-419", "x-y"]),
            json!(["", "e", "en_GB", "en-", "english language", null]),
        ),
        ("call.transcribed", "confidence", json!([0, 1, 0.5]), json!([-0.01, 1.01, "1"])),
        ("campaign.completed", "total_calls", json!([0, 240]), json!([-1, 1.5, "240", null])),
        ("campaign.completed", "success_rate", json!([0, 1]), json!([-0.1, 1.1, null])),
        ("sentiment.analyzed", "sentiment", json!(["positive", "neutral", "negative"]), json!(["angry", null])),
        ("sentiment.analyzed", "score", json!([-1, 0, 1]), json!([-1.01, 1.01, null])),
        ("sentiment.analyzed", "keywords", json!([[], ["a"]]), json!([[1], "a", null])),
    ];
    for (kind, field, good, bad) in cases {
        let event = story().into_iter().find(|event| event["type"] == kind).expect("an event of the type");
        let schema = schema(kind);
        for (values, fits) in [(good, true), (bad, false)] {
            for value in values.as_array().expect("a list") {
                let mut data = event["data"].clone();
                data[field] = value.clone();
                assert_eq!(schema.is_valid(&data), fits, "{kind} {field} = {value}");
            }
        }
    }
}
