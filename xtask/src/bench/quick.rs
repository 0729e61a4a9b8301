//! The quick form for CI: the row `rabbitmq` against lapin, compared with the committed ratios.

use anyhow::Result;

use super::context::{BenchContext, BenchEnd};
use super::ratios::{self, Section};
use super::rows::Row;
use super::table;

/// Measures, prints the table, and fails after a loss of more than a fifth. With `--write`, the ratios become the committed ones.
pub(crate) fn run(context: &BenchContext) -> Result<()> {
    let measured = Row::Rabbitmq.run(context)?;
    println!("{}", table::text(&measured.figures));
    match context.end {
        BenchEnd::Write => ratios::write(Section::Quick, &ratios::of(&measured.figures)),
        BenchEnd::Print => ratios::check(&measured.figures, &ratios::read(Section::Quick)?),
    }
}
