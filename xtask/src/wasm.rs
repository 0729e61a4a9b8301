//! Plugins and guests as components: `wasm32-wasip2` through a nested cargo with a target directory of its own, so that
//! it can run inside a build script while the outer cargo holds its lock.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::root;
use crate::strip::strip;

const TARGET: &str = "wasm32-wasip2";

/// The plugins that we ship.
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
    "whatsapp-intake",
    "agent-dispatch",
    "whatsapp-send",
    "whatsapp-dead-letters",
    "http-notify",
];

/// The components of the tests: the folders of `tests/guests`.
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

/// Adds the target to the toolchain when it is missing.
///
/// # Errors
/// When it is missing and cannot be added.
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

/// Builds packages of the workspace and puts `NAME.wasm` and `NAME.debug.wasm` into a folder, replaced only when they changed.
///
/// # Errors
/// When the build fails.
pub fn build(packages: &[&str], out: &Path) -> Result<Vec<PathBuf>> {
    ensure_target()?;
    let target_dir = root().join("target/wasm");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).args(["build", "--quiet", "--target", TARGET, "--profile", "plugin", "--target-dir"]);
    cargo.arg(&target_dir);
    for package in packages {
        cargo.args(["--package", package]);
    }
    forget_outer_cargo(&mut cargo);
    let status = cargo.status().context("cargo cannot be run")?;
    if !status.success() {
        bail!("the components {} do not build", packages.join(", "));
    }
    std::fs::create_dir_all(out)?;
    let built = target_dir.join(TARGET).join("plugin");
    packages.iter().map(|package| publish(&built, package, out)).collect()
}

/// What an outer cargo, or clippy, sets for its own crates.
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

/// `NAME.wasm` as it is run, and `NAME.debug.wasm` with file and line for whoever reads a dead letter.
fn publish(built: &Path, package: &str, out: &Path) -> Result<PathBuf> {
    let from = built.join(format!("{}.wasm", package.replace('-', "_")));
    let whole = std::fs::read(&from).with_context(|| format!("{} was not built", from.display()))?;
    let stripped = strip(&whole).with_context(|| format!("{} cannot be stripped", from.display()))?;
    // First the debug file: whoever watches the folder loads the component when that is there.
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
