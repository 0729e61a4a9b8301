//! Measures a program that echoes messages from one queue of RabbitMQ to another. All programs are measured in the same way, from
//! outside: the messages wait in the queue `IN` before the program starts, and the number of messages in the queue `OUT` gives the
//! time. The processor time and the context switches come from `/proc`.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use xtask::rabbitmq::RabbitmqNode;

use super::amqp::QueueProbe;
use super::peers::run_lapin;
use super::program::MeasuredProgram;
use super::usage;

/// The part of the messages before the clock starts. A program first has to start, and a route begins with a prefetch of 1.
const FIRST_PART: f64 = 0.1;
/// Time between two looks at the queue `OUT`.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Limit for the time without a new message in `OUT`.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// The pause after the queue is filled. The broker still writes its log meanwhile.
const SETTLE: Duration = Duration::from_millis(300);

/// The queue type of `IN` and `OUT`, the number of messages and their size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EchoCase {
    pub(crate) queue_type: &'static str,
    pub(crate) messages: u64,
    pub(crate) bytes: usize,
}

/// The result of one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EchoSample {
    pub(crate) messages_a_second: f64,
    /// Processor time of the program for 100 000 messages, in seconds.
    pub(crate) cpu_s: f64,
    /// Processor time of the broker for 100 000 messages, in seconds.
    pub(crate) broker_cpu_s: f64,
    /// Context switches of the program for each message.
    pub(crate) switches: f64,
    /// The processors that all other processes of the machine used.
    pub(crate) others: f64,
}

/// A private node with a connection that looks at its queues.
pub(crate) struct EchoBroker {
    pub(crate) node: RabbitmqNode,
    probe: QueueProbe,
}

/// The state at one moment.
struct Snapshot {
    at: Instant,
    count: u64,
    cpu_s: f64,
    broker_cpu_s: f64,
    busy_s: f64,
    switches: u64,
}

impl EchoBroker {
    /// Starts a node.
    pub(crate) fn start() -> Result<Self> {
        let node = RabbitmqNode::start()?;
        let probe = QueueProbe::connect(&node.url())?;
        Ok(Self { node, probe })
    }

    /// Makes the empty queues.
    pub(crate) fn prepare(&self, queue_type: &str) -> Result<()> {
        run_lapin(&["setup", &format!("--type={queue_type}")], &self.node.url()).map(drop)
    }

    /// Fills `IN`, starts a program, and measures until all messages are in `OUT`.
    pub(crate) fn measure(
        &mut self,
        case: EchoCase,
        start: impl FnOnce(&str) -> Result<MeasuredProgram>,
    ) -> Result<EchoSample> {
        let url = self.node.url();
        self.prepare(case.queue_type)?;
        let (count, bytes) = (format!("--n={}", case.messages), format!("--size={}", case.bytes));
        run_lapin(&["fill", &count, &bytes, "--window=2000"], &url)?;
        std::thread::sleep(SETTLE);
        let mut program = start(&url)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a part of a small count"
        )]
        let first = (case.messages as f64 * FIRST_PART) as u64;
        self.wait_for(first, &mut program)?;
        let begin = self.snapshot(program.pid())?;
        self.wait_for(case.messages, &mut program)?;
        let end = self.snapshot(program.pid())?;
        Ok(sample(&begin, &end))
    }

    fn wait_for(&mut self, count: u64, program: &mut MeasuredProgram) -> Result<()> {
        let (mut last, mut changed) = (0, Instant::now());
        loop {
            let depth = self.probe.depth("OUT")?;
            if depth >= count {
                return Ok(());
            }
            if depth != last {
                (last, changed) = (depth, Instant::now());
            }
            program.check()?;
            if changed.elapsed() > STALLED_AFTER {
                bail!("only {depth} of {count} messages arrived:\n{}", program.last_lines());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn snapshot(&mut self, pid: u32) -> Result<Snapshot> {
        let broker = self.node.pid().map_or(Ok(0.0), usage::cpu_s)?;
        let (cpu_s, switches, busy_s) = (usage::cpu_s(pid)?, usage::switches(pid)?, usage::busy_s()?);
        // The count is the last figure, because the others need no time.
        let count = self.probe.depth("OUT")?;
        Ok(Snapshot { at: Instant::now(), count, cpu_s, broker_cpu_s: broker, busy_s, switches })
    }
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn sample(begin: &Snapshot, end: &Snapshot) -> EchoSample {
    let messages = (end.count - begin.count).max(1) as f64;
    let seconds = end.at.duration_since(begin.at).as_secs_f64();
    let (cpu, broker) = (end.cpu_s - begin.cpu_s, end.broker_cpu_s - begin.broker_cpu_s);
    EchoSample {
        messages_a_second: messages / seconds,
        cpu_s: cpu * 1e5 / messages,
        broker_cpu_s: broker * 1e5 / messages,
        switches: end.switches.saturating_sub(begin.switches) as f64 / messages,
        others: ((end.busy_s - begin.busy_s - cpu - broker) / seconds).max(0.0),
    }
}
