//! The shell blocks of the documentation, run as a reader would: the blocks of a page in order, in one shell, in the root of
//! the clone, with the daemon of the tests on the path.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use xtask::root;

use crate::demo::build_plugins;

/// Runs every page, or those whose path contains one of the words.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    build_plugins()?;
    let built = xtask::cargo().args(["build", "--quiet", "--workspace", "--bin", "trunkline"]).status()?;
    if !built.success() {
        bail!("the daemon does not build ({built})");
    }
    let mut failed = Vec::new();
    for page in pages()? {
        let name = page.strip_prefix(root()).unwrap_or(&page).display().to_string();
        let blocks = blocks(&std::fs::read_to_string(&page)?);
        if blocks.is_empty() || !words.is_empty() && !words.iter().any(|word| name.contains(word)) {
            continue;
        }
        let began = std::time::Instant::now();
        let status = shell(&blocks).with_context(|| name.clone())?;
        println!("{name}: {} blocks, {} s: {status}", blocks.len(), began.elapsed().as_secs());
        if !status.success() {
            failed.push(name);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("these pages do not do what they say: {}", failed.join(", ")) }
}

/// README, tutorial and how-to pages, the tutorial first.
fn pages() -> Result<Vec<PathBuf>> {
    let mut pages = vec![root().join("README.md")];
    for folder in ["docs/tutorial", "docs/how-to"] {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(root().join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
        found.sort();
        pages.extend(found);
    }
    Ok(pages)
}

/// The blocks that begin with a fence of exactly `sh`; `sh no-run` is for people.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        match (&mut block, line) {
            (None, "```sh") => block = Some(String::new()),
            (Some(_), "```") => blocks.extend(block.take()),
            (Some(lines), _) => {
                lines.push_str(line);
                lines.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}

fn shell(blocks: &[String]) -> Result<std::process::ExitStatus> {
    let debug = root().join("target/debug");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(debug).chain(std::env::split_paths(&path));
    let mut shell = xtask::command("bash");
    shell.env("PATH", std::env::join_paths(paths)?).args(["-euo", "pipefail", "-c"]);
    // Whatever a page leaves running ends with it.
    shell.arg(format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{}", blocks.concat()));
    Ok(shell.status()?)
}

#[cfg(test)]
mod tests {
    use super::blocks;

    #[test]
    fn only_blocks_that_run_are_taken() {
        let text = "a\n```sh\none\ntwo\n```\n```sh no-run\nnever\n```\n```toml\nx = 1\n```\n```sh\nthree\n```\n";
        assert_eq!(blocks(text), ["one\ntwo\n", "three\n"]);
    }
}
