//! The child's side of compiling: the child limits itself, reads a component from stdin and writes code to stdout.

use std::io::{Read, Write};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, nice, setrlimit};

use super::mode::CompileMode;
use super::protocol::{CODE_HEADER, EXIT_REFUSED};
use crate::engine::settings;

/// Largest component that a child takes, whatever length the parent sends.
const COMPONENT_MAX_BYTES: u64 = 1 << 30;
const EXIT_FAILED: u8 = 1;

/// Compiles the component on stdin and returns the process's exit code. The limits `cpu` and `memory_max_bytes` hold for
/// the process from then on, so the process has to end afterwards.
#[must_use]
pub fn compile_for_parent(mode: CompileMode, cpu: Duration, memory_max_bytes: u64) -> u8 {
    let received = limit(mode, cpu, memory_max_bytes).and_then(|()| receive());
    let code = received.map(|component| compile(mode, &component));
    let written = match code {
        Ok(Ok(code)) => write_code(&code),
        Ok(Err(refused)) => {
            eprintln!("{refused}");
            return EXIT_REFUSED;
        }
        Err(error) => Err(error),
    };
    match written {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            EXIT_FAILED
        }
    }
}

fn limit(mode: CompileMode, cpu: Duration, memory_max_bytes: u64) -> std::io::Result<()> {
    let set = |resource, bound| setrlimit(resource, Rlimit { current: Some(bound), maximum: Some(bound) });
    // `Data` counts memory that is written to. `As` counts reserved addresses too, such as an allocator's arenas.
    set(Resource::Data, memory_max_bytes)?;
    set(Resource::As, memory_max_bytes.saturating_mul(4))?;
    // SIGXCPU names the reason. SIGKILL follows a second later and cannot be caught.
    let seconds = cpu.as_secs();
    setrlimit(Resource::Cpu, Rlimit { current: Some(seconds), maximum: Some(seconds + 1) })?;
    set(Resource::Core, 0)?;
    set(Resource::Fsize, 0)?;
    nice(mode.niceness())?;
    Ok(())
}

/// Reads the component. A thread then waits for the end of the pipe, which the parent keeps open as long as it lives.
fn receive() -> std::io::Result<Vec<u8>> {
    let mut stdin = std::io::stdin().lock();
    let mut length = [0; 8];
    stdin.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut component = Vec::new();
    stdin.by_ref().take(length.min(COMPONENT_MAX_BYTES)).read_to_end(&mut component)?;
    if component.len() as u64 != length {
        return Err(std::io::Error::other("the component is incomplete"));
    }
    drop(stdin);
    std::thread::Builder::new().name("trunkline-parent".to_owned()).spawn(|| {
        let _end = std::io::stdin().lock().read(&mut [0]);
        // The parent has ended, so the exit code does not matter.
        std::process::abort();
    })?;
    Ok(component)
}

fn compile(mode: CompileMode, component: &[u8]) -> Result<Vec<u8>, String> {
    let engine =
        wasmtime::Engine::new(&settings::compiler_config(mode.code())).map_err(|error| format!("{error:#}"))?;
    engine.precompile_component(component).map_err(|error| format!("{error:#}"))
}

fn write_code(code: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(CODE_HEADER)?;
    stdout.write_all(code)?;
    stdout.flush()
}
