//! The committed ratios, `benches/ratios.json`: a full run writes its ratios, and a quick run compares its ratios with them. The file
//! has ratios and instruction counts only, because times differ between machines.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use xtask::root;

use super::figures::{Figure, Target};

/// The part of a committed ratio that a quick run may lose.
const LOSS_MAX: f64 = 0.2;
/// The part of a committed instruction count that a change may add. Two runs of the same program differ by less than 1 %.
const INSTRUCTIONS_ADDED_MAX: f64 = 0.05;

/// A section of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    /// Ratios of full runs, with the daemon in the release profile.
    Full,
    /// Ratios of quick runs.
    Quick,
    /// Instructions for a message, which callgrind counts.
    Instructions,
}

impl Section {
    const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Quick => "quick",
            Self::Instructions => "instructions",
        }
    }
}

fn file() -> PathBuf {
    root().join("benches/ratios.json")
}

/// The numbers of a section; none where the file has none.
pub(crate) fn read(section: Section) -> Result<BTreeMap<String, f64>> {
    let text = std::fs::read_to_string(file()).unwrap_or_else(|_absent| "{}".to_owned());
    let whole: Map<String, Value> = serde_json::from_str(&text).with_context(|| file().display().to_string())?;
    let numbers = whole.get(section.name()).and_then(Value::as_object).into_iter().flatten();
    Ok(numbers.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect())
}

/// Writes numbers of a section; all other numbers stay.
pub(crate) fn write(section: Section, numbers: &BTreeMap<String, f64>) -> Result<()> {
    let text = std::fs::read_to_string(file()).unwrap_or_else(|_absent| "{}".to_owned());
    let mut whole: Map<String, Value> = serde_json::from_str(&text).with_context(|| file().display().to_string())?;
    let kept = whole.entry(section.name()).or_insert_with(|| json!({}));
    for (name, value) in numbers {
        kept[name.as_str()] = json!(value);
    }
    Ok(std::fs::write(file(), serde_json::to_string_pretty(&whole)? + "\n")?)
}

/// The ratios of figures that have a peer and a target, rounded to three digits after the point.
pub(crate) fn of(figures: &[Figure]) -> BTreeMap<String, f64> {
    let compared = figures.iter().filter(|figure| figure.peer.is_some() && figure.target != Target::None);
    compared.map(|figure| (figure.key(), (figure.compared().median * 1000.0).round() / 1000.0)).collect()
}

/// Fails when a figure lost more than a fifth against its committed ratio.
pub(crate) fn check(figures: &[Figure], committed: &BTreeMap<String, f64>) -> Result<()> {
    let mut lost = Vec::new();
    for figure in figures {
        let Some(before) = committed.get(&figure.key()) else { continue };
        let now = figure.compared().median;
        let is_lost = match figure.target {
            Target::AtLeast(_) => now < before * (1.0 - LOSS_MAX),
            Target::AtMost(_) => now > before / (1.0 - LOSS_MAX),
            Target::None => false,
        };
        if is_lost {
            lost.push(format!("{}: {now:.2}, committed {before:.2}", figure.key()));
        }
    }
    if lost.is_empty() {
        return Ok(());
    }
    bail!(
        "these ratios are more than a fifth worse than in benches/ratios.json:\n  {}\nmake the change faster, or run \
         `cargo xtask bench --quick --write` and give the reason in the commit message",
        lost.join("\n  ")
    )
}

/// Fails when a case needs more instructions than committed.
pub(crate) fn check_instructions(counted: &BTreeMap<String, f64>, committed: &BTreeMap<String, f64>) -> Result<()> {
    let mut grown = Vec::new();
    for (name, now) in counted {
        let Some(before) = committed.get(name) else {
            bail!("benches/ratios.json has no instruction count for {name}")
        };
        if *now > before * (1.0 + INSTRUCTIONS_ADDED_MAX) {
            grown.push(format!("{name}: {now:.0} instructions for a message, committed {before:.0}"));
        }
    }
    if grown.is_empty() { Ok(()) } else { bail!("more than 5 % above benches/ratios.json:\n  {}", grown.join("\n  ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(ours: f64, target: Target) -> Figure {
        let peer = Some(("lapin".to_owned(), vec![1.0]));
        Figure { row: "rabbitmq", name: "messages a second".to_owned(), ours: vec![ours], peer, target }
    }

    #[test]
    fn a_loss_of_more_than_a_fifth_fails() {
        let committed = BTreeMap::from([("rabbitmq, messages a second, lapin".to_owned(), 0.9)]);
        for (ours, target, is_good) in [
            (0.73, Target::AtLeast(0.9), true),
            (0.71, Target::AtLeast(0.9), false),
            (1.12, Target::AtMost(0.9), true),
            (1.13, Target::AtMost(0.9), false),
            (9.0, Target::None, true),
        ] {
            assert_eq!(check(&[figure(ours, target)], &committed).is_ok(), is_good, "{ours} {target:?}");
        }
    }

    #[test]
    fn more_instructions_fail_and_fewer_pass() {
        let count = |count: f64| BTreeMap::from([("raw".to_owned(), count)]);
        for (now, is_good) in [(900.0, true), (1049.0, true), (1051.0, false)] {
            assert_eq!(check_instructions(&count(now), &count(1000.0)).is_ok(), is_good, "{now}");
        }
        assert!(check_instructions(&count(1.0), &BTreeMap::new()).is_err());
    }

    #[test]
    fn the_committed_file_can_be_read() {
        for section in [Section::Full, Section::Quick, Section::Instructions] {
            read(section).expect("valid JSON");
        }
    }
}
