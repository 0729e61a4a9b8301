//! `trunkline repair`

use clap::Args;
use trunkline::daemon;

use super::exit;
use super::paths::Paths;

#[derive(Args)]
pub(super) struct Repair {
    #[command(flatten)]
    paths: Paths,
}

/// Rebuilds a damaged store. The exit code is 0 when no message is missing, 1 when some are, and 65 when nothing can be read
/// or a daemon runs.
pub(super) fn run(arguments: &Repair) -> u8 {
    let loaded = match arguments.paths.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let repaired = match daemon::repair(&loaded.config.state_dir) {
        Ok(repaired) => repaired,
        Err(error) => {
            eprintln!("error: {error}");
            return exit::DATA;
        }
    };
    let Some(damaged) = repaired.damaged else {
        println!("the store is not damaged, and the command changed nothing");
        return exit::OK;
    };
    println!("the store was damaged: {}", repaired.problem);
    for line in &repaired.left_out {
        println!("left out: {line}");
    }
    println!("the new store has {} messages; the damaged store is kept as {}", repaired.kept, damaged.display());
    if repaired.left_out.is_empty() { exit::OK } else { exit::FAILED }
}
