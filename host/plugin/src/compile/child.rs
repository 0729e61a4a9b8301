//! The child's side: limits first, then the component from stdin, the code to stdout.

use std::io::{Read, Write};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, nice, setrlimit};

use super::{ANSWER, REFUSED};
use crate::engine;

/// Threads of the compiler. Few, because each has an arena and a stack that count as memory.
pub(super) const THREADS: &str = "2";
/// Below everything else on the machine; a compiler is never urgent.
const NICENESS: i32 = 10;
/// The largest component that is taken, whatever the parent says.
const COMPONENT_MAX_BYTES: u64 = 1 << 30;
const FAILED: u8 = 1;

/// The whole life of a compiler: gives the process's exit code. `cpu` and `memory_max_bytes` hold for this process from
/// here on, so it is of no use for anything else.
#[must_use]
pub fn compile_for_parent(cpu: Duration, memory_max_bytes: u64) -> u8 {
    let code = limit(cpu, memory_max_bytes).and_then(|()| receive()).map(|component| compile(&component));
    let answered = match code {
        Ok(Ok(code)) => answer(&code),
        Ok(Err(refused)) => {
            eprintln!("{refused}");
            return REFUSED;
        }
        Err(error) => Err(error),
    };
    match answered {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            FAILED
        }
    }
}

fn limit(cpu: Duration, memory_max_bytes: u64) -> std::io::Result<()> {
    let set = |resource, bound| setrlimit(resource, Rlimit { current: Some(bound), maximum: Some(bound) });
    // What is written to counts, and not what is only reserved, as the arenas of an allocator are.
    set(Resource::Data, memory_max_bytes)?;
    set(Resource::As, memory_max_bytes.saturating_mul(4))?;
    // A second between the signal that says why, and the one that cannot be held up.
    let seconds = cpu.as_secs();
    setrlimit(Resource::Cpu, Rlimit { current: Some(seconds), maximum: Some(seconds + 1) })?;
    set(Resource::Core, 0)?;
    set(Resource::Fsize, 0)?;
    nice(NICENESS)?;
    Ok(())
}

/// The component. Afterwards a thread waits for the end of the pipe: the parent keeps it open as long as it lives.
fn receive() -> std::io::Result<Vec<u8>> {
    let mut stdin = std::io::stdin().lock();
    let mut length = [0; 8];
    stdin.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut component = Vec::new();
    stdin.by_ref().take(length.min(COMPONENT_MAX_BYTES)).read_to_end(&mut component)?;
    if component.len() as u64 != length {
        return Err(std::io::Error::other("the component was cut short"));
    }
    drop(stdin);
    std::thread::Builder::new().name("trunkline-parent".to_owned()).spawn(|| {
        let _end = std::io::stdin().lock().read(&mut [0]);
        // Nobody is there to see an exit code.
        std::process::abort();
    })?;
    Ok(component)
}

fn compile(component: &[u8]) -> Result<Vec<u8>, String> {
    let engine = wasmtime::Engine::new(&engine::config_of_compiler()).map_err(|error| format!("{error:#}"))?;
    engine.precompile_component(component).map_err(|error| format!("{error:#}"))
}

fn answer(code: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(ANSWER)?;
    stdout.write_all(code)?;
    stdout.flush()
}
