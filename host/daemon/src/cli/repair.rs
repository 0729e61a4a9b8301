//! `trunkline repair`: what is whole of a damaged store.

use std::path::Path;

use clap::Args;
use trunkline::daemon;

use super::{Paths, exit};

#[derive(Args)]
pub(crate) struct Repair {
    #[command(flatten)]
    pub(crate) paths: Paths,
}

/// 0 when nothing is missing, 1 when something is, 65 when nothing can be read or a daemon runs.
pub(crate) fn run(state_dir: &Path) -> u8 {
    let repaired = match daemon::repair(state_dir) {
        Ok(repaired) => repaired,
        Err(error) => {
            eprintln!("error: {error}");
            return exit::DATA;
        }
    };
    let Some(damaged) = repaired.damaged else {
        println!("the store is whole; nothing was changed");
        return exit::OK;
    };
    println!("the store was damaged: {}", repaired.problem);
    for line in &repaired.left_out {
        println!("left out: {line}");
    }
    println!("{} messages are in the new store; the damaged one is {}", repaired.kept, damaged.display());
    if repaired.left_out.is_empty() { exit::OK } else { exit::FAILED }
}
