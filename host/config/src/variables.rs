//! `${NAME}` in strings: expanded after TOML is parsed, so that a value can never become a key or a table.

use std::collections::BTreeMap;

/// A text with its variables replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// Whether anything was replaced, so that the text may hold what should not be shown.
    pub(super) replaced: bool,
}

/// Replaces `${NAME}`, `${NAME:-default}` and `${NAME:?message}`; `$${` stands for `${`. As in a shell, `:-` and `:?`
/// treat an empty variable as one that is not set. Defaults are taken as they stand, up to the first `}`.
///
/// # Errors
/// Every variable that is not set, and every `${` that is not closed or names nothing.
pub(super) fn expand(text: &str, environment: &BTreeMap<String, String>) -> Result<Expanded, Vec<String>> {
    let (mut out, mut problems, mut replaced, mut rest) = (String::new(), Vec::new(), false, text);
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let Some(end) = inner.find('}') else {
            problems.push("`${` is not closed; a literal one is written `$${`".to_owned());
            rest = "";
            break;
        };
        match value(&inner[..end], environment) {
            Ok(value) => out.push_str(value),
            Err(problem) => problems.push(problem),
        }
        replaced = true;
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    if problems.is_empty() { Ok(Expanded { text: out, replaced }) } else { Err(problems) }
}

fn value<'v>(inner: &'v str, environment: &'v BTreeMap<String, String>) -> Result<&'v str, String> {
    let (name, rest) = match inner.find(':') {
        Some(colon) => (&inner[..colon], Some(&inner[colon + 1..])),
        None => (inner, None),
    };
    let begins_well = name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
    if !begins_well || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(format!(
            "`${{{inner}}}` names no variable: letters, digits and '_'; a literal one is written `$${{`"
        ));
    }
    let known = environment.get(name).map(String::as_str);
    let filled = known.filter(|value| !value.is_empty());
    match rest {
        None => known.ok_or_else(|| format!("environment variable {name} is not set")),
        Some(rest) => match (filled, rest.strip_prefix('-'), rest.strip_prefix('?')) {
            (Some(value), Some(_), _) | (Some(value), _, Some(_)) => Ok(value),
            (None, Some(default), _) => Ok(default),
            (None, None, Some("")) => Err(format!("environment variable {name} is not set or empty")),
            (None, None, Some(message)) => Err(format!("environment variable {name}: {message}")),
            (_, None, None) => Err(format!("`${{{inner}}}` has ':' without '-' or '?'")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> BTreeMap<String, String> {
        [("A", "one"), ("EMPTY", ""), ("TRAP", "${A}")].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn forms() {
        for (text, expected, replaced) in [
            ("plain", "plain", false),
            ("${A}", "one", true),
            ("x-${A}-${A}-y", "x-one-one-y", true),
            ("${B:-two}", "two", true),
            ("${B:-}", "", true),
            ("${EMPTY:-two}", "two", true),
            ("${EMPTY}", "", true),
            ("${A:?needed}", "one", true),
            ("$A costs $5", "$A costs $5", false),
            ("$${A}", "${A}", false),
            ("${TRAP}", "${A}", true),
            ("${B:-a:b}", "a:b", true),
        ] {
            assert_eq!(expand(text, &environment()), Ok(Expanded { text: expected.to_owned(), replaced }), "{text}");
        }
    }

    #[test]
    fn problems_come_together() {
        for (text, wanted) in [
            ("${B}", vec!["B is not set"]),
            ("${B} ${C}", vec!["B is not set", "C is not set"]),
            ("${B:?set it to the broker}", vec!["B: set it to the broker"]),
            ("${EMPTY:?}", vec!["EMPTY is not set or empty"]),
            ("${A", vec!["is not closed"]),
            ("${}", vec!["names no variable"]),
            ("${1A}", vec!["names no variable"]),
            ("${A:x}", vec!["':' without '-' or '?'"]),
        ] {
            let problems = expand(text, &environment()).expect_err(text);
            assert_eq!(problems.len(), wanted.len(), "{text}: {problems:?}");
            for (problem, wanted) in problems.iter().zip(wanted) {
                assert!(problem.contains(wanted), "{text}: {problem}");
            }
        }
    }
}
