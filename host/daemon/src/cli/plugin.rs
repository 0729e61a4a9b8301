//! `trunkline new` and `trunkline wrap`

use std::path::{Path, PathBuf};

use clap::Args;
use trunkline::scaffold::{self, Language, NewPlugin, ScaffoldError};

use super::exit::{self, failed};

#[derive(Args)]
pub(super) struct New {
    /// The name of the plugin: lower-case letters, digits and '-'.
    name: String,
    /// The language: rust, js, python or c.
    #[arg(long, value_name = "LANGUAGE")]
    lang: Language,
    /// The folder to make. The default is ./NAME.
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// The folder of the Rust SDK, such as plugins/sdk of the repository. The default is a copy of the SDK in the new folder.
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

/// Makes the folder of a new plugin.
pub(super) fn new(arguments: New) -> u8 {
    let New { name, lang, path, sdk } = arguments;
    let created = match scaffold::create(&NewPlugin { name, language: lang, path, sdk }) {
        Ok(created) => created,
        Err(error @ (ScaffoldError::Name { .. } | ScaffoldError::Sdk(_))) => {
            eprintln!("error: {error}");
            return exit::USAGE;
        }
        Err(error @ (ScaffoldError::Exists(_) | ScaffoldError::Write { .. })) => return failed(&error),
    };
    println!(
        "The folder {} is ready. Run these commands next:\n\n    cd {}",
        created.path.display(),
        created.path.display()
    );
    for command in &created.next {
        println!("    {command}");
    }
    println!("\nThe commands build the component {}. README.md describes how to run the plugin.", created.component);
    exit::OK
}

/// Makes a component out of a core module.
pub(super) fn wrap(module: &Path, out: &Path) -> u8 {
    let bytes = match std::fs::read(module) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("error: the file {} cannot be read: {error}", module.display());
            return exit::NO_INPUT;
        }
    };
    let component = match scaffold::wrap(&bytes) {
        Ok(component) => component,
        Err(error) => {
            eprintln!("error: the file {} cannot be wrapped: {error}", module.display());
            return exit::DATA;
        }
    };
    match std::fs::write(out, component) {
        Ok(()) => exit::OK,
        Err(error) => failed(&format!("the file {} cannot be written: {error}", out.display())),
    }
}
