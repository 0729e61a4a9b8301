//! The required and the optional fields of a grader's answer.

use std::time::Duration;

use trunkline_plugin::json::{Map, Value, json};

use crate::Kind;

/// The highest band; config `score-max`.
pub(crate) const SCORE_MAX: f64 = 9.0;

const WRITING_SCORES: [&str; 5] =
    ["overall_score", "task_achievement", "coherence_cohesion", "lexical_resource", "grammatical_range"];
const SPEAKING_SCORES: [&str; 5] = ["overall_score", "pronunciation", "fluency", "grammar", "vocabulary"];

/// Reads fields of an answer and collects the errors.
struct Reader<'a> {
    answer: &'a Map<String, Value>,
    result: Map<String, Value>,
    problems: Vec<String>,
}

/// The grade with exactly the fields of a result, or all errors.
pub(crate) fn check(
    kind: Kind,
    answer: &Value,
    score_max: f64,
    took: Duration,
    words: Option<usize>,
) -> Result<Value, Vec<String>> {
    let Some(answer) = answer.as_object() else { return Err(vec!["the answer is not a JSON object".to_owned()]) };
    let mut reader = Reader { answer, result: Map::new(), problems: Vec::new() };
    let scores = match kind {
        Kind::Writing => WRITING_SCORES,
        Kind::Speaking => SPEAKING_SCORES,
    };
    for field in scores {
        reader.number(field, score_max, None);
    }
    reader.text("feedback");
    reader.texts("suggestions");
    match kind {
        Kind::Writing => reader.items("grammar_errors", &["text", "correction", "explanation"], Some("position")),
        Kind::Speaking => {
            reader.text("transcript");
            reader.number("words_per_minute", f64::MAX, None);
            reader.items("pronunciation_errors", &["word", "phonetic", "issue"], None);
        }
    }
    let spoken = || answer.get("transcript")?.as_str().map(|text| text.split_whitespace().count());
    let words = words.or_else(spoken).unwrap_or_default();
    reader.number("word_count", f64::MAX, Some(json!(words)));
    reader.number("processing_time", f64::MAX, Some(json!(took.as_secs_f64())));
    if reader.problems.is_empty() { Ok(Value::Object(reader.result)) } else { Err(reader.problems) }
}

impl Reader<'_> {
    fn keep(&mut self, field: &str, value: &Value, is_good: bool, wanted: &str) {
        if is_good {
            self.result.insert(field.to_owned(), value.clone());
        } else {
            let what = if value.is_null() { "is missing" } else { wanted };
            self.problems.push(format!("`{field}` {what}"));
        }
    }

    fn value(&self, field: &str) -> Value {
        self.answer.get(field).cloned().unwrap_or_default()
    }

    /// A number from 0 to `max`. The field may be missing when `otherwise` gives a value for it.
    fn number(&mut self, field: &str, max: f64, otherwise: Option<Value>) {
        let value = match (self.value(field), otherwise) {
            (Value::Null, Some(otherwise)) => otherwise,
            (value, _) => value,
        };
        let is_good = value.as_f64().is_some_and(|number| (0.0..=max).contains(&number));
        let wanted = if max == f64::MAX {
            "is not a number of at least 0".to_owned()
        } else {
            format!("is not from 0 to {max}")
        };
        self.keep(field, &value, is_good, &wanted);
    }

    fn text(&mut self, field: &str) {
        let value = self.value(field);
        self.keep(field, &value, value.is_string(), "is not a string");
    }

    fn texts(&mut self, field: &str) {
        let value = self.value(field);
        let is_good = value.as_array().is_some_and(|items| items.iter().all(Value::is_string));
        self.keep(field, &value, is_good, "is not a list of strings");
    }

    /// A list of objects with the fields `texts`. The field `place` is optional: a number, or a text such as "12-18".
    fn items(&mut self, field: &str, texts: &[&str], place: Option<&str>) {
        let value = self.value(field);
        let fits = |item: &Value| {
            texts.iter().all(|name| item[name].is_string())
                && place.is_none_or(|name| item[name].is_u64() || item[name].is_string())
        };
        let is_good = value.as_array().is_some_and(|items| items.iter().all(fits));
        let fields = place.into_iter().chain(texts.iter().copied()).collect::<Vec<_>>().join(", ");
        self.keep(field, &value, is_good, &format!("is not a list of {{{fields}}}"));
    }
}
