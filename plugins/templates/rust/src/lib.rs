//! Answers a greeting.

use serde::{Deserialize, Serialize};
use trunkline_plugin::{Emission, Event, Failure, handler};

#[derive(Deserialize)]
struct Said {
    name: String,
}

#[derive(Serialize)]
struct Answered {
    text: String,
}

/// Data that does not fit `Said` is rejected: the event goes to the dead-letter queue with the parser's error.
#[handler(description = "Answers a greeting", takes = ["hello.said"], emits = ["hello.answered"])]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let said: Said = event.json()?;
    let answered = Answered { text: format!("Hello, {}!", said.name) };
    Ok(vec![Emission::json("hello.answered", &answered)?.subject(said.name)])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use trunkline_plugin::testing;

    use super::*;

    #[test]
    fn a_greeting_is_answered() {
        let emitted = handle(testing::event("hello.said", &json!({ "name": "Zoë" }))).expect("an answer");
        assert_eq!(emitted.len(), 1);
        assert_eq!(emitted[0].kind, "hello.answered");
        assert_eq!(emitted[0].read::<Value>().expect("JSON"), json!({ "text": "Hello, Zoë!" }));
    }

    #[test]
    fn what_does_not_fit_is_rejected() {
        for data in [json!(null), json!([1]), json!({}), json!({ "name": 1 })] {
            let answer = handle(testing::event("hello.said", &data));
            assert!(matches!(answer, Err(Failure::Reject(_))), "{data}: {answer:?}");
        }
    }
}
