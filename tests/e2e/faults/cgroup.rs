//! Control groups (version 1) of the tests: kernel limits for one daemon and its children. A machine without control
//! groups fails the test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use trunkline_support::{Daemon, Ended};

use crate::bench::{Bench, binary};

const MOUNTED: &str = "/sys/fs/cgroup";
/// A killed process leaves its group only after the kernel has finished with it.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);

/// A group below the first one of a controller, removed with the test.
pub(super) struct Group(PathBuf);

impl Group {
    /// A memory limit for the group. Beyond it the kernel kills one of the processes.
    pub(super) fn memory(bytes: u64) -> Self {
        let group = Self::new("memory");
        group.set("memory.limit_in_bytes", &bytes.to_string());
        group
    }

    /// A limit on the threads of the group.
    pub(super) fn threads(max: usize) -> Self {
        let group = Self::new("pids");
        group.set("pids.max", &max.to_string());
        group
    }

    /// A group whose share of the processors can be limited later.
    pub(super) fn processors() -> Self {
        Self::new("cpu")
    }

    /// Limits the group to this share of one processor, assigned every tenth of a second.
    pub(super) fn starve(&self, percent: u32) {
        self.set("cpu.cfs_period_us", "100000");
        self.set("cpu.cfs_quota_us", &(percent * 1_000).to_string());
    }

    /// The number of tenths in which the group had used up its share.
    pub(super) fn starved(&self) -> usize {
        self.counted("cpu.stat", "nr_throttled ")
    }

    fn new(controller: &str) -> Self {
        let name = format!("trunkline-{}", uuid::Uuid::now_v7().simple());
        let at = Path::new(MOUNTED).join(controller).join(name);
        std::fs::create_dir(&at).unwrap_or_else(|error| {
            let at = at.display();
            panic!("{at} cannot be made ({error}): this needs root, and {controller} of cgroup v1 mounted in {MOUNTED}")
        });
        Self(at)
    }

    /// Writes a file of the group.
    pub(super) fn set(&self, file: &str, value: &str) {
        let at = self.0.join(file);
        std::fs::write(&at, value).unwrap_or_else(|error| panic!("{} is not {value}: {error}", at.display()));
    }

    fn get(&self, file: &str) -> String {
        let at = self.0.join(file);
        std::fs::read_to_string(&at).unwrap_or_else(|error| panic!("{} cannot be read: {error}", at.display()))
    }

    /// The number of threads in the group.
    pub(super) fn threads_now(&self) -> usize {
        self.get("pids.current").trim().parse().expect("a number")
    }

    /// The number of processes that the kernel killed for lack of memory.
    pub(super) fn kills(&self) -> usize {
        self.counted("memory.oom_control", "oom_kill ")
    }

    fn counted(&self, file: &str, name: &str) -> usize {
        let text = self.get(file);
        let count = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        count.unwrap_or_else(|| panic!("this kernel does not count: {text}"))
    }

    /// Starts a daemon inside the group. The error is the end of a daemon that was killed before it had started.
    pub(super) async fn start(&self, bench: &Bench, routes: &str) -> Result<Daemon, Ended> {
        let file = bench.write_routes(routes);
        Daemon::start(&self.program(bench), &file, &bench.state(), &bench.broker).await
    }

    /// A script that becomes the daemon, inside the group from its first moment.
    fn program(&self, bench: &Bench) -> String {
        let file = bench.path("grouped");
        let members = self.0.join("cgroup.procs");
        let script = format!("#!/bin/sh\necho $$ > '{}' && exec '{}' \"$@\"\n", members.display(), binary());
        // Another process writes the script, because a child that is being spawned would have it open for writing.
        std::fs::write(bench.path("script"), script).expect("a file");
        let installed = Command::new("install").arg("-m755").arg(bench.path("script")).arg(&file).status();
        assert!(installed.expect("install can be run").success());
        file.display().to_string()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let deadline = Instant::now() + EMPTY_WITHIN;
        while std::fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            trunkline_telemetry::wait::block(Duration::from_millis(10));
        }
    }
}
