//! Code that the plugins for very negative calls share: the data of `sentiment.analyzed`, and the threshold.

use serde::{Deserialize, Serialize};
use trunkline_plugin::{Event, Failure, config};

/// The threshold; config `threshold`.
const THRESHOLD: f64 = -0.5;

/// The data of `sentiment.analyzed`.
#[derive(Deserialize)]
pub struct Analyzed {
    /// The id of the call.
    pub call_id: String,
    /// The sentiment in one word.
    pub sentiment: Sentiment,
    /// -1 to 1.
    pub score: f64,
    /// Subjects of the call.
    #[serde(default)]
    pub keywords: Vec<String>,
}

/// The sentiment of a call.
#[derive(Deserialize, Serialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum Sentiment {
    /// Above zero.
    Positive,
    /// Around zero.
    Neutral,
    /// Below zero.
    Negative,
}

/// Gives the data of an event and the threshold when the score is below the threshold, else none.
///
/// # Errors
/// [`Failure::Reject`] for invalid data, [`Failure::Retry`] for a threshold that is not a number.
pub fn very_negative(event: &Event) -> Result<Option<(Analyzed, f64)>, Failure> {
    let call: Analyzed = event.json()?;
    if !(-1.0..=1.0).contains(&call.score) {
        return Err(Failure::reject(format!("{}: `score` is not between -1 and 1", event.kind)));
    }
    let threshold = config::number("threshold", THRESHOLD)?;
    Ok((call.score < threshold).then_some((call, threshold)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trunkline_plugin::testing;

    use super::*;

    fn score(data: &serde_json::Value) -> Result<Option<f64>, Failure> {
        very_negative(&testing::event("sentiment.analyzed", data)).map(|found| found.map(|(call, _)| call.score))
    }

    #[test]
    fn only_below_the_threshold() {
        let of = |score: f64| json!({ "call_id": "c", "sentiment": "neutral", "score": score });
        assert_eq!((score(&of(1.0)), score(&of(-0.5)), score(&of(-0.51))), (Ok(None), Ok(None), Ok(Some(-0.51))));
        testing::set_config("threshold", "-0.95");
        assert_eq!(score(&of(-0.9)), Ok(None));
        testing::set_config("threshold", "low");
        assert!(matches!(score(&of(-0.9)), Err(Failure::Retry { .. })));
    }

    #[test]
    fn what_does_not_fit_is_rejected_by_name() {
        for (data, expected) in [
            (json!({ "call_id": "c", "sentiment": "negative", "score": -1.5 }), "score"),
            (json!({ "call_id": "c", "sentiment": "angry", "score": -0.9 }), "angry"),
            (json!({ "sentiment": "negative", "score": -0.9 }), "call_id"),
            (json!([]), "sentiment.analyzed"),
        ] {
            match score(&data) {
                Err(Failure::Reject(text)) => assert!(text.contains(expected), "{text}"),
                other => panic!("{data}: {other:?}"),
            }
        }
    }
}
