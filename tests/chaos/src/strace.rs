//! Faults in system calls, by an strace that is attached to the running daemon.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::{Child, Command};

const DETACH_WITHIN: Duration = Duration::from_secs(5);

/// Tells whether strace can be run.
pub async fn is_there() -> bool {
    let asked = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    asked.is_ok_and(|status| status.success())
}

/// A tracer. The daemon runs undisturbed after the tracer is dropped.
pub struct Tracer {
    child: Child,
}

/// Makes the `when`-th call of each thread and all later ones fail, or kills the daemon in the `when`-th call.
///
/// # Errors
/// When strace cannot be run.
pub fn attach(pid: u32, call: &str, kill: bool, when: u64) -> Result<Tracer> {
    let what = if kill { format!("signal=SIGKILL:when={when}") } else { format!("error=EIO:when={when}+") };
    let child = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("trace={call}"))
        .args(["-e", &format!("inject={call}:{what}")])
        .args(["-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("strace cannot be run")?;
    Ok(Tracer { child })
}

impl Tracer {
    /// Detaches from the daemon.
    pub async fn detach(&mut self) {
        if let Some(pid) = self.child.id() {
            let _gone = Command::new("kill").args(["-INT", &pid.to_string()]).status().await;
        }
        if tokio::time::timeout(DETACH_WITHIN, self.child.wait()).await.is_err() {
            let _killed = self.child.kill().await;
        }
    }
}
