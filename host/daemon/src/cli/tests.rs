//! docs/reference/command-line.md against the arguments of the program.

use std::fmt::Write;
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory};

use super::arguments::Cli;
use super::exit;

/// `TRUNKLINE_WRITE_REFERENCE=1 cargo test -p trunkline --bins` writes the page.
#[test]
fn the_reference_page_is_the_help() {
    let page = page();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/command-line.md");
    if std::env::var_os("TRUNKLINE_WRITE_REFERENCE").is_some() {
        std::fs::write(&file, &page).expect("the page is written");
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page, "docs/reference/command-line.md is old; TRUNKLINE_WRITE_REFERENCE=1 writes it");
}

#[test]
fn the_help_lists_every_exit_code() {
    let listed: Vec<u8> = exit_codes().into_iter().map(|(code, _)| code.parse().expect("a number")).collect();
    let known = [exit::OK, exit::FAILED, exit::USAGE, exit::DATA, exit::NO_INPUT, exit::UNAVAILABLE, exit::CONFIG];
    assert_eq!(listed, known);
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

fn exit_codes() -> Vec<(&'static str, &'static str)> {
    exit::HELP.lines().skip(1).filter_map(|line| line.trim().split_once(' ')).collect()
}

fn page() -> String {
    let mut cli = Cli::command();
    cli.build();
    let about = cli.get_about().map(ToString::to_string).unwrap_or_default();
    let mut page = format!(
        "# Command line\n\n{about}. `trunkline COMMAND --help` prints the texts of a command. A test compares this page with the program.\n"
    );
    for verb in cli.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        section(&mut page, verb, "trunkline");
    }
    page.push_str("\n## Environment\n\n");
    page.push_str(
        "The tables above list the variables of the arguments. The daemon also reads `LOG_LEVEL`, the filter of log lines.\n\
         The default of `LOG_LEVEL` is `info`. `LOG_LEVEL` contains a level for all lines, and `TARGET=LEVEL` for the lines of\n\
         one target. Commas separate the levels. The levels are `off`, `error`, `warn`, `info`, `debug` and `trace`, in upper\n\
         case or lower case. Python's names `WARNING`, `CRITICAL`, `FATAL` and `NOTSET` are also levels. The\n\
         [reference of routes.toml](routes-toml.md) lists the variables that replace keys of routes.toml.\n",
    );
    page.push_str("\n## Exit codes\n\n| code | meaning |\n|---|---|\n");
    for (code, meaning) in exit_codes() {
        writeln!(page, "| {code} | {} |", meaning.trim()).expect("a string");
    }
    page
}

fn section(page: &mut String, verb: &Command, parent: &str) {
    let name = format!("{parent} {}", verb.get_name());
    let about = verb.get_long_about().or(verb.get_about()).map(ToString::to_string).unwrap_or_default();
    write!(page, "\n## `{name}`\n\n{}.\n", about.trim_end_matches('.')).expect("a string");
    let is_shown =
        |argument: &&Arg| !argument.is_hide_set() && !["help", "version"].contains(&argument.get_id().as_str());
    let arguments: Vec<&Arg> = verb.get_arguments().filter(is_shown).collect();
    if !arguments.is_empty() {
        page.push_str("\n| argument | default | environment | meaning |\n|---|---|---|---|\n");
    }
    for argument in arguments {
        let defaults = argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy()));
        let default =
            if argument.get_action().takes_values() { defaults.collect::<Vec<_>>().join(", ") } else { String::new() };
        let variable = argument.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
        let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
        let (spelling, help) = (spelling(argument), help.replace('\n', " "));
        writeln!(page, "| `{spelling}` | {default} | {variable} | {} |", help.trim_end_matches('.')).expect("a string");
    }
    for verb in verb.get_subcommands().filter(|verb| verb.get_name() != "help") {
        section(page, verb, &name);
    }
}

/// An argument as it is typed.
fn spelling(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let possible = argument.get_possible_values();
    let value = match possible.is_empty() || !argument.get_action().takes_values() {
        true => names.first().map(ToString::to_string).unwrap_or_default(),
        false => possible.iter().map(|value| value.get_name().to_owned()).collect::<Vec<_>>().join("|"),
    };
    match (argument.get_long(), argument.get_action()) {
        (Some(long), ArgAction::SetTrue) => format!("--{long}"),
        (Some(long), _) => format!("--{long} {value}").replace('|', "\\|"),
        (None, _) => value,
    }
}
