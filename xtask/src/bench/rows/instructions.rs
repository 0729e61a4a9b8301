//! The row of the instructions that a message costs outside of wasmtime, as callgrind counts them. The counted program is a unit test of the
//! crate `trunkline-route`, in the profile of the tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::apt;

use crate::bench::figures::{Figure, Target};
use crate::bench::place::TemporaryFolder;

const TEST: &str = "simulation::cost::every_message_of_a_plain_route_is_settled";
const PACKAGE: &str = "trunkline-route";
const CODECS: [&str; 3] = ["raw", "cloudevents", "ocelot"];
/// The numbers of messages of the two runs. The difference of the runs has no start and no end of the program.
const MESSAGES: [u32; 2] = [1_000, 3_000];
/// The line of callgrind's file with the sum of all instructions.
const SUMMARY: &str = "summary: ";

/// The instructions as figures.
pub(crate) fn run() -> Result<Vec<Figure>> {
    let figure = |(codec, count)| {
        let name = format!("instructions for a message of 1 KiB, {codec}");
        Figure { row: "instructions", name, ours: vec![count], peer: None, target: Target::None }
    };
    Ok(count()?.into_iter().map(figure).collect())
}

/// The instructions for a message with each codec.
pub(crate) fn count() -> Result<BTreeMap<String, f64>> {
    ensure_valgrind()?;
    let program = program()?;
    let mut counts = BTreeMap::new();
    for codec in CODECS {
        let [few, many] = MESSAGES.map(|messages| counted(&program, codec, messages));
        let count = (many? - few?) / f64::from(MESSAGES[1] - MESSAGES[0]);
        println!("instructions {codec}: {count:.0} for a message");
        counts.insert(codec.to_owned(), count.round());
    }
    Ok(counts)
}

fn ensure_valgrind() -> Result<()> {
    if Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    apt::install(&["valgrind"], "no valgrind: install the package valgrind")
}

/// The program with the unit tests of the crate. cargo builds the program, unless the tests ran before.
fn program() -> Result<PathBuf> {
    let mut cargo = xtask::cargo();
    cargo.args(["test", "--workspace", "--lib", "--no-run", "--quiet", "--message-format", "json-render-diagnostics"]);
    let output = cargo.output().context("cargo cannot be run")?;
    if !output.status.success() {
        bail!("the unit tests cannot be built ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_test = |message: &Value| {
        let id = message["package_id"].as_str().unwrap_or_default();
        message["profile"]["test"] == true && id.contains(PACKAGE)
    };
    let mut programs =
        messages.filter(is_test).filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?)));
    programs.next().with_context(|| format!("cargo built no unit tests of {PACKAGE}"))
}

/// The instructions of one run.
fn counted(program: &Path, codec: &str, messages: u32) -> Result<f64> {
    let folder = TemporaryFolder::new()?;
    let counts = folder.path().join("counts");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind"]).arg(format!("--callgrind-out-file={}", counts.display()));
    valgrind.arg(program).args([TEST, "--exact", "--test-threads=1"]);
    valgrind.env("TRUNKLINE_TEST_CODEC", codec).env("TRUNKLINE_TEST_MESSAGES", messages.to_string());
    let output = valgrind.output().context("valgrind cannot be run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !text.contains("1 passed") {
        bail!("{TEST} failed in callgrind:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    }
    let file = std::fs::read_to_string(&counts)?;
    let sum = file.lines().find_map(|line| line.strip_prefix(SUMMARY)).context("callgrind wrote no sum")?;
    Ok(sum.trim().parse()?)
}
