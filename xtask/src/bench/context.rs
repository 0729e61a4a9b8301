//! The settings of one run of the benchmark, and the daemon that the rows share.

use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use super::daemon::{DaemonProfile, DaemonProgram};
use super::peers::Peer;

/// Rounds of each row. The median of fewer rounds would scatter more than the changes that the benchmark has to see.
const ROUNDS: usize = 5;
/// The part of the messages that a quick run has.
const QUICK_SCALE: f64 = 0.4;
/// Minutes of load in the row `memory`.
const MINUTES: u64 = 1;

/// The end of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum BenchEnd {
    /// The figures are only printed.
    #[default]
    Print,
    /// The page, the plots and the committed ratios are written.
    Write,
}

/// The settings of a run.
#[derive(Debug, Default)]
pub(crate) struct BenchContext {
    pub(crate) rounds: usize,
    pub(crate) end: BenchEnd,
    pub(crate) is_quick: bool,
    /// The number of messages, as a part of the usual number.
    scale: f64,
    /// The minutes of load in the row `memory`.
    pub(crate) minutes: u64,
    /// The peers that are measured; all of them if the list is empty.
    peers: Vec<String>,
    daemon: OnceLock<DaemonProgram>,
}

impl BenchContext {
    /// Reads the arguments, and gives the context and the words that are no options.
    pub(crate) fn parse<'a>(arguments: &[&'a str]) -> Result<(Self, Vec<&'a str>)> {
        let mut context = Self { rounds: ROUNDS, minutes: MINUTES, scale: 1.0, ..Self::default() };
        let (mut names, mut words) = (Vec::new(), arguments.iter());
        while let Some(word) = words.next() {
            let mut value = || words.next().copied().with_context(|| format!("`{word}` needs a value"));
            match *word {
                "--write" => context.end = BenchEnd::Write,
                "--quick" => context.is_quick = true,
                "--rounds" => context.rounds = value()?.parse().context("`--rounds` needs a number")?,
                "--scale" => context.scale = value()?.parse().context("`--scale` needs a number")?,
                "--minutes" => context.minutes = value()?.parse().context("`--minutes` needs a number")?,
                "--peer" => context.peers.push(value()?.to_owned()),
                option if option.starts_with('-') => {
                    bail!(
                        "`{option}` is not an option of `bench`: use --quick, --write, --rounds N, --scale PART, --minutes N, --peer NAME"
                    )
                }
                name => names.push(name),
            }
        }
        if context.is_quick {
            context.scale *= QUICK_SCALE;
            context.peers = vec![Peer::Lapin.name().to_owned()];
        }
        if context.rounds == 0 || context.scale <= 0.0 {
            bail!("`--rounds` and `--scale` need a number above zero");
        }
        Ok((context, names))
    }

    /// Whether a peer is measured.
    pub(crate) fn has_peer(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|peer| peer.eq_ignore_ascii_case(name))
    }

    /// A number of messages after `--scale`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a number of messages is small"
    )]
    pub(crate) fn scaled(&self, messages: u64) -> u64 {
        ((messages as f64 * self.scale) as u64).max(1)
    }

    /// The daemon, which is built by the first row that needs it.
    pub(crate) fn daemon(&self) -> Result<&DaemonProgram> {
        if self.daemon.get().is_none() {
            let profile = if self.is_quick { DaemonProfile::Dev } else { DaemonProfile::Release };
            let _first = self.daemon.set(DaemonProgram::build(profile)?);
        }
        self.daemon.get().context("the daemon was built")
    }
}
