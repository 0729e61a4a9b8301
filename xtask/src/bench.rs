//! Benchmarks: each row measures the daemon side by side with its peers, in the same run and in turns.

mod amqp;
mod components;
mod context;
mod daemon;
mod echo;
mod figures;
mod http;
mod load;
mod page;
mod peers;
mod place;
mod program;
mod quick;
mod ratios;
mod rows;
mod svg;
mod table;
mod usage;

use anyhow::Result;
use xtask::rabbitmq;

use context::{BenchContext, BenchEnd};
use ratios::Section;
use rows::Row;

/// Runs the rows that the arguments name, or all rows, and prints the figures as a table.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let (context, names) = BenchContext::parse(arguments)?;
    let named = names.into_iter().map(Row::of).collect::<Result<Vec<_>>>()?;
    rabbitmq::ensure()?;
    if context.is_quick {
        return quick::run(&context, &named);
    }
    let rows = if named.is_empty() { Row::ALL.to_vec() } else { named };
    let (count, mut figures) = (rows.len(), Vec::new());
    for row in rows {
        println!("== {}", row.name());
        let measured = row.run(&context)?;
        println!("{}\n", table::text(&measured.figures));
        if context.end == BenchEnd::Write {
            page::write(row.name(), &measured.figures, &measured.plots)?;
            ratios::write(Section::Full, &ratios::of(&measured.figures))?;
        }
        figures.extend(measured.figures);
    }
    if count > 1 {
        println!("{}", table::text(&figures));
    }
    Ok(())
}
