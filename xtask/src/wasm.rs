//! Builds plugins and guests as components for `wasm32-wasip2`. The nested cargo has a target directory of its own, so that it
//! can run inside a build script while the outer cargo holds its lock.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::strip::strip;
use crate::{progress, root};

const TARGET: &str = "wasm32-wasip2";

/// Plugins that are shipped.
pub const PLUGINS: &[&str] = &[
    "batcher",
    "callback-task",
    "sentiment-alert",
    "campaign-optimizer",
    "grading-dispatcher",
    "callback-time",
    "reminder",
    "crm-history",
    "call-metrics",
    "transcript-review",
    "escalation",
    "quality-flag",
    "campaign-sequence",
    "campaign-report",
    "grading-failed",
    "whatsapp-webhook",
    "whatsapp-intake",
    "agent-dispatch",
    "whatsapp-send",
    "whatsapp-dead-letters",
    "http-notify",
];

/// Components of the tests: the folders of `tests/guests`.
///
/// # Errors
/// When the folder cannot be read.
pub fn guests() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join("tests/guests"))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").exists() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Adds the target `wasm32-wasip2` to the toolchain when it is missing.
///
/// # Errors
/// When the target is missing and cannot be added.
pub fn ensure_target() -> Result<()> {
    let sysroot = Command::new("rustc").current_dir(root()).args(["--print", "sysroot"]).output()?;
    let sysroot = PathBuf::from(String::from_utf8(sysroot.stdout)?.trim());
    if sysroot.join("lib/rustlib").join(TARGET).exists() {
        return Ok(());
    }
    let added = Command::new("rustup").current_dir(root()).args(["target", "add", TARGET]).status();
    match added {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("`rustup target add {TARGET}` failed ({status}); plugins are built for that target"),
        Err(error) => bail!("the target {TARGET} is missing and rustup cannot be run to add it: {error}"),
    }
}

/// How a build of components reports on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildReport {
    /// Errors only.
    Errors,
    /// Progress as well.
    Progress,
}

/// Builds packages of the workspace and writes `NAME.wasm` and `NAME.debug.wasm` into a folder. A file that is the same
/// stays as it is.
///
/// # Errors
/// When the build fails.
pub fn build(packages: &[&str], out: &Path, report: BuildReport) -> Result<Vec<PathBuf>> {
    ensure_target()?;
    let target_dir = root().join("target/wasm");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).args(["build", "--target", TARGET, "--profile", "plugin", "--target-dir"]);
    cargo.arg(&target_dir);
    for package in packages {
        cargo.args(["--package", package]);
    }
    forget_outer_cargo(&mut cargo);
    let status = match report {
        BuildReport::Errors => cargo.arg("--quiet").status().context("cargo cannot be run")?,
        BuildReport::Progress => progress::run(&mut cargo, "the plugins")?,
    };
    if !status.success() {
        bail!("the components {} cannot be built", packages.join(", "));
    }
    std::fs::create_dir_all(out)?;
    let built = target_dir.join(TARGET).join("plugin");
    packages.iter().map(|package| publish(&built, package, out)).collect()
}

/// Removes variables that an outer cargo, or clippy, sets for its own crates.
pub(crate) fn forget_outer_cargo(cargo: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_cargos = text.starts_with("CARGO_") && text != "CARGO_HOME";
        let is_rustcs =
            ["RUSTFLAGS", "RUSTDOCFLAGS", "RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"].contains(&&*text);
        let is_scripts = ["TARGET", "HOST", "PROFILE", "OPT_LEVEL", "DEBUG", "OUT_DIR", "NUM_JOBS"].contains(&&*text);
        if is_cargos || is_rustcs || is_scripts || text.starts_with("CLIPPY_") {
            cargo.env_remove(&name);
        }
    }
}

/// Writes `NAME.wasm`, which runs, and `NAME.debug.wasm`, which gives dead letters file and line.
fn publish(built: &Path, package: &str, out: &Path) -> Result<PathBuf> {
    let from = built.join(format!("{}.wasm", package.replace('-', "_")));
    let whole = std::fs::read(&from).with_context(|| format!("{} was not built", from.display()))?;
    let stripped = strip(&whole).with_context(|| format!("{} cannot be stripped", from.display()))?;
    // The debug file comes first, because a daemon that watches the folder loads the component as soon as it is there.
    replace(&out.join(format!("{package}.debug.wasm")), &whole)?;
    let to = out.join(format!("{package}.wasm"));
    replace(&to, &stripped)?;
    Ok(to)
}

fn replace(to: &Path, fresh: &[u8]) -> Result<()> {
    if std::fs::read(to).is_ok_and(|old| old == fresh) {
        return Ok(());
    }
    let temporary = to.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&temporary, fresh)?;
    std::fs::rename(&temporary, to)?;
    Ok(())
}
