//! The generated parts of `docs/benchmarks.md`: one part for each row, between two comments. The rest of the page stays.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use xtask::rabbitmq::RabbitmqServer;
use xtask::root;

use super::figures::Figure;
use super::svg::{Plot, svg};
use super::table::cells;

/// The place of a new part.
const END: &str = "<!-- bench: end -->";

/// Replaces the parts of rows in the page, and writes the plots.
pub(crate) fn write(row: &str, figures: &[Figure], plots: &[(&str, Plot)]) -> Result<()> {
    let file = root().join("docs/benchmarks.md");
    let page = std::fs::read_to_string(&file)?;
    let mut part = format!("{}\n\n{}\n", origin(row)?, table(figures));
    for (name, plot) in plots {
        let image = image(name);
        std::fs::write(root().join("docs").join(&image), svg(plot))?;
        part += &format!("\n![{}]({})\n", plot.title, image.display());
    }
    Ok(std::fs::write(&file, replaced(&page, row, &part)?)?)
}

fn image(name: &str) -> PathBuf {
    PathBuf::from("images").join(format!("benchmark-{name}.svg"))
}

/// The sentences about the measurement.
fn origin(row: &str) -> Result<String> {
    let date = said(Command::new("date").args(["-u", "+%F"]))?;
    let commit = said(Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(root()))?;
    let processors = std::thread::available_parallelism()?;
    let version = RabbitmqServer::chosen().version().unwrap_or_else(|| "?".to_owned());
    Ok(format!(
        "The command `cargo xtask bench {row}` ran on {date} at commit {commit}, with {processors} processors and RabbitMQ \
         {version}.\nA figure with brackets is the median of its rounds. The brackets contain the smallest and the largest round."
    ))
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The figures as a table of Markdown.
fn table(figures: &[Figure]) -> String {
    let head = "| figure | Trunkline | peer | ratio, or the figure without a peer | target | result |\n|---|---|---|---|---|---|";
    let lines = figures.iter().map(|figure| {
        let [_row, rest @ ..] = cells(figure);
        format!("| {} |", rest.join(" | "))
    });
    std::iter::once(head.to_owned()).chain(lines).collect::<Vec<_>>().join("\n")
}

/// The page with another part for a row. A part without a place goes to the end of the generated parts.
fn replaced(page: &str, row: &str, part: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- bench {row}: begin -->\n"), format!("<!-- bench {row}: end -->\n"));
    let whole = format!("{begin}\n{part}\n{end}");
    if let (Some(from), Some(to)) = (page.find(&begin), page.find(&end)) {
        return Ok(format!("{}{whole}{}", &page[..from], &page[to + end.len()..]));
    }
    let place = page.find(END).with_context(|| format!("docs/benchmarks.md has no line {END}"))?;
    Ok(format!("{}### Row `{row}`\n\n{whole}\n{}", &page[..place], &page[place..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_part_of_the_row_is_replaced() {
        let page = format!("# A\n\n{END}\n\nby hand\n");
        let once = replaced(&page, "busy", "first\n").expect("a place");
        let both = replaced(&once, "load", "other\n").expect("a place");
        let twice = replaced(&both, "busy", "second\n").expect("a place");
        assert!(!twice.contains("first") && twice.contains("second") && twice.contains("other"), "{twice}");
        assert!(twice.starts_with("# A\n\n### Row `busy`\n") && twice.ends_with("\n\nby hand\n"), "{twice}");
        assert!(replaced("# A\n", "busy", "x").is_err());
    }
}
