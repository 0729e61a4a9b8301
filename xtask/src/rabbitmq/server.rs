//! The programs of a RabbitMQ: of the server that is installed on this machine, or of the server in the root of another Debian
//! release.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable that names the root whose server the nodes run. Without the variable, nodes run the installed server.
pub const ROOT_VARIABLE: &str = "TRUNKLINE_TEST_RABBITMQ_ROOT";
/// The folder of RabbitMQ's programs.
const BIN: &str = "/usr/lib/rabbitmq/bin";
/// The folder with one folder for each installed version.
const VERSIONS: &str = "/usr/lib/rabbitmq/lib";
/// Runs a program in a root. The words are the root, the folder of temporary files, and the program with its arguments. The mounts
/// belong to the program's own mount namespace and end with the program, so that the root can be deleted at any time.
const ENTER: &str = r#"root=$1; temporary=$2; shift 2
mount -t proc proc "$root/proc" && mount --rbind /sys "$root/sys" && mount --rbind /dev "$root/dev" || exit 1
mkdir -p "$root$temporary" && mount --rbind "$temporary" "$root$temporary" || exit 1
PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH
exec chroot "$root" "$@""#;

/// An installed RabbitMQ server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RabbitmqServer {
    /// The root of another Debian release; none for this machine itself.
    root: Option<PathBuf>,
}

impl RabbitmqServer {
    /// The server that [`ROOT_VARIABLE`] names, else the installed one.
    #[must_use]
    pub fn chosen() -> Self {
        Self { root: std::env::var_os(ROOT_VARIABLE).filter(|root| !root.is_empty()).map(PathBuf::from) }
    }

    /// The server that is installed on this machine.
    #[must_use]
    pub const fn installed() -> Self {
        Self { root: None }
    }

    /// The server in a root. Only the user root can run it.
    #[must_use]
    pub const fn in_root(root: PathBuf) -> Self {
        Self { root: Some(root) }
    }

    /// The root of the server, if the server is in one.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// The version of the server; none when there is no server.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        let folder = self.root.as_deref().unwrap_or(Path::new("/")).join(VERSIONS.trim_start_matches('/'));
        let names = std::fs::read_dir(folder).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        version(names)
    }

    /// A command that runs a program of RabbitMQ, or another program that is beside the server, such as `epmd`.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let words = self.words(program);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// The words of [`RabbitmqServer::command`], for another program that runs the command. There is at least one.
    #[must_use]
    pub(super) fn words(&self, program: &str) -> Vec<OsString> {
        let own = program.starts_with("rabbitmq").then(|| Path::new(BIN).join(program).into_os_string());
        let program = own.unwrap_or_else(|| program.into());
        let Some(root) = &self.root else { return vec![program] };
        let enter = ["unshare", "--mount", "sh", "-c", ENTER, "sh"].map(OsString::from);
        let places = [root.clone().into_os_string(), std::env::temp_dir().into_os_string()];
        enter.into_iter().chain(places).chain([program]).collect()
    }
}

/// The version in the names of folders such as `rabbitmq_server-4.3.6`, the greatest one.
fn version(names: impl Iterator<Item = String>) -> Option<String> {
    let versions = names.filter_map(|name| name.strip_prefix("rabbitmq_server-").map(str::to_owned));
    versions.max_by_key(|version| numbers(version))
}

/// The numbers of a version, for comparison.
fn numbers(version: &str) -> Vec<u32> {
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
    version.split('.').map(|part| digits(part).parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_name_of_a_folder() {
        let found = |names: &[&str]| version(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(found(&["rabbitmq_server-4.3.6"]).as_deref(), Some("4.3.6"));
        assert_eq!(found(&["rabbitmq_server-3.9.1", "plugins", "rabbitmq_server-3.10.8"]).as_deref(), Some("3.10.8"));
        assert_eq!(found(&["erlang"]), None);
    }

    #[test]
    fn an_installed_server_is_run_directly() {
        let words = RabbitmqServer::installed().words("rabbitmqctl");
        assert_eq!(words, ["/usr/lib/rabbitmq/bin/rabbitmqctl"]);
        assert_eq!(RabbitmqServer::installed().words("epmd"), ["epmd"]);
    }

    #[test]
    fn a_server_in_a_root_runs_in_its_own_mount_namespace() {
        let words = RabbitmqServer::in_root("/some/root".into()).words("rabbitmq-server");
        assert_eq!(words[..4], ["unshare", "--mount", "sh", "-c"]);
        assert_eq!(words[6], "/some/root");
        assert_eq!(words[7], std::env::temp_dir().as_os_str());
        assert_eq!(words[8..], ["/usr/lib/rabbitmq/bin/rabbitmq-server"]);
        assert_eq!(RabbitmqServer::in_root("/some/root".into()).version(), None, "there is no such root");
    }
}
