//! System packages that the tests need: installed as root, named to all other users.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::root;

/// Installs Debian packages.
///
/// # Errors
/// The text `otherwise` when the user is not root or the machine has no apt-get, else the failure of apt-get.
pub fn install(packages: &[&str], otherwise: &str) -> Result<()> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0\n"));
    let has_apt = Command::new("apt-get").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_root || !has_apt {
        bail!("{otherwise}");
    }
    // apt-get fails while another apt-get runs, and tests run in parallel.
    std::fs::create_dir_all(root().join("target"))?;
    let lock = std::fs::File::create(root().join("target/apt.lock"))?;
    lock.lock()?;
    println!("installing {} ...", packages.join(" "));
    let install = [&["install", "-y", "-qq", "--no-install-recommends"], packages].concat();
    for arguments in [&["update", "-qq"][..], &install] {
        let status = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status()?;
        if !status.success() {
            bail!("`apt-get {}` failed; {otherwise}", arguments.join(" "));
        }
    }
    Ok(())
}
