//! The point in a stream at which a client begins or resumes, and the token that names the stream.

use uuid::Uuid;

use trunkline_http::Problem;

/// The point after which a client wants events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ResumePoint {
    /// The client is new.
    New,
    /// The client reconnects and has received no event.
    Begin,
    /// The client reconnects, and the event at this position was its last one.
    After(String),
}

/// A token for a new stream of the selection with this fingerprint.
pub(super) fn new_token(fingerprint: &str) -> String {
    format!("{}-{fingerprint}", Uuid::now_v7().simple())
}

/// The token and the resume point of a last event id.
///
/// # Errors
/// 400 when no stream gave the id, or when the stream had another selection.
pub(super) fn parse(id: &str, fingerprint: &str) -> Result<(String, ResumePoint), Problem> {
    let is_hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let foreign = || {
        Problem::bad_request(
            "Last-Event-ID is not an id of a Trunkline stream; send the id of the last event that the client received",
        )
    };
    let (token, position) = id.split_once('.').ok_or_else(foreign)?;
    let (unique, of) = token.split_once('-').ok_or_else(foreign)?;
    if !is_hex(unique, 32) || !is_hex(of, 8) || !(position == "0" || is_hex(position, 16)) {
        return Err(foreign());
    }
    if of != fingerprint {
        return Err(Problem::bad_request(
            "Last-Event-ID belongs to a stream with another exchange or other patterns; open a new stream without Last-Event-ID",
        ));
    }
    let point = if position == "0" { ResumePoint::Begin } else { ResumePoint::After(position.to_owned()) };
    Ok((token.to_owned(), point))
}

#[cfg(test)]
mod tests {
    use trunkline_event::{ExchangeName, RoutingKey};

    use super::super::selection::fingerprint;
    use super::*;

    #[test]
    fn a_last_event_id_is_taken_only_for_its_own_selection() {
        let keys = |texts: &[&str]| texts.iter().map(|text| RoutingKey::new(text).expect("a key")).collect::<Vec<_>>();
        let exchange = ExchangeName::new("events").expect("a name");
        let selection = fingerprint(&exchange, &keys(&["a", "b"]));
        assert_ne!(selection, fingerprint(&exchange, &keys(&["ab"])));
        let token = new_token(&selection);
        assert_eq!(parse(&format!("{token}.0"), &selection).expect("own"), (token.clone(), ResumePoint::Begin));
        let event = "0123456789abcdef";
        let point = ResumePoint::After(event.to_owned());
        assert_eq!(parse(&format!("{token}.{event}"), &selection).expect("own"), (token.clone(), point));
        assert!(parse(&format!("{token}.{event}"), "00000000").is_err(), "other patterns");
        for bad in ["", "x", "a-b.c", &token, &format!("{token}.0123456789ABCDEF"), &format!("{token}.#")] {
            assert!(parse(bad, &selection).is_err(), "{bad}");
        }
    }
}
