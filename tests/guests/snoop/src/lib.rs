//! Searches statics and fresh memory for data of other events, and leaves its own secret there.

use std::cell::RefCell;
use std::sync::Mutex;

use trunkline_plugin::{Emission, Event, Failure, handler};

static SEEN: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

thread_local! {
    static ALSO_SEEN: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Far more than a call needs.
const ROOM_BYTES: usize = 2 << 20;

/// Emits the number of bytes of other events.
#[handler]
fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
    let mut found = SEEN.lock().map_or(0, |seen| seen.iter().map(Vec::len).sum::<usize>());
    found += ALSO_SEEN.with_borrow(|seen| seen.iter().map(Vec::len).sum::<usize>());
    // Fresh memory of a sandbox is zero, so data of another event would show.
    let Some(room) = fresh_room() else { return Err(Failure::reject("no room")) };
    found += room.iter().filter(|byte| **byte != 0).count();
    let secret = format!("{} of {:?}", String::from_utf8_lossy(&event.data), event.tenant);
    for (at, byte) in room.iter_mut().enumerate() {
        *byte = secret.as_bytes()[at % secret.len()];
    }
    if let Ok(mut seen) = SEEN.lock() {
        seen.push(secret.clone().into_bytes());
    }
    ALSO_SEEN.with_borrow_mut(|seen| seen.push(secret.into_bytes()));
    Ok(vec![Emission::bytes("snooped", "text/plain", found.to_string().into_bytes())])
}

/// Pages that no other code of this module uses.
#[cfg(target_arch = "wasm32")]
fn fresh_room() -> Option<&'static mut [u8]> {
    let before = core::arch::wasm32::memory_grow(0, ROOM_BYTES / 65_536);
    // SAFETY: the pages were grown just now, and only here.
    let room = || unsafe { std::slice::from_raw_parts_mut((before * 65_536) as *mut u8, ROOM_BYTES) };
    (before != usize::MAX).then(room)
}

#[cfg(not(target_arch = "wasm32"))]
fn fresh_room() -> Option<&'static mut [u8]> {
    Some(vec![0; ROOM_BYTES].leak())
}
