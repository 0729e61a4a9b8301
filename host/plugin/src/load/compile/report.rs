//! Reports about compilations that take long.

use std::fmt;
use std::time::{Duration, Instant};

use tracing::info;

use super::mode::{CodeKind, CompileMode};
use trunkline_event::PluginName;
use trunkline_telemetry::wait;

/// Time between two reports about one compilation.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Receiver of reports.
pub(crate) type Reporter = fn(&CompileReport<'_>);

/// State of a compilation that takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompileStage {
    /// The compilation begins.
    Begins,
    /// The compilation waits until another compilation ends.
    Waits,
    /// The compiler runs.
    Runs,
    /// The code is ready.
    Ends,
}

/// A report about a compilation that takes long.
#[derive(Debug)]
pub struct CompileReport<'a> {
    /// Name of the plugin in routes.toml.
    pub plugin: &'a PluginName,
    /// Kind and share of the compilation.
    pub mode: CompileMode,
    /// State of the compilation.
    pub stage: CompileStage,
    /// Length of the component in bytes.
    pub size_bytes: usize,
    /// Time since the compilation began.
    pub elapsed: Duration,
}

impl CompileReport<'_> {
    /// Logs the report.
    pub fn log(&self) {
        let Self { plugin, mode, size_bytes, elapsed, .. } = self;
        info!(%plugin, code = mode.code().as_str(), size_bytes, elapsed_ms = elapsed.as_millis(), "{self}");
    }
}

impl fmt::Display for CompileReport<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quick = "the plugin uses quick code until the optimised code is ready";
        match (self.stage, self.mode) {
            (CompileStage::Begins, CompileMode::Quick | CompileMode::Optimised) => {
                out.write_str("the compilation of a plugin begins; the plugin is ready when the compilation ends")
            }
            (CompileStage::Waits, CompileMode::Quick | CompileMode::Optimised) => {
                out.write_str("the compilation of a plugin waits until another compilation ends")
            }
            (CompileStage::Runs, CompileMode::Quick | CompileMode::Optimised) => {
                out.write_str("the compilation of a plugin continues; the plugin is ready when the compilation ends")
            }
            (CompileStage::Ends, CompileMode::Quick | CompileMode::Optimised) => {
                out.write_str("the compilation of a plugin is complete")
            }
            (CompileStage::Begins, CompileMode::Background) => {
                write!(out, "the compilation of optimised code begins; {quick}")
            }
            (CompileStage::Waits, CompileMode::Background) => {
                write!(out, "the compilation of optimised code waits until another compilation ends; {quick}")
            }
            (CompileStage::Runs, CompileMode::Background) => {
                write!(out, "the compilation of optimised code continues; {quick}")
            }
            (CompileStage::Ends, CompileMode::Background) => out.write_str(
                "the optimised code of a plugin is ready; every call that begins from now on uses the optimised code",
            ),
        }
    }
}

/// Watches one compilation, and reports at its beginning when it takes long for sure, then at every interval, and at its
/// end.
pub(crate) struct CompileWatch<'a> {
    plugin: &'a PluginName,
    mode: CompileMode,
    size_bytes: usize,
    begun: Instant,
    every: Duration,
    reporter: Reporter,
    /// Whether a report was made, so that the end gets a report too.
    is_reported: bool,
}

impl<'a> CompileWatch<'a> {
    pub(crate) fn begin(reporter: Reporter, plugin: &'a PluginName, mode: CompileMode, size_bytes: usize) -> Self {
        let begun = Instant::now();
        let mut watch = Self { plugin, mode, size_bytes, begun, every: REPORT_EVERY, reporter, is_reported: false };
        match CodeKind::first_for(size_bytes) {
            CodeKind::Quick => watch.report(CompileStage::Begins),
            CodeKind::Optimised => {}
        }
        watch
    }

    /// Waits for a part of the compilation.
    pub(crate) async fn during<T>(&mut self, stage: CompileStage, part: impl Future<Output = T>) -> T {
        let mut part = std::pin::pin!(part);
        loop {
            tokio::select! {
                biased;
                done = &mut part => return done,
                () = wait::after(self.every) => self.report(stage),
            }
        }
    }

    pub(crate) fn end(mut self) {
        if self.is_reported {
            self.report(CompileStage::Ends);
        }
    }

    fn report(&mut self, stage: CompileStage) {
        self.is_reported = true;
        let Self { plugin, mode, size_bytes, begun, reporter, .. } = *self;
        reporter(&CompileReport { plugin, mode, stage, size_bytes, elapsed: begun.elapsed() });
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use parking_lot::Mutex;

    use super::*;

    static REPORTS: Mutex<Vec<CompileStage>> = Mutex::new(Vec::new());

    fn keep(report: &CompileReport<'_>) {
        REPORTS.lock().push(report.stage);
    }

    /// Ends when there is this number of reports.
    fn reports(count: usize) -> impl Future<Output = ()> {
        std::future::poll_fn(move |_| if REPORTS.lock().len() < count { Poll::Pending } else { Poll::Ready(()) })
    }

    #[tokio::test]
    async fn only_a_long_compilation_is_reported() {
        let name = PluginName::new("large").expect("a name");
        let mut watch = CompileWatch::begin(keep, &name, CompileMode::Optimised, 1000);
        watch.during(CompileStage::Runs, std::future::ready(())).await;
        watch.end();
        assert!(REPORTS.lock().is_empty(), "short");

        let mut watch = CompileWatch::begin(keep, &name, CompileMode::Quick, 12 << 20);
        watch.every = Duration::from_millis(1);
        watch.during(CompileStage::Waits, reports(2)).await;
        watch.during(CompileStage::Runs, reports(4)).await;
        watch.end();
        let stages = std::mem::take(&mut *REPORTS.lock());
        let expected = [CompileStage::Begins, CompileStage::Waits, CompileStage::Runs, CompileStage::Runs];
        assert_eq!(stages, [expected.as_slice(), &[CompileStage::Ends]].concat());
    }
}
