//! Components that keep the compiler busy. The child that compiles them is ended, and the daemon neither stalls nor
//! ends.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use trunkline_support::{eventually, handmade};

use crate::bench::{Bench, binary};
use crate::faults::isolation::{FLOOR, PROBE_EVERY, median, p99};

const ROUTES: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[routes.$P-bomb]
from = "bomb"
plugin = "bomb"
[plugins.bomb]
file = "bomb.wasm"
"#;

const GOOD: &str = r#"
[defaults]
exchange = { name = "$P-events", type = "topic" }
[routes.$P-good]
from = "good"
plugin = "echo"
"#;

/// One function that takes Cranelift a minute.
fn slow_bomb() -> Vec<u8> {
    handmade::many_blocks(100_000)
}

/// Almost as many functions as fit a component.
const FUNCTIONS: usize = 800_000;

/// A running `trunkline check` of the component.
fn check(bench: &Bench, bomb: &[u8]) -> Child {
    std::fs::write(bench.path("bomb.wasm"), bomb).expect("a file");
    let file = bench.write_routes(ROUTES);
    let mut command = Command::new(binary());
    command.args(["check", "--config"]).arg(file).arg("--state").arg(bench.state());
    command.env("SECRET_OF_THE_PARENT", "hunter2").stdin(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("it runs")
}

/// A figure of /proc/PID/status in KiB; none when the process has ended.
fn status(pid: u32, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// The compiler that a process started.
pub(super) fn compiler_of(parent: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).ok()?;
    let others = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    let mut pids =
        others.chain([children]).flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let is_compiler = |pid: &String| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("compile-component")
    };
    pids.find(is_compiler)?.parse().ok()
}

/// Descriptors that this test's parent left open for all its children.
fn not_closed_by_exec() -> Vec<String> {
    let all = std::fs::read_dir("/proc/self/fdinfo").expect("this process runs");
    let left_open = |fd: &String| {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim).unwrap_or_default();
        u32::from_str_radix(flags, 8).is_ok_and(|flags| flags & 0o2_000_000 == 0)
    };
    all.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(left_open).collect()
}

async fn running_compiler(parent: u32) -> u32 {
    eventually("a compiler", || async move { compiler_of(parent) }).await
}

/// Waits for the end of a check; gives its output and its largest memory, in KiB.
async fn ended(mut check: Child) -> (String, u64) {
    let (pid, begun) = (check.id(), Instant::now());
    let mut most = 0;
    let mut done = None;
    while done.is_none() {
        most = most.max(status(pid, "VmRSS").unwrap_or_default());
        done = check.try_wait().expect("the process can be asked");
        assert!(begun.elapsed() < Duration::from_secs(400), "the check does not end");
        trunkline_telemetry::wait::after(Duration::from_millis(20)).await;
    }
    let output = check.wait_with_output().expect("its words");
    assert_eq!(output.status.code(), Some(1), "a refusal, and no crash");
    (String::from_utf8_lossy(&output.stderr).into_owned(), most)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_ends_its_compiler_and_others_go_on() {
    let (bench, beside) = (Bench::embedded(), Bench::embedded());
    let daemon = beside.start(GOOD).await;
    let _warm = p99(&daemon, 50, PROBE_EVERY).await;
    let (mut calm, mut loaded) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        calm.push(p99(&daemon, 200, PROBE_EVERY).await);
    }
    let begun = Instant::now();
    let bomb = check(&bench, &slow_bomb());
    let compiler = running_compiler(bomb.id()).await;
    for _ in 0..3 {
        loaded.push(p99(&daemon, 200, PROBE_EVERY).await);
        assert!(status(compiler, "VmRSS").is_some(), "it still compiles");
    }
    let (said, most) = ended(bomb).await;
    println!("{} after {:?}, {most} KiB in the parent", said.trim(), begun.elapsed());
    assert!(said.contains("cannot be compiled: the compilation needs more than 10 s of processor time"), "{said}");
    println!("p99 of others {calm:?} alone, {loaded:?} beside the compiler");
    let (calm, loaded) = (median(calm), median(loaded));
    assert!(loaded <= (calm * 2).max(FLOOR), "{calm:?} alone, {loaded:?} beside the compiler");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compiler_has_little_and_ends_with_its_parent() {
    let bench = Bench::embedded();
    let mut parent = check(&bench, &slow_bomb());
    let compiler = running_compiler(parent.id()).await;
    let proc = |what: &str| PathBuf::from(format!("/proc/{compiler}/{what}"));
    // The compiler has no limits before it has the component.
    eventually("its limits", || async move {
        let limits = std::fs::read_to_string(format!("/proc/{compiler}/limits")).ok()?;
        let has = |name: &str, value: &str| limits.lines().any(|line| line.starts_with(name) && line.contains(value));
        let all = [
            ("Max cpu time", " 10 "),
            ("Max data size", "536870912"),
            ("Max core file size", " 0 "),
            ("Max file size", " 0 "),
        ];
        all.iter().all(|(name, value)| has(name, value)).then_some(())
    })
    .await;
    let environment = std::fs::read(proc("environ")).expect("it runs");
    assert_eq!(String::from_utf8_lossy(&environment), "MIMALLOC_ARENA_RESERVE=16MiB\0RAYON_NUM_THREADS=2\0");
    let inherited = not_closed_by_exec();
    let all = std::fs::read_dir(proc("fd")).expect("it runs");
    let open = all.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let foreign: Vec<String> =
        open.filter(|fd| !["0", "1", "2"].contains(&fd.as_str()) && !inherited.contains(fd)).collect();
    assert!(foreign.is_empty(), "nothing of the daemon's is open in its compiler: {foreign:?}");
    assert_eq!(std::fs::read_link(proc("cwd")).expect("it runs"), PathBuf::from("/"));

    parent.kill().expect("it can be killed");
    let _status = parent.wait().expect("the compiler has ended");
    eventually("the compiler's end", || async move { status(compiler, "VmRSS").is_none().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_of_memory_aborts_the_compiler_only() {
    let bench = Bench::embedded();
    let begun = Instant::now();
    let bomb = handmade::many_functions(FUNCTIONS);
    let (said, most) = ended(check(&bench, &bomb)).await;
    println!("{} bytes: {} after {:?}, {most} KiB in the parent", bomb.len(), said.trim(), begun.elapsed());
    assert!(said.contains("cannot be compiled: the compilation needs more than"), "{said}");
}
