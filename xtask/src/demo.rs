//! The demo: the real daemon with the root routes.toml on the embedded broker, and the sample events of `examples/`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use xtask::{root, wasm};

/// Limit for the start of the daemon and for each event.
const PATIENCE: Duration = Duration::from_secs(60);
const LINES_MAX: usize = 10_000;

/// Builds the plugins into `target/plugins`.
pub(crate) fn build_plugins() -> Result<PathBuf> {
    let out = root().join("target/plugins");
    wasm::build(wasm::PLUGINS, &out, wasm::BuildReport::Progress)?;
    Ok(out)
}

pub(crate) fn run(once: bool) -> Result<()> {
    println!("Building the plugins and the daemon. The first build takes about ten minutes on two processors.");
    build_plugins()?;
    xtask::build(&["--bin", "trunkline"])?;
    let samples = samples()?;
    let mut daemon = DemoDaemon::start()?;
    let address = daemon.address()?;
    daemon.wait_until_ready(&address)?;
    println!("the daemon listens on http://{address}, on the embedded broker\n");
    let mut failed = 0;
    for sample in &samples {
        failed += u32::from(!play(&mut daemon, &address, sample)?);
    }
    println!("{} sample events, {failed} not settled as expected", samples.len());
    println!("metrics: http://{address}/metrics   health: http://{address}/health");
    if !once {
        let body = r#"{"type":"call.ended","exchange":"ocelot.events","routing_key":"comms.call.ended","organizationId":"org-1","data":{"call_id":"c-9","duration":12,"outcome":"callback_requested"}}"#;
        println!(
            "\npublish an event yourself:\n  curl -s http://{address}/api/v1/events -H 'content-type: application/json' -d '{body}'"
        );
        println!("\nCtrl-C ends the daemon.");
        daemon.follow()?;
    }
    daemon.stop()?;
    if failed == 0 { Ok(()) } else { bail!("{failed} events were not settled as expected") }
}

struct SampleEvent {
    name: String,
    publish: Value,
    expect: Value,
}

fn samples() -> Result<Vec<SampleEvent>> {
    let mut found = BTreeMap::new();
    for example in std::fs::read_dir(root().join("examples"))? {
        let events = example?.path().join("events");
        for file in std::fs::read_dir(&events).into_iter().flatten() {
            let path = file?.path();
            let text = std::fs::read_to_string(&path)?;
            let value: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
            let name = path.strip_prefix(root())?.display().to_string();
            let sample =
                SampleEvent { name: name.clone(), publish: value["publish"].clone(), expect: value["expect"].clone() };
            found.insert(name, sample);
        }
    }
    if found.is_empty() {
        bail!("no sample events were found below examples/");
    }
    Ok(found.into_values().collect())
}

/// Publishes one sample and shows its outcome. Returns whether the outcome is as expected.
fn play(daemon: &mut DemoDaemon, address: &str, sample: &SampleEvent) -> Result<bool> {
    let mut response = ureq::post(format!("http://{address}/api/v1/events")).send_json(&sample.publish)?;
    let accepted: Value = response.body_mut().read_json()?;
    let id = accepted["id"].as_str().ok_or_else(|| anyhow!("no id in {accepted}"))?;
    println!("● {}  ({})", sample.publish["type"].as_str().unwrap_or_default(), sample.name);
    println!("    in   {}", sample.publish["data"]);
    let settled = daemon.settled(id)?;
    let emitted: Vec<Value> = serde_json::from_str(settled["emitted"].as_str().unwrap_or("[]"))?;
    for emission in &emitted {
        let routed = if emission["routed"] == true { "" } else { "   (no queue is bound for this type)" };
        println!("    out  {}{routed}", emission["type"].as_str().unwrap_or_default());
        println!("         {}", emission["data"].as_str().unwrap_or_default());
    }
    let outcome = settled["outcome"].as_str().unwrap_or_default();
    let reason = settled["reason"].as_str().unwrap_or_default();
    println!("    end  {outcome} {reason} (route {})", settled["route"].as_str().unwrap_or_default());
    let types: Vec<&Value> = emitted.iter().map(|emission| &emission["type"]).collect();
    let wanted: Vec<&Value> = sample.expect["emitted"].as_array().into_iter().flatten().collect();
    let is_good = sample.expect["outcome"] == outcome
        && types == wanted
        && sample.expect["reason"].as_str().unwrap_or_default() == reason;
    if !is_good {
        println!("    EXPECTED {}", sample.expect);
    }
    println!();
    Ok(is_good)
}

struct DemoDaemon {
    child: Child,
    lines: Receiver<String>,
    state: PathBuf,
}

impl DemoDaemon {
    fn start() -> Result<Self> {
        let state = std::env::temp_dir().join(format!("trunkline-demo-{}", std::process::id()));
        let mut child = Command::new(root().join("target/debug/trunkline"))
            .current_dir(root())
            .args(["run", "--broker", "embedded", "--listen", "127.0.0.1:0", "--log-format", "json", "--state"])
            .arg(&state)
            .env("LOG_LEVEL", "info,trunkline::trace=debug")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let (sender, lines) = sync_channel(LINES_MAX);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines, state })
    }

    /// Reads the log until a line matches.
    fn wait_for(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Ok(value) = serde_json::from_str::<Value>(&line)
                        && fits(&value)
                    {
                        return Ok(value);
                    }
                    seen.push(line);
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{what} was not logged within {PATIENCE:?}:\n{}", seen.join("\n"))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the daemon ended before {what} was logged:\n{}", seen.join("\n"))
                }
            }
        }
    }

    fn address(&mut self) -> Result<String> {
        let line = self.wait_for("the address", |line| line["message"] == "the daemon listens for HTTP requests")?;
        Ok(line["address"].as_str().context("an address")?.to_owned())
    }

    fn wait_until_ready(&mut self, address: &str) -> Result<()> {
        self.wait_for("the start", |line| line["message"] == "the daemon started")?;
        let url = format!("http://{address}/health");
        let mut response = ureq::get(&url).config().http_status_as_error(false).build().call()?;
        let health: Value = response.body_mut().read_json()?;
        if health["status"] == "ok" { Ok(()) } else { bail!("the daemon is not healthy: {health}") }
    }

    fn settled(&mut self, id: &str) -> Result<Value> {
        self.wait_for(&format!("the end of event {id}"), |line| line["message"] == "settled" && line["event"] == id)
    }

    fn follow(&mut self) -> Result<()> {
        while let Ok(line) = self.lines.recv() {
            println!("{line}");
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        let _gone = Command::new("kill").arg(self.child.id().to_string()).status()?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("the daemon failed ({status})") }
    }
}

impl Drop for DemoDaemon {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        remove(&self.state);
    }
}

fn remove(dir: &Path) {
    let _absent = std::fs::remove_dir_all(dir);
}
