//! Files that are not valid plugins, and very many valid ones: `trunkline check` and the start of a daemon.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use trunkline_support::handmade;

use super::publish;
use crate::bench::{Bench, binary};

/// A trap is dead-lettered at once.
const HEAD: &str = "[defaults]\nexchange = { name = \"$P-events\", type = \"topic\" }\nretry = { max = 0 }\n";

/// Routes for plugins whose files lie in the test's folder.
fn routes(names: &[String]) -> String {
    let route = |name: &String| format!("[routes.$P-{name}]\nfrom = \"{name}\"\nplugin = \"{name}\"\n");
    let plugin = |name: &String| format!("[plugins.{name}]\nfile = \"{name}.wasm\"\n");
    names.iter().fold(HEAD.to_owned(), |text, name| text + &route(name) + &plugin(name))
}

fn check(bench: &Bench, routes: &str) -> Output {
    let file = bench.write_routes(routes);
    let mut command = Command::new(binary());
    command.args(["check", "--config"]).arg(file).arg("--state").arg(bench.state());
    command.output().expect("it runs")
}

fn write(bench: &Bench, name: &str, bytes: &[u8]) -> PathBuf {
    let file = bench.path(&format!("{name}.wasm"));
    std::fs::write(&file, bytes).expect("a file");
    file
}

/// The text of `check` about each refused plugin.
fn refusals(output: &Output) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let begin = "error: plugin ";
    let parts = text.split(begin).skip(1).map(str::to_owned);
    parts.filter_map(|part| part.split_once(": ").map(|(name, why)| (name.to_owned(), why.to_owned()))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn describe_is_bounded_too() {
    let bench = Bench::embedded();
    // A name of 300 bytes, and a million event types that are all empty.
    let long_name =
        "(i32.store (i32.const 64) (i32.const 1024)) (i32.store (i32.const 68) (i32.const 300)) i32.const 64";
    let many_types = "(drop (memory.grow (i32.const 200))) (i32.store (i32.const 92) (i32.const 1000000)) i32.const 64";
    let some_types =
        "(i32.store (i32.const 88) (i32.const 8192)) (i32.store (i32.const 92) (i32.const 1000)) i32.const 64";
    let cases = [
        ("traps", handmade::described("unreachable"), "`describe` failed: wasm trap: wasm `unreachable`"),
        ("loops", handmade::described("(loop $again (br $again)) unreachable"), "limits.timeout (1000 ms)"),
        ("long", handmade::described(long_name), "the name has 300 bytes; the limit is 255 bytes"),
        ("many", handmade::described(many_types), "the answer is larger than limits.output"),
        (
            "some",
            handmade::described(some_types),
            "the descriptor names 1000 event types; the limit is 256 event types",
        ),
        ("memories", handmade::plugin("(memory 1)", "i32.const 0"), "memories count of 2 exceeds"),
        ("tables", handmade::plugin(&"(table 1 funcref)".repeat(40), "i32.const 0"), "tables count of 40 exceeds"),
        (
            "instances",
            handmade::with_instances(handmade::plugin("", "i32.const 0"), 40, "(memory 1)"),
            "core module instances, which exceeds",
        ),
    ];
    let names: Vec<String> = cases.iter().map(|(name, ..)| (*name).to_owned()).collect();
    for (name, bytes, _) in &cases {
        write(&bench, name, bytes);
    }
    let begun = Instant::now();
    let output = check(&bench, &routes(&names));
    assert_eq!(output.status.code(), Some(1));
    let refused = refusals(&output);
    for (name, _, text) in cases {
        let why = refused.iter().find(|(refused, _)| refused == name).map(|(_, why)| why.as_str()).unwrap_or_default();
        assert!(why.contains(text), "{name}: {why}\n{refused:?}");
    }
    println!("{} hostile files refused in {:?}", names.len(), begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_are_refused_by_their_size() {
    let bench = Bench::embedded();
    let file = write(&bench, "large", &handmade::plugin("", "i32.const 0"));
    // A sparse file: a reader gets zeroes, at the cost of their size.
    File::options().write(true).open(file).and_then(|file| file.set_len(100 << 20)).expect("room");
    let begun = Instant::now();
    let output = check(&bench, &routes(&["large".to_owned()]));
    let (took, refused) = (begun.elapsed(), refusals(&output));
    assert!(refused[0].1.contains("has 104857600 bytes; the limit of a component is"), "{refused:?}");
    println!("100 MB refused in {took:?}");
}

/// A random number generator with a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

const MUTATIONS: usize = 1_000;
/// The number of mutations of a compiler's component. All others mutate a small component, which compiles quickly.
const REAL: usize = 60;

fn mutation(random: &mut Random, good: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    match random.below(6) {
        0 => bytes.truncate(random.below(good.len())),
        1 => {
            let at = random.below(good.len());
            bytes[at] ^= 1 << random.below(8);
        }
        2 => {
            for _ in 0..16 {
                let at = random.below(good.len());
                bytes[at] = random.below(256) as u8;
            }
        }
        3 => {
            let (at, length) = (random.below(good.len()), 1 + random.below(64));
            bytes.drain(at..(at + length).min(good.len()));
        }
        4 => {
            let (at, from) = (random.below(good.len()), random.below(good.len()));
            let piece = good[from..(from + 32).min(good.len())].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => {
            let at = random.below(good.len());
            bytes[at..].fill(0xff);
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_mutations_are_refused_or_do_no_harm() {
    let bench = Bench::embedded();
    let echo = std::fs::read(trunkline_support::guests().join("echo.wasm")).expect("the guest");
    let small = handmade::plugin("(table 3 funcref)", "(drop (memory.grow (i32.const 1))) i32.const 0");
    let mut random = Random(0x5eed_2026);
    let mut files: Vec<(String, Vec<u8>)> = (0..MUTATIONS)
        .map(|number| (format!("m{number}"), mutation(&mut random, if number < REAL { &echo } else { &small })))
        .collect();
    let odd: [(&str, &[u8], &str); 6] = [
        ("empty", b"", "the file is empty"),
        ("elf", b"\x7fELF\x02\x01\x01", "(ELF)"),
        ("text", b"(component)", "WebAssembly text"),
        ("zip", b"PK\x03\x04....", "a zip archive"),
        ("core", b"\0asm\x01\0\0\0", "a core module"),
        ("noise", &[0xa5; 300], "does not begin with the WebAssembly header"),
    ];
    files.extend(odd.iter().map(|(name, bytes, _)| ((*name).to_owned(), bytes.to_vec())));
    for (name, bytes) in &files {
        write(&bench, name, bytes);
    }
    let names: Vec<String> = files.into_iter().map(|(name, _)| name).collect();

    let begun = Instant::now();
    let output = check(&bench, &routes(&names));
    let refused = refusals(&output);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    for (name, _, text) in odd {
        assert!(refused.iter().any(|(refused, why)| refused == name && why.contains(text)), "{name}");
    }
    for (name, why) in &refused {
        let known = [
            "is not a component",
            "but a plugin must export",
            "imports that are not granted",
            "does not match the interfaces",
            "`describe` failed",
        ];
        assert!(known.iter().any(|known| why.contains(known)), "{name}: {why}");
    }
    let loaded: Vec<String> =
        names.iter().filter(|name| !refused.iter().any(|(known, _)| known == *name)).cloned().collect();
    println!("{} of {} refused in {:?}, {} load", refused.len(), names.len(), begun.elapsed(), loaded.len());
    assert!(refused.len() > MUTATIONS / 2, "most of them are broken");

    // Plugins that load are called.
    let loaded = &loaded[..loaded.len().min(40)];
    let daemon = bench.start(&routes(loaded)).await;
    for name in loaded {
        let id = publish(&daemon, name, "anything");
        let settled = daemon.settled(&id).await;
        assert!(["ack", "dead_letter"].contains(&settled["outcome"].as_str().unwrap_or_default()), "{settled}");
    }
    assert!(daemon.terminate().await.success());
}

const PLUGINS: usize = 500;

/// Resident memory in KiB, from /proc.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident set");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_plugins_start_in_time() {
    let bench = Bench::embedded();
    let echo = std::fs::read(trunkline_support::guests().join("echo.wasm")).expect("the guest");
    let names: Vec<String> = (0..PLUGINS).map(|number| format!("p{number}")).collect();
    for name in &names {
        write(&bench, name, &echo);
    }
    // The first start fills the code cache, and makes the queues.
    let text = routes(&names);
    let begun = Instant::now();
    let daemon = bench.start(&text).await;
    println!("the first start took {:?}", begun.elapsed());
    assert!(daemon.terminate().await.success());

    let begun = Instant::now();
    let daemon = bench.start(&text).await;
    let took = begun.elapsed();
    let all = resident(daemon.pid());
    let health: Value = serde_json::from_str(&daemon.get("/health").1).expect("JSON");
    assert_eq!(health["routes"].as_object().map(serde_json::Map::len), Some(PLUGINS), "{health}");
    assert_eq!(daemon.settled(&publish(&daemon, "p499", "x")).await["outcome"], "ack");
    assert!(daemon.terminate().await.success());

    let bench = Bench::embedded();
    write(&bench, "p0", &echo);
    let daemon = bench.start(&routes(&names[..1])).await;
    let one = resident(daemon.pid());
    assert!(daemon.terminate().await.success());
    println!("{PLUGINS} plugins started in {took:?}; {all} KiB resident, {one} KiB with one");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn the_lines_of_a_refusal_are_read() {
    let mut stderr = Vec::new();
    write!(stderr, "error: plugin a: is bad\n  more\nerror: plugin b: worse\n").expect("a buffer");
    let output = Output { status: std::process::ExitStatus::default(), stdout: Vec::new(), stderr };
    let names: Vec<String> = refusals(&output).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b"]);
}
