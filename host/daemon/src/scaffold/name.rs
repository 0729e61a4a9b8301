//! The names that a new plugin may have.

use trunkline_event::{NameError, PluginName};

use super::error::ScaffoldError;

/// The longest name. Packages, crates and files all take it.
const NAME_MAX_BYTES: usize = 64;
/// Names that Cargo refuses for a package, and the name of the SDK.
const RESERVED: [&str; 47] = [
    "abstract",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "priv",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "trunkline-plugin",
    "unsafe",
    "use",
    "while",
];

/// Checks that the name fits a route, a file, a package and a crate.
pub(super) fn check_name(name: &str) -> Result<(), ScaffoldError> {
    let bad = |problem: &str| Err(ScaffoldError::Name { name: name.to_owned(), problem: problem.to_owned() });
    if let Err(error) = PluginName::new(name) {
        return match error {
            NameError::Empty => bad("is empty"),
            NameError::TooLong(_) | NameError::TooManyWords(_) | NameError::Control(_) | NameError::Shape => {
                bad("is not valid: use lower-case letters, digits and '-', and begin with a lower-case letter")
            }
        };
    }
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) || !name.bytes().all(fits) {
        return bad("is not valid: use lower-case letters, digits and '-', and begin with a lower-case letter");
    }
    if name.ends_with('-') || name.contains("--") {
        return bad("has a '-' without a letter or digit after the '-'");
    }
    if name.len() > NAME_MAX_BYTES {
        return bad(&format!("has {} bytes; the limit is {NAME_MAX_BYTES} bytes", name.len()));
    }
    if RESERVED.contains(&name) {
        return bad("is a reserved word of a build tool; choose another name");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_tool_refuses_are_refused_at_once() {
        for name in ["", "Hello", "1st", "a b", "a/b", "../a", "-a", "a-", "a--b", "a_b", "fn", "test", &"a".repeat(65)]
        {
            assert!(matches!(check_name(name), Err(ScaffoldError::Name { .. })), "{name:?}");
        }
        for name in ["hello", "callback-task", "a1"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
    }
}
