//! F24 and W18: the state directory is private to its user, and each project has its own.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use trunkline_broker::Broker;
use trunkline_support::{Daemon, eventually};

use crate::bench::{Bench, binary, drain, message, on_both_brokers};

/// Everything that makes a file: state of a plugin, dedupe records, trials of a canary, messages.
const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
limits = { timeout = "20s" }
[queues.$P-out]
bind = "echoed"
[routes.$P-keep]
from = "keep"
plugin = "keeper"
[routes.$P-echo]
from = "in"
plugin = "echo"
dedupe = "10m"
canary = { plugin = "picky", percent = 50 }
[plugins.keeper]
allow = { kv = true }
"#;
/// Files of the daemon.
const WANTED: [&str; 2] = ["state.redb", "rollouts.json"];

/// All paths below a directory that other users can open. Links belong to the test.
fn open_to_others(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |path: &Path| {
        let mode = std::fs::symlink_metadata(path).expect("it is there").permissions().mode();
        if mode & 0o077 != 0 {
            found.push(format!("{} {:o}", path.display(), mode & 0o7777));
        }
    };
    look(dir);
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("an entry")) {
            let kind = entry.file_type().expect("a kind");
            if kind.is_symlink() {
                continue;
            }
            look(&entry.path());
            if kind.is_dir() {
                left.push(entry.path());
            }
        }
    }
    found
}

/// A daemon with this umask.
async fn start_with_umask(bench: &Bench, umask: &str, state: &Path) -> Daemon {
    let routes = bench.write_routes(ROUTES);
    let daemon = Daemon::command(binary(), &routes, &bench.broker);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]);
    command.arg(daemon.get_program()).args(daemon.get_args()).arg("--state").arg(state);
    command.env("LOG_LEVEL", "info,trunkline::trace=debug");
    let daemon = Daemon::launch(command).await.unwrap_or_else(|ended| panic!("{ended:?}"));
    daemon.runs().await;
    daemon
}

/// Makes the daemon write all its files.
async fn use_everything(bench: &Bench, daemon: &Daemon, state: &Path) {
    for (kind, data) in [("keep", json!([{ "op": "set", "key": "k", "value": "secret" }])), ("in", json!(1))] {
        let id = uuid::Uuid::now_v7().to_string();
        let body = json!({ "type": kind, "id": id, "data": data }).to_string();
        assert_eq!(daemon.post("/api/v1/events", &body).0, 202);
        assert_eq!(daemon.settled(&id).await["outcome"], "ack");
    }
    let own = if bench.is_embedded() { "broker/messages.redb" } else { "dedupe.redb" };
    for name in WANTED.into_iter().chain([own]) {
        eventually(name, || {
            let is_there = state.join(name).exists();
            async move { is_there.then_some(()) }
        })
        .await;
    }
}

async fn nobody_else_reads_it(bench: Bench) {
    let state = bench.path("deep/state");
    for umask in ["000", "022", "027"] {
        let daemon = start_with_umask(&bench, umask, &state).await;
        use_everything(&bench, &daemon, &state).await;
        assert_eq!(open_to_others(&state), Vec::<String>::new(), "umask {umask}");
        assert!(daemon.terminate().await.success());
        assert_eq!(open_to_others(&state), Vec::<String>::new(), "umask {umask}, after the end");
        // The modes of an earlier version and of a restored backup.
        let mut left = vec![state.clone()];
        while let Some(path) = left.pop() {
            let is_dir = path.is_dir();
            let mode = std::fs::Permissions::from_mode(if is_dir { 0o755 } else { 0o644 });
            std::fs::set_permissions(&path, mode).expect("a mode");
            if is_dir {
                left.extend(std::fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("it").path()));
            }
        }
        assert!(open_to_others(&state).len() > WANTED.len());
    }
    // The target of a link belongs to another user.
    let (other, compiled) = (bench.path("other"), state.join("compiled"));
    std::fs::rename(&compiled, &other).expect("moved");
    symlink(&other, &compiled).expect("a link");
    let before = std::fs::metadata(&other).expect("the folder exists").mode();
    let daemon = start_with_umask(&bench, "022", &state).await;
    assert_eq!(open_to_others(&state), Vec::<String>::new());
    assert_eq!(std::fs::metadata(&other).expect("the folder exists").mode(), before);
    assert!(daemon.terminate().await.success());
}

on_both_brokers! {
    nobody_else_reads_it,
}

const PROJECT: &str = r#"
[defaults]
exchange = { name = "events", type = "topic" }
limits = { timeout = "20s" }
[queues.out]
bind = "echoed"
[routes.echo]
from = "in"
plugin = "echo"
"#;

/// A project of a user, whose home is the bench's directory.
struct Project<'a> {
    bench: &'a Bench,
    routes: PathBuf,
}

impl<'a> Project<'a> {
    fn new(bench: &'a Bench, name: &str) -> Self {
        let dir = bench.path(name);
        std::fs::create_dir_all(&dir).expect("a directory");
        let guests = trunkline_support::guests().display().to_string();
        let routes = dir.join("routes.toml");
        std::fs::write(&routes, format!("plugin-dir = {guests:?}\n{PROJECT}")).expect("a file");
        Self { bench, routes }
    }

    fn state(&self) -> PathBuf {
        self.routes.with_file_name(".trunkline")
    }

    async fn start(&self) -> Daemon {
        let mut command = Daemon::command(binary(), &self.routes, "embedded");
        command.env("HOME", self.bench.path("home")).env_remove("XDG_STATE_HOME").env_remove("STATE_DIRECTORY");
        let daemon = Daemon::launch(command).await.unwrap_or_else(|ended| panic!("{ended:?}"));
        daemon.runs().await;
        daemon
    }

    /// The broker in a state directory, while no daemon runs.
    async fn broker(&self, state: &Path) -> Broker {
        let sources = trunkline_config::Sources {
            file: self.routes.clone(),
            broker_url: Some("embedded".to_owned()),
            state_dir: Some(state.to_owned()),
            ..trunkline_config::Sources::default()
        };
        let loaded = trunkline_config::load(&sources).unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
        let topology = std::sync::Arc::new(loaded.config.topology);
        Broker::open(&loaded.config.broker, topology, state).await.expect("the broker opens")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_projects_of_a_user_do_not_see_each_other() {
    let bench = Bench::embedded();
    let projects = [Project::new(&bench, "one"), Project::new(&bench, "two")];
    let daemons = [projects[0].start().await, projects[1].start().await];
    for (daemon, id) in daemons.iter().zip(["e-1", "e-2"]) {
        let (status, accepted) =
            daemon.post("/api/v1/events", &json!({ "type": "in", "id": id, "data": 1 }).to_string());
        assert_eq!(status, 202, "{accepted}");
        assert_eq!(daemon.settled(id).await["outcome"], "ack");
    }
    for daemon in daemons {
        assert!(daemon.terminate().await.success());
    }
    for (project, id) in projects.iter().zip(["e-1", "e-2"]) {
        assert_eq!(open_to_others(&project.state()), Vec::<String>::new());
        assert_eq!(std::fs::read_to_string(project.state().join(".gitignore")).expect("a file"), "*\n");
        let broker = project.broker(&project.state()).await;
        let out = drain(&broker, &bench.queue("out"), 1).await;
        let causes: Vec<&str> = out.iter().filter_map(|out| out.properties.headers.text("trunkline-cause")).collect();
        assert_eq!(causes, [id]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_in_the_earlier_default_are_named_until_they_are_taken_over() {
    let bench = Bench::embedded();
    let (project, earlier) = (Project::new(&bench, "project"), bench.path("home/.local/state/trunkline"));
    let daemon = project.start().await;
    let quiet = daemon.log();
    assert!(!quiet.contains("earlier versions"), "{quiet}");
    assert!(daemon.terminate().await.success());

    let broker = project.broker(&earlier).await;
    let left = (0..3).map(|n| message("events", "in", &format!("left-{n}"), "x")).collect::<Vec<_>>();
    drop(broker.publish(left).await.expect("confirmed"));
    broker.close(trunkline_support::patience()).await;
    drop(broker);
    let daemon = project.start().await;
    let log = daemon.logged("earlier versions").await;
    let line = log.lines().find(|line| line.contains("earlier versions")).expect("a line");
    for part in [&earlier.display().to_string(), "3 messages (echo 3)", "WARN"] {
        assert!(line.contains(part), "{line}");
    }
    assert!(daemon.terminate().await.success());

    // The command in the message.
    let (_, rest) = line.split_once("run: ").expect("a command");
    let (command, _) = rest.split_once(". To use the old directory").expect("its end");
    assert!(Command::new("sh").args(["-c", command]).status().expect("a shell").success(), "{command}");
    assert!(!earlier.exists());
    let daemon = project.start().await;
    for n in 0..3 {
        assert_eq!(daemon.settled(&format!("left-{n}")).await["outcome"], "ack");
    }
    let log = daemon.log();
    assert!(!log.contains("earlier versions"), "{log}");
    assert!(daemon.terminate().await.success());
}

/// A user who may read routes.toml and may not write beside it.
#[tokio::test(flavor = "multi_thread")]
async fn check_needs_no_place_of_its_own() {
    let bench = Bench::embedded();
    let project = Project::new(&bench, "project");
    std::fs::write(project.state(), "in the way").expect("a file");
    let output = Command::new(binary()).args(["check", "--config"]).arg(&project.routes).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut run = Daemon::command(binary(), &project.routes, "embedded");
    run.env("HOME", bench.path("home"));
    let ended = Daemon::launch(run).await.err().expect("it does not start");
    assert_eq!(ended.status.code(), Some(1));
    let last = ended.stderr.lines().last().unwrap_or_default();
    let state = project.state().display().to_string();
    for part in [&format!("error: the state directory {state} cannot be used"), "--state DIR"] {
        assert!(last.contains(part), "{last}");
    }
}
