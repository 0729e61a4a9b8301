//! `cargo xtask demo | test | matrix | docs | chaos | bench | book | build | deny`

mod bench;
mod chaos;
mod demo;
mod docs;
mod matrix;
mod test;

use std::process::ExitCode;

const USAGE: &str = "cargo xtask COMMAND

  demo [--once]   Build the plugins and the daemon, start the daemon on the embedded broker, publish the sample events and
                  show their outcomes. --once ends after the last event, with exit code 0 if all outcomes were as expected.
  test [ARGS]     Run every test, also against a real RabbitMQ. ARGS go to `cargo nextest run`.
  matrix [ARGS]   Run the end-to-end tests on the RabbitMQ of three Debian releases, and on a cluster of three nodes. --short
                  runs a part of the tests on the RabbitMQ versions that `test` does not run. --only WORD runs one release
                  (bookworm, trixie, forky, or a version such as 4.3), --part NAME one part, such as faults. --fresh makes
                  the roots of the releases again.
                  Needs root and Debian, except for the release of this machine.
  docs [WORDS]    Run the shell blocks of README, tutorial and how-to pages; with WORDS, only of pages whose path contains
                  one of the words.
  chaos [ARGS]    Run the daemon under faults and check that no event is lost: --broker embedded|amqp, --seed N,
                  --short | --minutes M | --events N, --release. `chaos --help` shows all arguments.
  bench [NAME...] Measure the daemon side by side with other AMQP clients, in turns, and print the ratios. NAME is a row:
                  rabbitmq, busy, latency, embedded, posts, invoke, queues, routes, memory, load, growth, instructions.
                  --write puts the figures into docs/benchmarks.md and benches/ratios.json. --rounds N, --scale PART,
                  --minutes N and --peer NAME change a run. --quick compares the ratios to lapin and the instructions
                  for a message with benches/ratios.json.
  book            Build the book of docs/ into target/book.
  build           Build the plugins into target/plugins.
  deny            Check licences, sources and duplicates of the dependencies with cargo-deny, without the network.
";

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let words = arguments.iter().map(String::as_str).collect::<Vec<_>>();
    let result = match words.as_slice() {
        ["demo"] => demo::run(false),
        ["demo", "--once"] => demo::run(true),
        ["test", rest @ ..] => test::run(rest),
        ["matrix", rest @ ..] => matrix::run(rest),
        ["docs", rest @ ..] => docs::run(rest),
        ["chaos", rest @ ..] => chaos::run(rest),
        ["bench", rest @ ..] => bench::run(rest),
        ["book"] => book(),
        ["deny"] => deny(),
        ["build"] => demo::build_plugins().map(drop),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn book() -> anyhow::Result<()> {
    let path = xtask::tools::MDBOOK.path()?;
    let output = xtask::command("mdbook").env("PATH", path).args(["build", "docs"]).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    eprint!("{text}");
    // mdBook warns of what it leaves out, and ends well.
    if output.status.success() && !text.contains("WARN") {
        Ok(())
    } else {
        anyhow::bail!("the book has errors or warnings")
    }
}

fn deny() -> anyhow::Result<()> {
    let path = xtask::tools::DENY.path()?;
    let mut cargo = xtask::cargo();
    cargo.env("PATH", path).args([
        "deny",
        "--offline",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]);
    let status = cargo.status()?;
    if status.success() { Ok(()) } else { anyhow::bail!("cargo deny reported problems ({status})") }
}
