//! Runs the shell blocks of the documentation as a reader does: the blocks of a page run in order, in one shell, in the root of
//! the clone. `trunkline` is the debug build of the daemon.

use anyhow::{Context, Result, bail};
use xtask::pages::pages;
use xtask::root;

use crate::demo::build_plugins;

/// Runs every page, or those whose path contains one of the words.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    build_plugins()?;
    xtask::build(&["--bin", "trunkline"])?;
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
    if failed.is_empty() { Ok(()) } else { bail!("the shell blocks of these pages failed: {}", failed.join(", ")) }
}

/// The blocks whose fence says `sh`. Blocks with `sh no-run` do not run.
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
    // Processes that a page leaves running end with the page.
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
