//! Processor time, context switches and memory of processes, from `/proc`.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result};

/// The fields of `/proc/PID/stat` after the name of the program: user time and system time, in clock ticks.
const TIME_FIELDS: std::ops::RangeInclusive<usize> = 11..=12;

/// The processor time of a process so far in seconds, with all its threads.
pub(crate) fn cpu_s(pid: u32) -> Result<f64> {
    let file = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&file).with_context(|| format!("process {pid} has ended"))?;
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(*TIME_FIELDS.start()).take(TIME_FIELDS.count()).map(str::parse::<f64>);
    let ticks: f64 = ticks.sum::<Result<f64, _>>().with_context(|| file)?;
    Ok(ticks / ticks_a_second())
}

/// The processor time of the whole machine so far in seconds, without idle time.
pub(crate) fn busy_s() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let first = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = first.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
    // The fields 3 and 4 are the idle time and the time that the machine waited for disks.
    let idle = ticks.get(3).copied().unwrap_or_default() + ticks.get(4).copied().unwrap_or_default();
    Ok((ticks.iter().sum::<f64>() - idle) / ticks_a_second())
}

/// The context switches so far of the threads that a process has now.
pub(crate) fn switches(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let Ok(text) = std::fs::read_to_string(thread?.path().join("status")) else { continue };
        let lines = text.lines().filter(|line| line.contains("ctxt_switches:"));
        sum += lines.filter_map(|line| line.rsplit(char::is_whitespace).next()?.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(sum)
}

/// The resident memory of a process in MiB.
pub(crate) fn resident_mib(pid: u32) -> Result<f64> {
    status(pid, "VmRSS:")
}

/// A size of `/proc/PID/status` in MiB. The file has kibibytes.
fn status(pid: u32, name: &str) -> Result<f64> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    let kib: f64 = line.split_whitespace().next().context("no size")?.parse()?;
    Ok(kib / 1024.0)
}

fn ticks_a_second() -> f64 {
    static TICKS: OnceLock<f64> = OnceLock::new();
    *TICKS.get_or_init(|| {
        let output = Command::new("getconf").arg("CLK_TCK").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.ok().and_then(|text| text.parse().ok()).unwrap_or(100.0)
    })
}
