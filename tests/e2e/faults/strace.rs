//! System calls that fail or take long, by an strace that is attached to a running daemon.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use trunkline_support::{Daemon, eventually};

/// A running strace. The daemon runs undisturbed after it is dropped.
pub(super) struct Tracer(Child);

impl Tracer {
    /// Applies strace's `inject`, such as `error=EIO`, to these calls; with a file, only to calls on that file. Returns
    /// when strace is attached to the first thread. It attaches to the other threads one by one.
    pub(super) async fn attach(daemon: &Daemon, calls: &str, inject: &str, file: Option<&Path>) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={calls}:{inject}")]);
        if let Some(file) = file {
            strace.arg("-P").arg(file);
        }
        let strace = strace.args(["-p", &daemon.pid().to_string()]);
        let child = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("strace can be run");
        let status = format!("/proc/{}/status", daemon.pid());
        eventually("strace is attached", || {
            let text = std::fs::read_to_string(&status).expect("the daemon runs");
            let tracer = text.lines().find_map(|line| line.strip_prefix("TracerPid:"));
            let attached = tracer.is_some_and(|pid| pid.trim() != "0");
            async move { attached.then_some(()) }
        })
        .await;
        Self(child)
    }

    pub(super) fn detach(mut self) {
        let asked = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        assert!(asked.expect("kill can be run").success());
        self.0.wait().expect("it ends");
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}
