//! The queries of URLs, and forms. An unknown name in a query of the API is an error, like an unknown key of routes.toml.

use percent_encoding::percent_decode_str;

use crate::problem::Problem;

/// Decodes names and values, in their order.
///
/// # Errors
/// 400 when the query is not UTF-8 in percent-encoding, or has a name that is not in `known`.
pub(crate) fn parse(query: Option<&str>, known: &[&str]) -> Result<Vec<(String, String)>, Problem> {
    let mut found = Vec::new();
    for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let broken = || Problem::bad_request("the query must be UTF-8 in percent-encoding");
        let (name, value) = (decode(name).ok_or_else(broken)?, decode(value).ok_or_else(broken)?);
        if !known.contains(&name.as_str()) {
            let known = known.join(", ");
            return Err(Problem::bad_request(format!(
                "the query parameter {name:?} does not exist; known parameters: {known}"
            )));
        }
        found.push((name, value));
    }
    Ok(found)
}

/// The first value of a name in the query of another program. The function ignores other names and invalid values.
pub(crate) fn value(query: Option<&str>, wanted: &str) -> Option<String> {
    let parts = query.unwrap_or_default().split('&').map(|part| part.split_once('=').unwrap_or((part, "")));
    parts.filter(|(name, _)| decode(name).is_some_and(|name| name == wanted)).find_map(|(_, value)| decode(value))
}

/// The names and values of a form, in the order of the form. The result is `None` if the form is not UTF-8 in percent-encoding.
pub(crate) fn fields(form: &str) -> Option<Vec<(String, String)>> {
    let parts = form.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(name, value)| decode(name).zip(decode(value)))
        .collect()
}

/// Decodes `application/x-www-form-urlencoded` text. `None` for a `%` without two hexadecimal digits, and for text that is
/// not UTF-8. `percent_decode_str` and `form_urlencoded` would accept both texts.
fn decode(text: &str) -> Option<String> {
    let is_escape = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|digit| digit.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(is_escape) {
        return None;
    }
    let spaces = text.replace('+', " ");
    percent_decode_str(&spaces).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let read = parse(Some("pattern=a.%23&pattern=b+c&&exchange"), &["pattern", "exchange"]).expect("good");
        let read: Vec<(&str, &str)> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(read, [("pattern", "a.#"), ("pattern", "b c"), ("exchange", "")]);
        assert_eq!(parse(None, &[]).expect("good"), []);
        for bad in ["x=1", "pattern=%f", "pattern=%+f", "pattern=%ff", "pattern=%"] {
            assert!(parse(Some(bad), &["pattern"]).is_err(), "{bad}");
        }
    }

    #[test]
    fn foreign_queries_and_forms() {
        let query = Some("hub.mode=subscribe&hub.challenge=115%2B8&broken=%f&&hub.mode=other&x");
        for (name, expected) in [
            ("hub.mode", Some("subscribe")),
            ("hub.challenge", Some("115+8")),
            ("broken", None),
            ("x", Some("")),
            ("hub", None),
        ] {
            assert_eq!(value(query, name).as_deref(), expected, "{name}");
        }
        assert_eq!(value(None, "hub.mode"), None);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(fields("a=b+c&d=%2F&&e"), Some(vec![pair("a", "b c"), pair("d", "/"), pair("e", "")]));
        assert_eq!((fields("a=%f"), fields("")), (None, Some(Vec::new())));
    }
}
