//! `sentiment.analyzed` far below zero becomes an alert for the supervisor.

use serde::{Deserialize, Serialize};
use trunkline_plugin::{Emission, Event, Failure, config, handler};

/// Below this, unless config `threshold` says otherwise.
const THRESHOLD: f64 = -0.5;
/// Below this it cannot wait.
const CRITICAL: f64 = -0.8;

#[derive(Deserialize)]
struct SentimentAnalyzed<'a> {
    call_id: &'a str,
    sentiment: Sentiment,
    /// -1 to 1.
    score: f64,
    #[serde(default)]
    keywords: Vec<String>,
}

#[derive(Deserialize, Serialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Sentiment {
    Positive,
    Neutral,
    Negative,
}

#[derive(Serialize)]
struct Alert<'a> {
    call_id: &'a str,
    severity: &'static str,
    score: f64,
    threshold: f64,
    sentiment: Sentiment,
    keywords: &'a [String],
    message: String,
    organization_id: Option<&'a str>,
}

/// One alert, or none when the call was not that bad.
#[handler(
    description = "Alerts a supervisor to very negative calls",
    takes = ["sentiment.analyzed"],
    emits = ["supervisor.alert.created"]
)]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let analyzed: SentimentAnalyzed<'_> = event.json()?;
    if !(-1.0..=1.0).contains(&analyzed.score) {
        return Err(Failure::reject("sentiment.analyzed: `score` is not between -1 and 1"));
    }
    let threshold = config::number("threshold", THRESHOLD)?;
    if analyzed.score >= threshold {
        return Ok(Vec::new());
    }
    let SentimentAnalyzed { call_id, score, sentiment, .. } = analyzed;
    let alert = Alert {
        call_id,
        severity: if score < CRITICAL { "critical" } else { "high" },
        score,
        threshold,
        sentiment,
        keywords: &analyzed.keywords,
        message: format!("Call {call_id} went badly: sentiment {score} is below {threshold}."),
        organization_id: event.tenant.as_deref(),
    };
    Ok(vec![Emission::json("supervisor.alert.created", &alert)?.subject(call_id)])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use trunkline_plugin::testing;

    use super::*;

    fn analyzed(score: f64) -> Event {
        let data = json!({ "call_id": "c-1", "sentiment": "negative", "score": score, "keywords": ["refund"] });
        testing::event("sentiment.analyzed", &data)
    }

    #[test]
    fn the_threshold_itself_is_no_alert() {
        for (score, severity) in [
            (1.0, None),
            (0.0, None),
            (-0.5, None),
            (-0.51, Some("high")),
            (-0.8, Some("high")),
            (-0.9, Some("critical")),
        ] {
            let emitted = handle(analyzed(score)).expect("valid");
            let alert: Option<Value> = emitted.first().map(|emission| emission.read().expect("JSON"));
            assert_eq!(alert.as_ref().and_then(|alert| alert["severity"].as_str()), severity, "{score}");
            if let Some(alert) = alert {
                assert_eq!((&alert["call_id"], &alert["keywords"]), (&json!("c-1"), &json!(["refund"])));
            }
        }
    }

    #[test]
    fn the_threshold_is_configurable() {
        testing::set_config("threshold", "-0.95");
        assert_eq!(handle(analyzed(-0.9)), Ok(vec![]));
        testing::set_config("threshold", "low");
        assert!(matches!(handle(analyzed(-0.9)), Err(Failure::Retry { .. })));
    }

    #[test]
    fn what_does_not_fit_is_rejected_by_name() {
        for (data, expected) in [
            (json!({ "call_id": "c", "sentiment": "negative", "score": -1.5 }), "score"),
            (json!({ "call_id": "c", "sentiment": "angry", "score": -0.9 }), "angry"),
            (json!({ "sentiment": "negative", "score": -0.9 }), "call_id"),
        ] {
            match handle(testing::event("sentiment.analyzed", &data)) {
                Err(Failure::Reject(text)) => assert!(text.contains(expected), "{text}"),
                other => panic!("{data}: {other:?}"),
            }
        }
    }
}
