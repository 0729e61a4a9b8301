//! The quick form for CI: the instructions for a message, and the row `rabbitmq` against lapin, compared with the committed figures.

use anyhow::{Result, bail};

use super::context::{BenchContext, BenchEnd};
use super::ratios::{self, Section};
use super::rows::{Row, instructions};
use super::table;

/// The rows of a quick run. The row that depends on no other program comes first.
const ROWS: [Row; 2] = [Row::Instructions, Row::Rabbitmq];

/// The figure whose ratio is compared. The rates of two runs of the same program differ by a tenth and more, and the processor time
/// of the daemon by a few hundredths.
const STEADY: &str = "rabbitmq, CPU s for 100 000";

/// Runs the named rows, or both, and fails if a figure is worse than the committed one. With `--write`, the figures become the
/// committed ones.
pub(crate) fn run(context: &BenchContext, named: &[Row]) -> Result<()> {
    if let Some(other) = named.iter().find(|row| !ROWS.contains(row)) {
        bail!("the row `{}` has no quick form; {} have one", other.name(), ROWS.map(Row::name).join(" and "));
    }
    let is_wanted = |row: &Row| named.is_empty() || named.contains(row);
    let mut failed = false;
    for row in ROWS.into_iter().filter(is_wanted) {
        let checked = if row == Row::Instructions { count(context) } else { compare(context) };
        // The other row runs all the same, so that one run shows all losses.
        if let Err(error) = checked {
            eprintln!("error: {error:#}");
            failed = true;
        }
    }
    if failed { bail!("the quick benchmark failed") } else { Ok(()) }
}

/// Counts the instructions.
fn count(context: &BenchContext) -> Result<()> {
    let counts = instructions::count()?;
    match context.end {
        BenchEnd::Write => ratios::write(Section::Instructions, &counts),
        BenchEnd::Print => ratios::check_instructions(&counts, &ratios::read(Section::Instructions)?),
    }
}

/// Measures the ratios to lapin.
fn compare(context: &BenchContext) -> Result<()> {
    let measured = Row::Rabbitmq.run(context)?;
    println!("{}", table::text(&measured.figures));
    match context.end {
        BenchEnd::Write => {
            let mut steady = ratios::of(&measured.figures);
            steady.retain(|name, _| name.contains(STEADY));
            ratios::write(Section::Quick, &steady)
        }
        BenchEnd::Print => ratios::check(&measured.figures, &ratios::read(Section::Quick)?),
    }
}
