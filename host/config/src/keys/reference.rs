//! The reference page of routes.toml.

use std::fmt::Write as _;

use crate::keys::section::Section;
use crate::keys::shape::KeyEntry;
use crate::keys::table::sections;

const HEAD: &str = "# Keys of routes.toml

This page lists every section and every key of routes.toml. The page is generated from the table of keys. The daemon
reads routes.toml with this table of keys.

- A string may contain `${NAME}`. The daemon replaces `${NAME}` with the value of the environment variable `NAME`.
- The daemon replaces `${NAME:-default}` with `default` if the environment variable `NAME` is missing or empty.
- The daemon reports `message` of `${NAME:?message}` as an error if the environment variable `NAME` is missing or empty.
- A duration is a string such as `\"500ms\"`, `\"5s\"`, `\"2m\"`, `\"24h\"` or `\"7d\"`.
- A size is a string such as `\"512B\"`, `\"64KiB\"` or `\"1MiB\"`.
- An unknown key is an error. The error names the most similar known key.
- `trunkline check` reports all errors of a file. [Diagnostics](diagnostics.md) lists the codes of the errors.
";

/// The reference page as Markdown: a heading for each section, with an example and its keys.
#[must_use]
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for section in sections() {
        let _infallible = write_section(&mut page, section);
    }
    page
}

fn write_section(page: &mut String, section: &Section) -> std::fmt::Result {
    let title = if section.title.starts_with('[') { format!("`{}`", section.title) } else { section.title.to_owned() };
    write!(page, "\n## {title}\n\n{}\n\n```toml\n{}```\n", section.about, section.example)?;
    for key in section.entries() {
        write!(page, "\n### `{}`\n\n{}\n\n", key.name, key.about)?;
        writeln!(page, "- value: {}", key.shape)?;
        writeln!(page, "- default: {}", default(&key))?;
    }
    for name in section.reserved {
        write!(page, "\n### `{name}`\n\nThe key `{name}` is reserved. This version refuses the key.\n")?;
    }
    Ok(())
}

fn default(key: &KeyEntry) -> String {
    match (&key.default, key.note) {
        _ if key.required => "none; the key is required".to_owned(),
        (Some(value), Some(note)) => format!("`{value}`; {note}"),
        (Some(value), None) => format!("`{value}`"),
        (None, Some(note)) => note.to_owned(),
        (None, None) => "none".to_owned(),
    }
}
