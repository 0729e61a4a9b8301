//! The binary `trunkline`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::execute()
}
