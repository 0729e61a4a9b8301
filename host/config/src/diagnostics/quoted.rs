//! Values in messages.

use std::fmt::Write as _;

/// `"a"`, with control characters escaped, cut when long.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    let mut shown = String::from("\"");
    for letter in text.chars().take(SHOWN_MAX) {
        match letter {
            '"' | '\\' => shown.push(letter),
            _ => _ = write!(shown, "{}", letter.escape_debug()),
        }
    }
    shown.push_str(if text.chars().count() > SHOWN_MAX { "…\"" } else { "\"" });
    shown
}
