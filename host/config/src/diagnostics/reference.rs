//! The reference page of diagnostics.

use std::fmt::Write as _;

use super::codes::Code;

const HEAD: &str = "# Diagnostics

This page lists the codes that `trunkline check`, `trunkline run` and a reload report about routes.toml. The page is
generated from the codes of the program. `trunkline explain CODE` prints the text of a code. Codes from `TL400` upwards
belong to the [HTTP API](../how-to/use-the-http-api.md).
";

/// The reference page as Markdown: a heading for each code, what it means, and what to do.
#[must_use]
pub fn diagnostics_reference() -> String {
    let mut page = HEAD.to_owned();
    for code in Code::ALL {
        let (meaning, remedy) = (code.meaning(), code.remedy());
        let _infallible = write!(page, "\n## {}: {}\n\n{meaning}\n\n**Do:** {remedy}\n", code.as_str(), code.title());
    }
    page
}
