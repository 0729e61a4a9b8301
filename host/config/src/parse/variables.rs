//! `${NAME}` in strings: expanded after TOML is parsed, so that a value can never become a key or a table.

use std::collections::BTreeMap;

/// A text with its variables replaced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// Whether a variable was replaced, so that the text may contain a secret.
    pub(crate) replaced: bool,
}

/// A variable that cannot be replaced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct VariableProblem {
    pub(crate) message: String,
    /// The correct form.
    pub(crate) help: String,
}

/// Replaces `${NAME}`, `${NAME:-default}` and `${NAME:?message}`; `$${` stands for `${`. As in a shell, `:-` and `:?`
/// treat an empty variable as one that is not set. Defaults are taken as they stand, up to the first `}`. As in the `$(…)` of
/// a shell, line feeds at the end of a value are left out, because tools that keep secrets often append one.
///
/// # Errors
/// Every variable that is not set, and every `${` that is not closed or names nothing.
pub(crate) fn expand(text: &str, environment: &BTreeMap<String, String>) -> Result<Expanded, Vec<VariableProblem>> {
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
            problems.push(VariableProblem {
                message: "the value has a `${` without its `}`".to_owned(),
                help: "write `${NAME}`, or write `$${` for a literal `${`".to_owned(),
            });
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

fn value<'v>(inner: &'v str, environment: &'v BTreeMap<String, String>) -> Result<&'v str, VariableProblem> {
    let (name, rest) = match inner.find(':') {
        Some(colon) => (&inner[..colon], Some(&inner[colon + 1..])),
        None => (inner, None),
    };
    let begins_well = name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
    if !begins_well || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(VariableProblem {
            message: format!("`${{{inner}}}` does not contain a valid variable name"),
            help: "use letters, digits and '_' in the name, as in `${BROKER_URL}`, or write `$${` for a literal `${`"
                .to_owned(),
        });
    }
    let known = environment.get(name).map(|value| value.trim_end_matches(['\r', '\n']));
    let filled = known.filter(|value| !value.is_empty());
    match rest {
        None => known.ok_or_else(|| VariableProblem {
            message: format!("the environment variable {name} is not set"),
            help: format!("set {name}, or write `${{{name}:-DEFAULT}}`"),
        }),
        Some(rest) => match (filled, rest.strip_prefix('-'), rest.strip_prefix('?')) {
            (Some(value), Some(_), _) | (Some(value), _, Some(_)) => Ok(value),
            (None, Some(default), _) => Ok(default),
            (None, None, Some("")) => Err(VariableProblem {
                message: format!("the environment variable {name} is empty or not set"),
                help: format!("set {name}"),
            }),
            (None, None, Some(message)) => Err(VariableProblem {
                message: format!("environment variable {name}: {message}"),
                help: format!("set {name}"),
            }),
            (_, None, None) => Err(VariableProblem {
                message: format!("`${{{inner}}}` has ':' without '-' or '?'"),
                help: format!("write `${{{name}:-DEFAULT}}` or `${{{name}:?MESSAGE}}`"),
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> BTreeMap<String, String> {
        [("A", "one"), ("EMPTY", ""), ("TRAP", "${A}"), ("FILED", "two\r\n"), ("LINE", "\n")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
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
            ("amqp://u:${FILED}@h", "amqp://u:two@h", true),
            ("${LINE:-two}", "two", true),
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
            ("${EMPTY:?}", vec!["EMPTY is empty or not set"]),
            ("${A", vec!["without its `}`"]),
            ("${}", vec!["a valid variable name"]),
            ("${1A}", vec!["a valid variable name"]),
            ("${A:x}", vec!["':' without '-' or '?'"]),
        ] {
            let problems = expand(text, &environment()).expect_err(text);
            assert_eq!(problems.len(), wanted.len(), "{text}: {problems:?}");
            for (problem, wanted) in problems.iter().zip(wanted) {
                assert!(problem.message.contains(wanted), "{text}: {problem:?}");
            }
        }
    }
}
