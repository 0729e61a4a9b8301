//! Runs the end-to-end tests on several versions of RabbitMQ: the versions of three Debian releases, each with one node, and the
//! newest version as a cluster of three nodes.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use xtask::rabbitmq::{DebianRelease, RELEASES, ROOT_VARIABLE, RabbitmqNode, RabbitmqServer, RootUse};
use xtask::{tools, wasm};

use crate::test::{NODE_VARIABLE, URL_VARIABLE, nextest, threads};

/// The runs that have a part. A run has the parts of all smaller runs too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum MatrixScope {
    /// The short matrix.
    Short,
    /// A cluster.
    Cluster,
    /// One node of a release in the full matrix.
    Full,
}

/// A part of the end-to-end tests.
struct MatrixPart {
    name: &'static str,
    /// The names of its tests, as a regular expression.
    tests: &'static str,
    /// The smallest run that has the part.
    scope: MatrixScope,
}

const fn part(name: &'static str, tests: &'static str, scope: MatrixScope) -> MatrixPart {
    MatrixPart { name, tests, scope }
}

/// The parts. Tests of the embedded broker alone do not belong to the matrix.
static PARTS: [MatrixPart; 11] = [
    part("conformance", "^conformance::", MatrixScope::Short),
    part("delivery", "^delivery::", MatrixScope::Short),
    part("dead letters", "^redrive::", MatrixScope::Short),
    part("delays", "^faults::delays::", MatrixScope::Short),
    part("versions", "^versions::", MatrixScope::Short),
    part("other programs", "^(owned|rpc)::", MatrixScope::Short),
    part("systems", "^(systems|foreign)::", MatrixScope::Cluster),
    part("messages", "^(ten_thousand|admission|messages|messaging|hostile|malformed)::", MatrixScope::Full),
    part("faults", "^(faults|broker_faults|connections|arguments|tls|lateness|expiry)::", MatrixScope::Full),
    part("http", "^(api|http|metrics)::", MatrixScope::Full),
    part(
        "daemon",
        "^(archive|bad_input|byte_order_marks|capabilities|environment|guests|reload|rollout|shadows|state_dir)::",
        MatrixScope::Full,
    ),
];
/// The nodes of a cluster.
const CLUSTER_NODES: usize = 3;

#[derive(Debug, Default, PartialEq, Eq)]
struct MatrixOptions {
    is_short: bool,
    is_fresh: bool,
    /// The release that runs alone.
    only: Option<DebianRelease>,
    /// The names of the parts that run alone; all parts if the list is empty.
    parts: Vec<&'static str>,
}

/// The tests of some parts on the nodes of one release.
struct MatrixRun {
    release: DebianRelease,
    nodes: usize,
    parts: Vec<&'static MatrixPart>,
}

/// The result of a part.
struct MatrixResult {
    broker: String,
    part: &'static str,
    passed: bool,
    took: Duration,
}

/// Runs the parts one after the other, prints the results as a table, and fails if a part failed.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let options = options(arguments)?;
    wasm::ensure_target()?;
    let path = tools::NEXTEST.path()?;
    let (begun, runs) = (Instant::now(), plan(&options));
    if runs.is_empty() {
        bail!("no run has these parts: the short matrix has fewer parts");
    }
    let root_use = if options.is_fresh { RootUse::Fresh } else { RootUse::Kept };
    let servers = servers(&runs, root_use)?;
    let mut results = Vec::new();
    for run in runs {
        if let Some((_, server)) = servers.iter().find(|(release, _)| *release == run.release) {
            results.extend(run.results(server, &path)?);
        }
    }
    println!("\n{}", table(&results));
    println!("the matrix took {}", minutes(begun.elapsed()));
    if results.iter().all(|result| result.passed) { Ok(()) } else { bail!("a part of the matrix failed") }
}

fn options(arguments: &[&str]) -> Result<MatrixOptions> {
    let mut options = MatrixOptions::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match *word {
            "--short" => options.is_short = true,
            "--fresh" => options.is_fresh = true,
            "--only" => {
                let wanted = words.next().copied().unwrap_or_default();
                let is_wanted = |release: &&DebianRelease| [release.suite, release.series].contains(&wanted);
                let Some(release) = RELEASES.iter().find(is_wanted) else {
                    let known = RELEASES.map(|release| format!("{} ({})", release.suite, release.series)).join(", ");
                    bail!("`--only {wanted}` is not one of the releases: {known}");
                };
                options.only = Some(*release);
            }
            "--part" => {
                let wanted = words.next().copied().unwrap_or_default();
                let Some(part) = PARTS.iter().find(|part| part.name == wanted) else {
                    let known = PARTS.iter().map(|part| part.name).collect::<Vec<_>>().join(", ");
                    bail!("`--part {wanted}` is not one of the parts: {known}");
                };
                options.parts.push(part.name);
            }
            other => {
                bail!("`{other}` is not an argument of `matrix`: use --short, --fresh, --only RELEASE, --part NAME")
            }
        }
    }
    Ok(options)
}

/// The runs: each release with one node, then the newest release as a cluster. The short matrix has neither the oldest release,
/// which `cargo xtask test` runs, nor a cluster.
fn plan(options: &MatrixOptions) -> Vec<MatrixRun> {
    let oldest = RELEASES.first();
    let newest = RELEASES.last();
    let is_part_wanted = |part: &MatrixPart| options.parts.is_empty() || options.parts.contains(&part.name);
    let parts = |scope: MatrixScope| {
        PARTS.iter().filter(|part| part.scope <= scope && is_part_wanted(part)).collect::<Vec<_>>()
    };
    let scope = if options.is_short { MatrixScope::Short } else { MatrixScope::Full };
    let mut runs = Vec::new();
    for release in &RELEASES {
        let is_wanted = match options.only {
            Some(only) => only == *release,
            None => !options.is_short || Some(release) != oldest,
        };
        if is_wanted {
            runs.push(MatrixRun { release: *release, nodes: 1, parts: parts(scope) });
            if Some(release) == newest && !options.is_short {
                let parts = parts(MatrixScope::Cluster);
                runs.push(MatrixRun { release: *release, nodes: CLUSTER_NODES, parts });
            }
        }
    }
    runs.retain(|run| !run.parts.is_empty());
    runs
}

/// The server of each release of the runs. The roots are made side by side, because debootstrap mostly waits for the network.
fn servers(runs: &[MatrixRun], root_use: RootUse) -> Result<Vec<(DebianRelease, RabbitmqServer)>> {
    let mut releases: Vec<DebianRelease> = runs.iter().map(|run| run.release).collect();
    releases.dedup();
    std::thread::scope(|scope| {
        let making: Vec<_> = releases.iter().map(|release| scope.spawn(move || release.server(root_use))).collect();
        let made = making.into_iter().map(|making| -> Result<RabbitmqServer> {
            making.join().map_err(|_panic| anyhow!("making a root panicked"))?
        });
        releases.iter().zip(made).map(|(release, server)| Ok((*release, server?))).collect::<Result<Vec<_>>>()
    })
}

impl MatrixRun {
    fn results(&self, server: &RabbitmqServer, path: &OsStr) -> Result<Vec<MatrixResult>> {
        let version = server.version().unwrap_or_else(|| "?".to_owned());
        if !self.release.is_series_of(&version) {
            println!("note: Debian {} has RabbitMQ {version}, not {}", self.release.suite, self.release.series);
        }
        let nodes = if self.nodes == 1 { String::new() } else { format!(", {} nodes", self.nodes) };
        let broker = format!("RabbitMQ {version} (Debian {}{nodes})", self.release.suite);
        println!("\n== {broker}");
        let shared = RabbitmqNode::start_cluster_of(server, self.nodes)?;
        let mut results = Vec::new();
        for part in &self.parts {
            let begun = Instant::now();
            println!("\n== {broker}: {}", part.name);
            let mut cargo = nextest(path);
            cargo.arg("--test-threads").arg(threads()).arg("-E").arg(filter(part));
            cargo.env(URL_VARIABLE, shared[0].url()).env(NODE_VARIABLE, shared[0].dir());
            match server.root() {
                Some(root) => cargo.env(ROOT_VARIABLE, root),
                None => cargo.env_remove(ROOT_VARIABLE),
            };
            let passed = cargo.status()?.success();
            results.push(MatrixResult { broker: broker.clone(), part: part.name, passed, took: begun.elapsed() });
        }
        Ok(results)
    }
}

/// The tests of a part, as an expression of nextest.
fn filter(part: &MatrixPart) -> String {
    format!("binary(e2e) & test(/{}/) - test(embedded)", part.tests)
}

fn table(results: &[MatrixResult]) -> String {
    let rows = results.iter().map(|result| {
        let outcome = if result.passed { "passed" } else { "FAILED" };
        format!("{:44} {:14} {outcome:8} {}", result.broker, result.part, minutes(result.took))
    });
    rows.collect::<Vec<_>>().join("\n")
}

fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{} min {:02} s", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn planned(arguments: &[&str]) -> Vec<(&'static str, usize, usize)> {
        let options = options(arguments).expect("known arguments");
        plan(&options).iter().map(|run| (run.release.suite, run.nodes, run.parts.len())).collect()
    }

    #[test]
    fn the_matrix_has_every_release_and_a_cluster_of_the_newest() {
        let all = PARTS.len();
        let [short, cluster] = [MatrixScope::Short, MatrixScope::Cluster]
            .map(|scope| PARTS.iter().filter(|part| part.scope <= scope).count());
        assert!(short < cluster && cluster < all, "{short} {cluster}");
        assert_eq!(planned(&[]), [("bookworm", 1, all), ("trixie", 1, all), ("forky", 1, all), ("forky", 3, cluster)]);
        assert_eq!(planned(&["--short"]), [("trixie", 1, short), ("forky", 1, short)]);
        assert_eq!(planned(&["--only", "4.3"]), [("forky", 1, all), ("forky", 3, cluster)]);
        assert_eq!(planned(&["--short", "--only", "bookworm", "--fresh"]), [("bookworm", 1, short)]);
        assert_eq!(planned(&["--only", "4.3", "--part", "faults", "--part", "http"]), [("forky", 1, 2)]);
        assert_eq!(planned(&["--short", "--part", "faults"]), []);
    }

    #[test]
    fn the_short_matrix_has_the_parts_of_ci() {
        let of_ci = PARTS.iter().filter(|part| part.scope == MatrixScope::Short);
        let short: Vec<&str> = of_ci.map(|part| part.name).collect();
        for part in ["conformance", "delivery", "dead letters", "delays"] {
            assert!(short.contains(&part), "{part}");
        }
        assert_eq!(filter(&PARTS[0]), "binary(e2e) & test(/^conformance::/) - test(embedded)");
    }

    /// Modules that the matrix leaves out, because their tests are about plugins, and the broker only carries the events. The
    /// module `bench` has no test.
    const LEFT_OUT: [&str; 3] = ["bench", "languages", "limits"];
    /// Words of tests that use RabbitMQ.
    const RABBITMQ: [&str; 5] =
        ["Bench::amqp()", "on_both_brokers!", "RabbitmqNode::start", "virtual_host()", "stories!"];

    /// The modules of a part.
    fn modules(part: &MatrixPart) -> Vec<&'static str> {
        let words = part.tests.trim_start_matches('^').trim_end_matches("::");
        words.trim_matches(['(', ')']).split('|').collect()
    }

    /// The modules of the end-to-end tests.
    fn declared() -> Vec<String> {
        let main = std::fs::read_to_string(xtask::root().join("tests/e2e/main.rs")).expect("a file");
        let name = |line: &str| Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned());
        main.lines().filter_map(name).collect()
    }

    /// The text of all files of a module.
    fn text(path: &Path) -> String {
        let mut text = std::fs::read_to_string(path.with_extension("rs")).unwrap_or_default();
        for entry in std::fs::read_dir(path).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            text += &if path.is_dir() { self::text(&path) } else { std::fs::read_to_string(path).expect("a file") };
        }
        text
    }

    /// A part whose modules were renamed would run no test.
    #[test]
    fn every_module_of_a_part_exists() {
        let declared = declared();
        for part in &PARTS {
            for module in modules(part) {
                let first = module.split("::").next().unwrap_or_default();
                assert!(declared.iter().any(|name| name == first), "{}: {module}", part.name);
            }
        }
    }

    /// A new module with tests on RabbitMQ belongs to a part.
    #[test]
    fn every_module_with_rabbitmq_is_in_the_matrix() {
        let in_parts: Vec<&str> = PARTS.iter().flat_map(modules).collect();
        let (mut missing, mut seen) = (Vec::new(), 0);
        for name in declared() {
            let text = text(&xtask::root().join("tests/e2e").join(&name));
            assert!(!text.is_empty(), "{name} has no file");
            if !RABBITMQ.iter().any(|word| text.contains(word)) || LEFT_OUT.contains(&name.as_str()) {
                continue;
            }
            seen += 1;
            if !in_parts.contains(&name.as_str()) {
                missing.push(name);
            }
        }
        assert!(seen > 20, "hardly any module was found ({seen}): the check itself is broken");
        assert!(missing.is_empty(), "no part of the matrix has the modules {missing:?}");
    }

    /// The page says which tests ran on which version.
    #[test]
    fn the_page_of_tried_programs_lists_the_parts() {
        let page = std::fs::read_to_string(xtask::root().join("docs/reference/tried.md")).expect("the page");
        for part in &PARTS {
            let modules = modules(part).iter().map(|module| format!("`{module}`")).collect::<Vec<_>>().join(", ");
            let [short, cluster] =
                [MatrixScope::Short, MatrixScope::Cluster].map(|scope| if part.scope <= scope { "yes" } else { "no" });
            let row = format!("| {} | {modules} | {short} | {cluster} |", part.name);
            assert!(page.lines().any(|line| line == row), "docs/reference/tried.md has no row: {row}");
        }
    }

    #[test]
    fn unknown_words_are_refused() {
        for arguments in [&["--longer"][..], &["--only"], &["--only", "sid"], &["4.3"], &["--part"], &["--part", "all"]]
        {
            assert!(options(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn a_failed_part_is_seen_in_the_table() {
        let result = |part, passed| MatrixResult {
            broker: "RabbitMQ 4.3.6 (Debian forky, 3 nodes)".to_owned(),
            part,
            passed,
            took: Duration::from_secs(75),
        };
        let shown = table(&[result("delivery", true), result("delays", false)]);
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][5..], ["nodes)", "delivery", "passed", "1", "min", "15", "s"]);
        assert_eq!(lines[1][6..8], ["delays", "FAILED"]);
    }
}
