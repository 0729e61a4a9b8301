//! The Debian releases whose RabbitMQ the matrix runs, and how their roots are made. debootstrap makes a root below
//! `target/rabbitmq`, with the packages of the release and its `rabbitmq-server`. A root takes some 350 MB and a few minutes.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::server::RabbitmqServer;
use crate::{apt, root};

/// A Debian release and the series of RabbitMQ that the release has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebianRelease {
    /// The name of the release in the archive.
    pub suite: &'static str,
    /// The first two numbers of its RabbitMQ.
    pub series: &'static str,
}

/// The releases, oldest first.
pub const RELEASES: [DebianRelease; 3] = [
    DebianRelease { suite: "bookworm", series: "3.10" },
    DebianRelease { suite: "trixie", series: "4.0" },
    DebianRelease { suite: "forky", series: "4.3" },
];

/// Whether a root that was made before is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootUse {
    /// A root that exists is used.
    Kept,
    /// The root is made again, with the present packages of its release.
    Fresh,
}

const NEEDS: &str = "the RabbitMQ of another Debian release runs in a root of this release: run as root on Debian, with \
                     the package debootstrap";
/// The archive, if apt's sources name none.
const ARCHIVE: &str = "http://deb.debian.org/debian";
/// The folder of debootstrap's scripts, one for each release that the installed debootstrap knows.
const SCRIPTS: &str = "/usr/share/debootstrap/scripts";
/// The file in a root that is complete.
const READY: &str = ".ready";
const INSTALL: &str = "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
                       --no-install-recommends rabbitmq-server";
/// Lines of the log that an error quotes.
const LOG_LINES: usize = 20;

impl DebianRelease {
    /// The server of the release: the installed one if it is of the same series, else the one in the root of the release,
    /// which is made if it is missing.
    ///
    /// # Errors
    /// When the root cannot be made.
    pub fn server(&self, root_use: RootUse) -> Result<RabbitmqServer> {
        let installed = RabbitmqServer::installed();
        if installed.version().is_some_and(|version| self.is_series_of(&version)) {
            return Ok(installed);
        }
        let roots = root().join("target/rabbitmq");
        std::fs::create_dir_all(&roots)?;
        let lock = File::create(roots.join(format!("{}.lock", self.suite)))?;
        lock.lock()?;
        let place = roots.join(self.suite);
        if root_use == RootUse::Fresh || !place.join(READY).exists() {
            remove(&place)?;
            self.make(&place)?;
        }
        Ok(RabbitmqServer::in_root(place))
    }

    /// Whether a version is of the series of the release.
    #[must_use]
    pub fn is_series_of(&self, version: &str) -> bool {
        version.strip_prefix(self.series).is_some_and(|rest| rest.starts_with('.'))
    }

    fn make(&self, place: &Path) -> Result<()> {
        if !Path::new(SCRIPTS).exists() {
            apt::install(&["debootstrap"], NEEDS)?;
        }
        println!("making a root of Debian {} in {} ...", self.suite, place.display());
        let log = place.with_extension("log");
        let script = Path::new(SCRIPTS).join(self.suite);
        let script = if script.exists() { script } else { Path::new(SCRIPTS).join("sid") };
        // debootstrap mounts folders into the root. In a mount namespace the mounts end with debootstrap, whatever its end.
        let mut debootstrap = Command::new("unshare");
        debootstrap.args(["--mount", "debootstrap", "--variant=minbase", self.suite]).arg(place);
        run(debootstrap.arg(mirror()).arg(script), &log)?;
        prepare(place)?;
        run(RabbitmqServer::in_root(place.to_owned()).command("sh").args(["-c", INSTALL]), &log)?;
        std::fs::write(place.join(READY), "")?;
        Ok(())
    }
}

/// Deletes a root, if there is one.
fn remove(place: &Path) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    if let Some(mount) = mount_below(&mounts, place) {
        bail!("{mount} is mounted in a root that has to be deleted; unmount {mount} first");
    }
    match std::fs::remove_dir_all(place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be deleted", place.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A mount point in a folder. Deleting the folder would delete the files of the mount.
fn mount_below<'a>(mounts: &'a str, folder: &Path) -> Option<&'a str> {
    let mut points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    points.find(|point| Path::new(point).starts_with(folder))
}

/// Gives a root the network of this machine and its settings of apt, such as proxies, and keeps services from starting.
fn prepare(place: &Path) -> Result<()> {
    for file in ["etc/resolv.conf", "etc/hosts"] {
        let to = place.join(file);
        // A link would be followed out of the root.
        let _absent = std::fs::remove_file(&to);
        std::fs::copy(Path::new("/").join(file), &to).with_context(|| file.to_owned())?;
    }
    for setting in std::fs::read_dir("/etc/apt/apt.conf.d")? {
        let setting = setting?;
        std::fs::copy(setting.path(), place.join("etc/apt/apt.conf.d").join(setting.file_name()))?;
    }
    let policy = place.join("usr/sbin/policy-rc.d");
    let mut policy = File::options().write(true).create(true).truncate(true).mode(0o755).open(policy)?;
    Ok(policy.write_all(b"#!/bin/sh\nexit 101\n")?)
}

/// Runs a command with its output in a log.
fn run(command: &mut Command, log: &Path) -> Result<()> {
    let output = File::options().create(true).append(true).open(log)?;
    let status = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).status().context(NEEDS)?;
    if status.success() {
        return Ok(());
    }
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    bail!("{NEEDS}; the last lines of {} are:\n{last}", log.display())
}

/// The mirror of the Debian archive that apt uses.
fn mirror() -> String {
    let files: [PathBuf; 2] = ["/etc/apt/sources.list.d/debian.sources".into(), "/etc/apt/sources.list".into()];
    let mut texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    texts.find_map(|text| mirror_in(&text).map(str::to_owned)).unwrap_or_else(|| ARCHIVE.to_owned())
}

/// The first mirror of a file of apt's sources, in either of the two forms, without the archive of security updates.
fn mirror_in(sources: &str) -> Option<&str> {
    let mut addresses = sources.lines().filter_map(|line| {
        let words = match (line.strip_prefix("URIs:"), line.strip_prefix("deb ")) {
            (Some(rest), _) => rest,
            // Options stand in brackets.
            (None, Some(rest)) => rest.split_once(']').map_or(rest, |(_, rest)| rest),
            (None, None) => return None,
        };
        words.split_whitespace().next()
    });
    addresses.find(|address| address.contains("://") && !address.contains("security"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_of_apt() {
        let modern = "Types: deb\n# a comment\nURIs: http://mirror.test/debian\nSuites: bookworm\n\n\
                      URIs: http://mirror.test/debian-security\n";
        assert_eq!(mirror_in(modern), Some("http://mirror.test/debian"));
        let old = "# deb http://no.test/debian\ndeb-src http://no.test/debian bookworm main\n\
                   deb http://security.test/debian-security bookworm-security main\n\
                   deb [signed-by=/usr/share/keyrings/a.gpg arch=amd64] https://deb.test/debian bookworm main\n";
        assert_eq!(mirror_in(old), Some("https://deb.test/debian"));
        for none in ["", "URIs:\n", "deb cdrom:[Debian]/ bookworm main\n"] {
            assert_eq!(mirror_in(none), None, "{none}");
        }
    }

    #[test]
    fn a_version_belongs_to_one_series() {
        let series = |version: &str| {
            let of = RELEASES.iter().filter(|release| release.is_series_of(version));
            of.map(|release| release.suite).collect::<Vec<_>>()
        };
        assert_eq!(series("3.10.8"), ["bookworm"]);
        assert_eq!(series("4.0.5"), ["trixie"]);
        assert_eq!(series("4.3.6"), ["forky"]);
        for other in ["3.1.0", "3.100.1", "4.30.1", "4.4.0", "4.3", ""] {
            assert!(series(other).is_empty(), "{other}");
        }
    }

    #[test]
    fn mounts_in_a_root_are_seen() {
        let mounts = "proc /proc proc rw 0 0\nudev /w/target/rabbitmq/forky/dev devtmpfs rw 0 0\n";
        assert_eq!(mount_below(mounts, Path::new("/w/target/rabbitmq/forky")), Some("/w/target/rabbitmq/forky/dev"));
        assert_eq!(mount_below(mounts, Path::new("/w/target/rabbitmq/fork")), None);
    }
}
