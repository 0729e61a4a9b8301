//! Compiling a component in a child process with limits on memory, processor time and wall clock.
//!
//! A compiler is not a sandbox: 1.4 MB of hostile WebAssembly keep Cranelift busy for 38 s and take half a GiB, and an
//! allocation that fails aborts the process that asked for it. So it is the child that is slow or dies, and the
//! daemon goes on. The child is this same program under a hidden verb. It gets no environment and no files, only the
//! component on its stdin; its code is ours because it came over the pipe of a child that we started.

mod child;

use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit};

pub use child::compile_for_parent;

/// The verb under which the program is its own compiler.
pub const COMPILE_VERB: &str = "compile-component";

/// Children at a time: a start with many new plugins uses two cores and no more memory than two compilers.
const CHILDREN_MAX: usize = 2;
/// Processor time of all threads of a child. Measured: JavaScript's interpreter (11.5 MiB) takes 29 s on a slow core,
/// Python's (17.6 MiB) 25 s, so three times as much is left.
const CPU_BASE: Duration = Duration::from_secs(10);
const CPU_PER_MIB: Duration = Duration::from_secs(6);
/// The child has a low priority, so on a busy machine it is rightly slow: only one that hangs meets this.
const WALL_PER_CPU: u32 = 30;
/// What a child may allocate. Measured with the same: 379 MiB and 352 MiB; a plugin in Rust takes 28 MiB.
const MEMORY_BASE_BYTES: u64 = 512 << 20;
const MEMORY_PER_MIB_BYTES: u64 = 48 << 20;
/// Machine code is three to six times as long as what it was made of.
const CODE_MAX_BYTES: u64 = 512 << 20;
/// The end of its last words.
const STDERR_MAX_BYTES: u64 = 16 << 10;
const WORDS_MAX_BYTES: usize = 1024;

/// Begins a whole answer.
const ANSWER: &[u8; 8] = b"TLCODE01";
/// Exit codes of the child.
const REFUSED: u8 = 65;

/// Why there is no machine code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no valid component: the compiler's words.
    #[error("{0}")]
    Refused(String),
    /// The limit of processor time.
    #[error("compiling takes more than {} s of processor time", .0.as_secs())]
    Cpu(Duration),
    /// The limit of wall clock.
    #[error("compiling is not done after {} s", .0.as_secs())]
    Clock(Duration),
    /// The limit of memory, in bytes.
    #[error("compiling needs more than {} MiB of memory", .0 >> 20)]
    Memory(u64),
    /// More machine code than this, in bytes.
    #[error("its machine code would take more than {} MiB", .0 >> 20)]
    Code(u64),
    /// A mistake of the compiler, or somebody ended it.
    #[error("the compiler crashed ({0})")]
    Crashed(String),
    /// The system refuses a process.
    #[error("the compiler cannot be started: {0}")]
    Start(String),
}

/// Machine code that a compiler of ours made of a component. Nobody else can make one.
pub(super) struct Code(Vec<u8>);

impl Code {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a child may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    cpu: Duration,
    wall: Duration,
    memory_max_bytes: u64,
}

impl Bounds {
    /// For a component of that length. Interpreters of other languages come as 10 MiB of code and more.
    fn of(component_bytes: usize) -> Self {
        let mib = u32::try_from(component_bytes.saturating_sub(1 << 20) >> 20).unwrap_or(u32::MAX);
        let cpu = CPU_BASE + CPU_PER_MIB * mib;
        Self {
            cpu,
            wall: cpu * WALL_PER_CPU,
            memory_max_bytes: MEMORY_BASE_BYTES + u64::from(mib) * MEMORY_PER_MIB_BYTES,
        }
    }
}

/// Where components are compiled.
#[derive(Debug)]
pub struct Compiler(Where);

#[derive(Debug)]
enum Where {
    Child { permits: Semaphore },
    Here,
}

impl Compiler {
    /// In children of this program, which must be `trunkline`: another one would not know the verb, and every plugin
    /// would be refused with what it says instead.
    #[must_use]
    pub fn in_children() -> Self {
        Self(Where::Child { permits: Semaphore::new(CHILDREN_MAX) })
    }

    /// In this process and without limits: for benchmarks, whose program is another.
    #[must_use]
    pub fn in_process() -> Self {
        Self(Where::Here)
    }

    /// Waits until a compiler is free. None: there is no bound.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        match &self.0 {
            // Never closed, so there is always an answer.
            Where::Child { permits } => permits.acquire().await.ok(),
            Where::Here => None,
        }
    }

    /// Compiles a component, for whoever waited for its turn. Dropping the future ends the child.
    pub(super) async fn compile(&self, engine: &wasmtime::Engine, component: Vec<u8>) -> Result<Code, Error> {
        match &self.0 {
            Where::Child { .. } => in_child(&component).await.map(Code),
            Where::Here => {
                let engine = engine.clone();
                let work = move || engine.precompile_component(&component);
                let done = tokio::task::spawn_blocking(work).await;
                let code = done.map_err(|error| Error::Crashed(error.to_string()))?;
                code.map(Code).map_err(|error| Error::Refused(format!("{error:#}")))
            }
        }
    }
}

async fn in_child(component: &[u8]) -> Result<Vec<u8>, Error> {
    let bounds = Bounds::of(component.len());
    let child = start(bounds).map_err(|error| Error::Start(error.to_string()))?;
    match tokio::time::timeout(bounds.wall, talk(child, component)).await {
        Err(_elapsed) => Err(Error::Clock(bounds.wall)),
        Ok(Err(error)) if error.kind() == ErrorKind::FileTooLarge => Err(Error::Code(CODE_MAX_BYTES)),
        Ok(Err(error)) => Err(Error::Crashed(error.to_string())),
        Ok(Ok(answer)) => answer.code(bounds),
    }
}

fn start(bounds: Bounds) -> std::io::Result<Child> {
    // The running program itself, even when its file was replaced: only the same version makes code that fits.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("trunkline")
        // As flags: a program that is not ours says that it does not know them.
        .args([COMPILE_VERB, "--cpu-s", &bounds.cpu.as_secs().to_string()])
        .args(["--memory-max-bytes", &bounds.memory_max_bytes.to_string()])
        .env_clear()
        .env("RAYON_NUM_THREADS", child::THREADS)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// What a child answered.
struct Answer {
    status: ExitStatus,
    out: Vec<u8>,
    words: String,
}

/// The component goes over with its length before it, and the pipe stays open: when it closes, we are gone, and the
/// child ends at once.
async fn talk(mut child: Child, component: &[u8]) -> std::io::Result<Answer> {
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(std::io::Error::other("its pipes are missing"));
    };
    let write = async {
        // A child that died does not read on; its status tells why.
        let length = (component.len() as u64).to_le_bytes();
        let _sent = stdin.write_all(&length).await;
        let _sent = stdin.write_all(component).await;
        Ok::<(), std::io::Error>(())
    };
    let read = async {
        let mut out = Vec::new();
        let read = stdout.take(CODE_MAX_BYTES + 1).read_to_end(&mut out).await?;
        let fits = read as u64 <= CODE_MAX_BYTES;
        if fits { Ok(out) } else { Err(ErrorKind::FileTooLarge.into()) }
    };
    let hear = async {
        let (mut words, mut rest) = (Vec::new(), stderr.take(STDERR_MAX_BYTES));
        rest.read_to_end(&mut words).await?;
        tokio::io::copy(&mut rest.into_inner(), &mut tokio::io::sink()).await?;
        Ok(words)
    };
    let ((), out, words) = tokio::try_join!(write, read, hear)?;
    let status = child.wait().await?;
    drop(stdin);
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    Ok(Answer { status, out, words })
}

/// Linux: the process used up its processor time.
const SIGXCPU: i32 = 24;

impl Answer {
    fn code(self, bounds: Bounds) -> Result<Vec<u8>, Error> {
        let Self { status, mut out, words } = self;
        if status.success() && out.starts_with(ANSWER) {
            out.drain(..ANSWER.len());
            return Ok(out);
        }
        // The words of Rust's allocator before it aborts; of wasmtime where it can go on.
        let out_of_memory = words.contains("memory allocation of") || words.contains("out of memory");
        let said = words[..words.floor_char_boundary(WORDS_MAX_BYTES)].to_owned();
        match (status.signal(), status.code()) {
            (Some(SIGXCPU), _) => Err(Error::Cpu(bounds.cpu)),
            _ if out_of_memory => Err(Error::Memory(bounds.memory_max_bytes)),
            (None, Some(code)) if code == i32::from(REFUSED) => Err(Error::Refused(said)),
            _ => Err(Error::Crashed(if said.is_empty() { status.to_string() } else { format!("{status}: {said}") })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: i32, out: &[u8], words: &str) -> Result<Vec<u8>, Error> {
        let answer = Answer { status: ExitStatus::from_raw(status), out: out.to_vec(), words: words.to_owned() };
        answer.code(Bounds::of(3 << 20))
    }

    #[test]
    fn each_way_to_end_has_its_error() {
        assert_eq!(answer(0, b"TLCODE01code", ""), Ok(b"code".to_vec()));
        assert_eq!(answer(SIGXCPU, b"", ""), Err(Error::Cpu(Duration::from_secs(22))));
        let memory = Err(Error::Memory(MEMORY_BASE_BYTES + 2 * MEMORY_PER_MIB_BYTES));
        assert_eq!(answer(6, b"", "memory allocation of 7 bytes failed"), memory);
        assert_eq!(answer(i32::from(REFUSED) << 8, b"", "bad magic"), Err(Error::Refused("bad magic".to_owned())));
        assert_eq!(answer(11, b"", ""), Err(Error::Crashed("signal: 11 (SIGSEGV)".to_owned())));
        for (status, out) in [(0, &b"running 0 tests"[..]), (0, b""), (256, b"TLCODE01code")] {
            assert!(matches!(answer(status, out, "words"), Err(Error::Crashed(_))), "{status}");
        }
    }

    #[tokio::test]
    async fn another_program_is_no_compiler() {
        // This test's own program does not know the verb.
        let engine = wasmtime::Engine::default();
        let compiled = Compiler::in_children().compile(&engine, b"\0asm".to_vec()).await;
        assert!(matches!(compiled, Err(Error::Crashed(_))));
    }
}
