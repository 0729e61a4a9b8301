//! `trunkline check`

use std::io::IsTerminal;

use clap::Args;
use trunkline::plugins;
use trunkline_broker::amqp::OperatorCommands;
use trunkline_config as config;

use super::exit::{self, failed};
use super::paths::Paths;
use super::runtime;

#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    paths: Paths,
}

const POLICIES: &str = "\
# Other programs declare the queues of these commands. Without the policies, RabbitMQ drops the messages of these queues
# that expire or reach the delivery limit.";
const PARTS: &str = "\
# With `topology = \"check\"`, the daemon declares nothing. These commands make the exchanges, queues and bindings.
# Replace USER, PASSWORD and HOST.";

/// Checks routes.toml and loads every plugin.
pub(super) fn run(arguments: &Check) -> u8 {
    let loaded = match arguments.paths.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let color = std::io::stderr().is_terminal();
    if !loaded.warnings.is_empty() {
        eprint!("{}", config::render(&loaded.warnings, color));
    }
    let runtime = match runtime::start() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let refused = match runtime.block_on(plugins::check_plugins(&loaded.config)) {
        Ok(refused) => refused,
        Err(error) => return failed(&error),
    };
    for (plugin, error) in &refused {
        eprintln!("error: plugin {plugin}: {error}");
    }
    if !refused.is_empty() {
        return exit::FAILED;
    }
    let (routes, plugins) = (loaded.config.routes.len(), loaded.config.plugins.len());
    let (routes, plugins) = (counted(routes, "route"), counted(plugins, "plugin"));
    println!("{}: the configuration is valid; {routes}, {plugins}", loaded.config.file.display());
    if let config::BrokerChoice::Amqp(amqp) = &loaded.config.broker {
        let commands = OperatorCommands::new(&loaded.config.topology, &amqp.url.vhost);
        print_commands(POLICIES, &commands.policies);
        print_commands(PARTS, &commands.parts);
    }
    exit::OK
}

/// A number with its noun, such as `1 route` or `2 routes`.
fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Prints commands below a comment, so that the text is a script of a shell.
fn print_commands(comment: &str, commands: &[String]) {
    if commands.is_empty() {
        return;
    }
    println!("\n{comment}");
    for command in commands {
        println!("{command}");
    }
}
