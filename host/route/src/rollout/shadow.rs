//! Differences between the outcomes of the stable plugin and its shadow.

use std::mem::discriminant;

use trunkline_event::{CallOutcome, Emission};

/// Names of the differences, each once: `outcome`, `count`, or fields of emissions.
pub(super) fn differences(stable: &CallOutcome, shadow: &CallOutcome) -> Vec<&'static str> {
    match (stable, shadow) {
        (CallOutcome::Emitted(stable), CallOutcome::Emitted(shadow)) if stable.len() == shadow.len() => {
            let mut found = stable.iter().zip(shadow).flat_map(|(one, other)| fields(one, other)).collect::<Vec<_>>();
            found.sort_unstable();
            found.dedup();
            found
        }
        (CallOutcome::Emitted(_), CallOutcome::Emitted(_)) => vec!["count"],
        // Failures are compared by their kind, because their texts are for people.
        (CallOutcome::Failed(stable), CallOutcome::Failed(shadow)) if discriminant(stable) == discriminant(shadow) => {
            Vec::new()
        }
        (CallOutcome::Emitted(_) | CallOutcome::Failed(_), CallOutcome::Emitted(_) | CallOutcome::Failed(_)) => {
            vec!["outcome"]
        }
    }
}

fn fields(one: &Emission, other: &Emission) -> impl Iterator<Item = &'static str> {
    let compared = [
        ("type", one.kind == other.kind),
        ("data", is_same_data(&one.data, &other.data)),
        ("content-type", one.content_type == other.content_type),
        ("routing-key", one.routing_key == other.routing_key),
        ("subject", one.subject == other.subject),
        ("attributes", one.attributes == other.attributes),
        ("priority", one.priority == other.priority),
        ("dedupe-key", one.dedupe_key == other.dedupe_key),
        ("deliver-after-ms", one.deliver_after_ms == other.deliver_after_ms),
    ];
    compared.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| name)
}

/// Whether data is equal. JSON with another order of keys or other white space is equal.
fn is_same_data(one: &[u8], other: &[u8]) -> bool {
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    one == other || json(one).is_some_and(|one| json(other).is_some_and(|other| one == other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_event::CallFailure;

    fn emitted(kind: &str, data: &'static str) -> CallOutcome {
        let emission = Emission { kind: kind.to_owned(), data: data.into(), ..Emission::default() };
        CallOutcome::Emitted(vec![emission])
    }

    #[test]
    fn outcomes_are_compared_field_by_field() {
        let stable = emitted("t", r#"{"a":1,"b":[2]}"#);
        let none: [&str; 0] = [];
        for (shadow, expected) in [
            (emitted("t", r#"{ "b": [2], "a": 1 }"#), &none[..]),
            (emitted("u", r#"{"a":1,"b":[3]}"#), &["data", "type"]),
            (emitted("t", "no json"), &["data"]),
            (CallOutcome::Emitted(Vec::new()), &["count"]),
            (CallOutcome::Failed(CallFailure::Trap("t".into())), &["outcome"]),
        ] {
            assert_eq!(differences(&stable, &shadow), expected, "{shadow:?}");
        }
        let rejected = |text: &str| CallOutcome::Failed(CallFailure::Rejected(text.to_owned()));
        assert_eq!(differences(&rejected("a"), &rejected("b")), none);
        assert_eq!(differences(&rejected("a"), &CallOutcome::Failed(CallFailure::Trap("t".into()))), ["outcome"]);
    }
}
