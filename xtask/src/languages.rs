//! Makes plugins in all languages as a user does: `trunkline new`, then the commands that it prints. Tools are installed below
//! `target/languages`, tools of Debian by apt-get. A component is kept below `target/languages` under the digest of its sources,
//! because an interpreter takes long to build.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{apt, root};

/// Values of `trunkline new --lang`.
pub const LANGUAGES: [&str; 4] = ["rust", "js", "python", "c"];

/// Debian packages that C plugins are built with.
const C_PACKAGES: [&str; 6] = ["make", "gcc", "clang", "lld", "wasi-libc", "libclang-rt-dev-wasm32"];

fn home() -> PathBuf {
    root().join("target/languages")
}

/// Makes, tests and builds a plugin. The files of the folder `overlay` replace those of the template.
///
/// # Errors
/// When a tool is missing and cannot be installed, or a command fails. The error has the output of the command.
pub fn plugin(trunkline: &Path, language: &str, name: &str, overlay: Option<&Path>) -> Result<PathBuf> {
    std::fs::create_dir_all(home())?;
    // One process at a time builds for a language. Tests run in parallel, and several cargos may.
    let lock = std::fs::File::create(home().join(format!("{language}.lock")))?;
    lock.lock()?;
    let folder = home().join(language).join(name);
    remove(&folder)?;
    let new = ["new", name, "--lang", language, "--path"];
    let printed = run(Command::new(trunkline).args(new).arg(&folder))?;
    if let Some(overlay) = overlay {
        copy(overlay, &folder)?;
    }
    let kept = home().join("components").join(format!("{language}-{name}-{}.wasm", digest(&folder)?));
    // A C plugin builds quickly. Its last step is `trunkline wrap`, and the digest does not cover the program.
    if language == "c" || !kept.exists() {
        let component = build(trunkline, language, &folder, &printed)?;
        std::fs::create_dir_all(home().join("components"))?;
        let draft = kept.with_extension("tmp");
        std::fs::copy(&component, &draft).with_context(|| format!("{} was not built", component.display()))?;
        std::fs::rename(draft, &kept)?;
    }
    Ok(kept)
}

/// Runs the commands that `trunkline new` printed, except those that install tools. All plugins share the tools.
fn build(trunkline: &Path, language: &str, folder: &Path, printed: &str) -> Result<PathBuf> {
    prepare(language, folder)?;
    let commands = printed.lines().filter_map(|line| line.strip_prefix("    "));
    let commands =
        commands.filter(|line| !["cd ", "npm install", "python3 -m venv"].iter().any(|tool| line.starts_with(tool)));
    let mut count = 0;
    for line in commands {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(folder).env("TRUNKLINE", trunkline);
        if language == "rust" {
            crate::wasm::forget_outer_cargo(&mut command);
            command.env("CARGO_TARGET_DIR", home().join("rust/target"));
        }
        run(&mut command)?;
        count += 1;
    }
    if count < 2 {
        bail!("`trunkline new` printed no test and no build:\n{printed}");
    }
    let said = printed.split("The commands build the component ").nth(1).and_then(|rest| rest.split(". ").next());
    let component = said.context("`trunkline new` did not say where the component is")?;
    Ok(match component.strip_prefix("target/") {
        Some(below) => home().join("rust/target").join(below),
        None => folder.join(component),
    })
}

fn prepare(language: &str, folder: &Path) -> Result<()> {
    match language {
        "rust" => crate::wasm::ensure_target(),
        "js" => js(folder),
        "python" => python(folder),
        "c" => c(),
        other => bail!("no tools are known for {other}"),
    }
}

/// Makes `node_modules` beside the folders of the plugins, where Node.js finds it, from the lock file of the template.
fn js(folder: &Path) -> Result<()> {
    ensure_node()?;
    let home = home().join("js");
    let lock = std::fs::read_to_string(root().join("plugins/templates/js/package-lock.json"))?;
    let stamp = home.join("node_modules/.trunkline");
    if std::fs::read_to_string(&stamp).is_ok_and(|text| text == lock) {
        return Ok(());
    }
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(folder.join(file), home.join(file))?;
    }
    // `npm ci` would refuse the lock file because of unpublished optional packages for other machines.
    run(Command::new("npm").args(["install", "--no-audit", "--no-fund"]).current_dir(&home))?;
    std::fs::write(stamp, lock)?;
    Ok(())
}

/// Links `venv` of a plugin's folder to the environment that all plugins share.
fn python(folder: &Path) -> Result<()> {
    ensure_python()?;
    let venv = home().join("python/venv");
    let requirements = std::fs::read_to_string(folder.join("requirements.txt"))?;
    let stamp = venv.join(".trunkline");
    if !std::fs::read_to_string(&stamp).is_ok_and(|text| text == requirements) {
        remove(&venv)?;
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"];
        run(Command::new(venv.join("bin/python")).args(install).current_dir(folder))?;
        std::fs::write(stamp, requirements)?;
    }
    std::os::unix::fs::symlink(&venv, folder.join("venv"))?;
    Ok(())
}

/// Makes sure that Node.js and npm are installed.
///
/// # Errors
/// When one of them is missing and cannot be installed.
pub fn ensure_node() -> Result<()> {
    let has =
        |tool: &str| Command::new(tool).arg("--version").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    if has("node") && has("npm") {
        return Ok(());
    }
    apt::install(&["nodejs", "npm"], "no Node.js: install node (18 or newer) and npm")
}

/// Makes sure that `python3 -m venv` works. Debian has the module in a separate package.
///
/// # Errors
/// When the module is missing and cannot be installed.
pub fn ensure_python() -> Result<()> {
    let check = Command::new("python3").args(["-c", "import ensurepip"]).stderr(Stdio::null()).status();
    if check.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    apt::install(&["python3", "python3-venv"], "no Python with venv: install python3 and python3-venv")
}

/// Links a program for WebAssembly, which tests compiler, linker, libc and builtins at once.
fn c() -> Result<()> {
    let probe = home().join("c/probe.c");
    std::fs::write(&probe, "#include <stdlib.h>\nint probe(int a) { return abs(a); }\n")?;
    let links = || {
        let mut clang = Command::new("clang");
        clang.args(["--target=wasm32-wasi", "-mexec-model=reactor", "-o"]).arg(home().join("c/probe.wasm")).arg(&probe);
        clang.output().is_ok_and(|output| output.status.success())
    };
    let has_make = || Command::new("make").arg("--version").output().is_ok_and(|output| output.status.success());
    if links() && has_make() {
        return Ok(());
    }
    apt::install(&C_PACKAGES, &format!("no clang for WebAssembly: install {}", C_PACKAGES.join(", ")))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    bail!("{command:?} failed ({}):\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr))
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for file in files(from)? {
        let target = to.join(file.strip_prefix(from)?);
        std::fs::create_dir_all(target.parent().unwrap_or(to))?;
        std::fs::copy(&file, &target)?;
    }
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

/// Names a component after all its sources. The digest is not for security: a stale component only fails a test.
fn digest(folder: &Path) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in files(folder)? {
        file.strip_prefix(folder)?.hash(&mut hasher);
        std::fs::read(&file)?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}
