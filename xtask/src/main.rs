//! `cargo xtask demo | test | docs | chaos | bench | build`

mod bench;
mod chaos;
mod demo;
mod docs;
mod test;

use std::process::ExitCode;

const USAGE: &str = "cargo xtask COMMAND

  demo [--once]   build everything, start the daemon on the embedded broker, publish the sample events, show what
                  becomes of them; --once ends with 0 when all were settled as expected
  test [ARGS]     every test, a real RabbitMQ included; ARGS go to `cargo test`
  docs [WORDS]    the shell blocks of README, tutorial and how-to pages, as a reader runs them; of the pages whose path
                  contains one of the words
  chaos [ARGS]    the daemon under faults, and whether anything was lost; --broker embedded|amqp, --seed N,
                  --short | --minutes M | --events N, --release; all of them: --help
  bench invoke    what a fresh instance and a call of a plugin cost
  build           the plugins, into target/plugins
";

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let words = arguments.iter().map(String::as_str).collect::<Vec<_>>();
    let result = match words.as_slice() {
        ["demo"] => demo::run(false),
        ["demo", "--once"] => demo::run(true),
        ["test", rest @ ..] => test::run(rest),
        ["docs", rest @ ..] => docs::run(rest),
        ["chaos", rest @ ..] => chaos::run(rest),
        ["bench", "invoke"] => bench::run(),
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
