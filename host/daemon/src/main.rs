//! The binary `trunkline`.

mod cli;

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A message costs a few dozen allocations, and other threads free many of them.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::execute()
}
