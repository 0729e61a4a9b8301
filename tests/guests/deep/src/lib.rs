//! Fails a few functions below the handler. The body says how.

use trunkline_plugin::{Emission, Event, Failure, handler, log};

/// Has made an emission when it traps; that emission must not be published.
#[handler]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let emission = Emission::bytes("made", "text/plain", event.data.clone());
    let text = String::from_utf8_lossy(&event.data);
    let way = text.trim_matches('"');
    log::info("going down");
    let depth = first_floor(way, 1);
    Ok(vec![emission; depth])
}

#[inline(never)]
fn first_floor(way: &str, depth: usize) -> usize {
    second_floor(way, depth + 1) + 1
}

#[inline(never)]
fn second_floor(way: &str, depth: usize) -> usize {
    cellar(way, depth + 1) + 1
}

#[inline(never)]
fn cellar(way: &str, depth: usize) -> usize {
    match way {
        "panic" => panic!("the cellar is flooded at depth {depth}"),
        "overflow" => number(way).checked_sub(100).expect("a number that is large enough"),
        "index" => [1, 2, 3][number(way)],
        #[cfg(target_arch = "wasm32")]
        "unreachable" => core::arch::wasm32::unreachable(),
        "stack" => endless_stairs(depth),
        "ladder" => endless_ladder(depth),
        _ => depth,
    }
}

/// Fills the stack in the plugin's memory, which holds variables with an address.
#[inline(never)]
#[expect(unconditional_recursion, reason = "this guest fails on purpose")]
fn endless_stairs(depth: usize) -> usize {
    let mut steps = [depth; 64];
    steps[depth % 64] = std::hint::black_box(endless_stairs(depth + 1));
    std::hint::black_box(steps).iter().sum()
}

/// Fills the engine's stack.
#[inline(never)]
#[expect(unconditional_recursion, reason = "this guest fails on purpose")]
fn endless_ladder(depth: usize) -> usize {
    std::hint::black_box(endless_ladder(depth + 1)) ^ depth
}

#[inline(never)]
fn number(way: &str) -> usize {
    std::hint::black_box(way.len())
}
