//! The query of a URL, strictly: names that are not known are an error, as unknown keys of routes.toml are.

use super::Problem;

/// Names and values in their order, decoded.
///
/// # Errors
/// 400 when something is no UTF-8 or has a name that is not in the list.
pub(super) fn parse(query: Option<&str>, known: &[&str]) -> Result<Vec<(String, String)>, Problem> {
    let mut found = Vec::new();
    for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let broken = || Problem::bad_request("the query is not UTF-8 in percent encoding");
        let (name, value) = (decode(name).ok_or_else(broken)?, decode(value).ok_or_else(broken)?);
        if !known.contains(&name.as_str()) {
            let known = known.join(", ");
            return Err(Problem::bad_request(format!("there is no query parameter {name:?}; known: {known}")));
        }
        found.push((name, value));
    }
    Ok(found)
}

fn decode(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = after;
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_it_was_meant() {
        let read = parse(Some("pattern=a.%23&pattern=b+c&&exchange"), &["pattern", "exchange"]).expect("good");
        let read: Vec<(&str, &str)> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(read, [("pattern", "a.#"), ("pattern", "b c"), ("exchange", "")]);
        assert_eq!(parse(None, &[]).expect("good"), []);
        for bad in ["x=1", "pattern=%f", "pattern=%+f", "pattern=%ff", "pattern=%"] {
            assert!(parse(Some(bad), &["pattern"]).is_err(), "{bad}");
        }
    }
}
