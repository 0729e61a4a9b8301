//! The daemon's side of a compiler child: start, transfer over pipes, and the meaning of the child's end.

use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::bounds::Bounds;
use super::error::CompileError;
use super::mode::CompileMode;
use super::protocol::{CODE_HEADER, COMPILE_VERB, EXIT_REFUSED};

/// Largest answer of a child. Machine code is three to six times as long as its component.
const CODE_MAX_BYTES: u64 = 512 << 20;
/// Bytes of the child's stderr that are read, and bytes that an error shows.
const STDERR_MAX_BYTES: u64 = 16 << 10;
const STDERR_SHOWN_MAX_BYTES: usize = 1024;
/// Address space that the allocator of the child reserves at a time, `MIMALLOC_ARENA_RESERVE` of mimalloc.
const ALLOCATOR_RESERVE: &str = "16MiB";
/// Linux: the signal for a process that used up its processor time.
const SIGXCPU: i32 = 24;

/// Compiles a component in a child. Dropping the future ends the child.
pub(crate) async fn compile_in_child(mode: CompileMode, component: &[u8]) -> Result<Vec<u8>, CompileError> {
    let bounds = Bounds::of(component.len());
    let child = start(mode, bounds).map_err(|error| CompileError::Start(error.to_string()))?;
    match tokio::time::timeout(bounds.wall, transfer(child, component)).await {
        Err(_elapsed) => Err(CompileError::Clock(bounds.wall)),
        Ok(Err(error)) if error.kind() == ErrorKind::FileTooLarge => Err(CompileError::Code(CODE_MAX_BYTES)),
        Ok(Err(error)) => Err(CompileError::Crashed(error.to_string())),
        Ok(Ok(ended)) => ended.code(bounds),
    }
}

fn start(mode: CompileMode, bounds: Bounds) -> std::io::Result<Child> {
    // The running program itself, even when its file was replaced: only the same version makes code that fits.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("trunkline")
        // A program that does not know these flags says so and ends.
        .args([COMPILE_VERB, "--mode", mode.as_str(), "--cpu-s", &bounds.cpu.as_secs().to_string()])
        .args(["--memory-max-bytes", &bounds.memory_max_bytes.to_string()])
        .env_clear()
        // The limit of memory counts the whole reserve of the allocator, which is 1 GiB otherwise.
        .env("MIMALLOC_ARENA_RESERVE", ALLOCATOR_RESERVE)
        .env("RAYON_NUM_THREADS", mode.threads())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// Output and exit status of a child that ended.
struct EndedChild {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: String,
}

/// Sends the component with its length in front, and reads the child's output. The child's stdin stays open, because the
/// child ends at once when it closes.
async fn transfer(mut child: Child, component: &[u8]) -> std::io::Result<EndedChild> {
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(std::io::Error::other("the child's pipes are missing"));
    };
    let write = async {
        // A child that ended does not read on. Its exit status has the reason.
        let length = (component.len() as u64).to_le_bytes();
        let _sent = stdin.write_all(&length).await;
        let _sent = stdin.write_all(component).await;
        Ok::<(), std::io::Error>(())
    };
    let read_code = async {
        let mut code = Vec::new();
        let read = stdout.take(CODE_MAX_BYTES + 1).read_to_end(&mut code).await?;
        let fits = read as u64 <= CODE_MAX_BYTES;
        if fits { Ok(code) } else { Err(ErrorKind::FileTooLarge.into()) }
    };
    let read_errors = async {
        let (mut text, mut rest) = (Vec::new(), stderr.take(STDERR_MAX_BYTES));
        rest.read_to_end(&mut text).await?;
        tokio::io::copy(&mut rest.into_inner(), &mut tokio::io::sink()).await?;
        Ok(text)
    };
    let ((), stdout, stderr) = tokio::try_join!(write, read_code, read_errors)?;
    let status = child.wait().await?;
    drop(stdin);
    Ok(EndedChild { status, stdout, stderr: String::from_utf8_lossy(&stderr).trim().to_owned() })
}

impl EndedChild {
    fn code(self, bounds: Bounds) -> Result<Vec<u8>, CompileError> {
        let Self { status, mut stdout, stderr } = self;
        if status.success() && stdout.starts_with(CODE_HEADER) {
            stdout.drain(..CODE_HEADER.len());
            return Ok(stdout);
        }
        // The first text is of Rust's allocator before it aborts, the second of wasmtime where it can go on.
        let is_out_of_memory = stderr.contains("memory allocation of") || stderr.contains("out of memory");
        let shown = stderr[..stderr.floor_char_boundary(STDERR_SHOWN_MAX_BYTES)].to_owned();
        match (status.signal(), status.code()) {
            (Some(SIGXCPU), _) => Err(CompileError::Cpu(bounds.cpu)),
            _ if is_out_of_memory => Err(CompileError::Memory(bounds.memory_max_bytes)),
            (None, Some(code)) if code == i32::from(EXIT_REFUSED) => Err(CompileError::Refused(shown)),
            _ => Err(CompileError::Crashed(if shown.is_empty() {
                status.to_string()
            } else {
                format!("{status}: {shown}")
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::compile::bounds::{MEMORY_BASE_BYTES, MEMORY_PER_MIB_BYTES};

    fn ended(status: i32, stdout: &[u8], stderr: &str) -> Result<Vec<u8>, CompileError> {
        let status = ExitStatus::from_raw(status);
        let child = EndedChild { status, stdout: stdout.to_vec(), stderr: stderr.to_owned() };
        child.code(Bounds::of(3 << 20))
    }

    #[test]
    fn each_way_to_end_has_its_error() {
        assert_eq!(ended(0, b"TLCODE01code", ""), Ok(b"code".to_vec()));
        assert_eq!(ended(SIGXCPU, b"", ""), Err(CompileError::Cpu(Duration::from_secs(22))));
        let memory = Err(CompileError::Memory(MEMORY_BASE_BYTES + 2 * MEMORY_PER_MIB_BYTES));
        assert_eq!(ended(6, b"", "memory allocation of 7 bytes failed"), memory);
        assert_eq!(
            ended(i32::from(EXIT_REFUSED) << 8, b"", "bad magic"),
            Err(CompileError::Refused("bad magic".to_owned()))
        );
        assert_eq!(ended(11, b"", ""), Err(CompileError::Crashed("signal: 11 (SIGSEGV)".to_owned())));
        for (status, stdout) in [(0, &b"running 0 tests"[..]), (0, b""), (256, b"TLCODE01code")] {
            assert!(matches!(ended(status, stdout, "text"), Err(CompileError::Crashed(_))), "{status}");
        }
    }
}
