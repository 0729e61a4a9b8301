//! Memory for one event. An instance handles one, so what it allocates is mostly never needed again: the first 64 KiB are
//! handed out one after the other, and only the newest piece is taken back or grown where it lies. What does not fit there
//! goes to the C library's allocator. A twentieth off a small call.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};

const ARENA_BYTES: usize = 64 << 10;
const ALIGN_MAX: usize = 16;

/// On pages of its own, and what every call writes at the beginning: each page that is written costs a copy afterwards.
#[repr(C, align(4096))]
struct Arena {
    /// Bytes that are handed out.
    used: Cell<usize>,
    bytes: Bytes,
}

#[repr(align(16))]
struct Bytes(UnsafeCell<[u8; ARENA_BYTES]>);

// SAFETY: `wasm32-wasip2` has one thread.
unsafe impl Sync for Arena {}

#[global_allocator]
static ARENA: Arena = Arena { used: Cell::new(0), bytes: Bytes(UnsafeCell::new([0; ARENA_BYTES])) };

impl Arena {
    /// Where a piece begins, counted from the arena's beginning; none for one of the C library.
    #[inline]
    fn place(&self, piece: *mut u8) -> Option<usize> {
        let place = piece.addr().wrapping_sub(self.bytes.0.get().addr());
        (place < ARENA_BYTES).then_some(place)
    }
}

// SAFETY: pieces of the arena lie behind each other: `used` only comes back to the beginning of the newest one, when that
// one is freed or moved. Everything else is the C library's.
unsafe impl GlobalAlloc for Arena {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let place = self.used.get().next_multiple_of(layout.align());
        if layout.align() <= ALIGN_MAX && place + layout.size() <= ARENA_BYTES {
            self.used.set(place + layout.size());
            // SAFETY: `place` is in the arena, or at its end.
            return unsafe { self.bytes.0.get().cast::<u8>().add(place) };
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match self.place(piece) {
            Some(place) if place + layout.size() == self.used.get() => self.used.set(place),
            Some(_) => {}
            // SAFETY: the caller's promise, and it is not ours.
            None => unsafe { System.dealloc(piece, layout) },
        }
    }

    #[inline]
    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(place) = self.place(piece) else {
            // SAFETY: the caller's promise, and it is not ours.
            return unsafe { System.realloc(piece, layout, size) };
        };
        if place + layout.size() == self.used.get() && place + size <= ARENA_BYTES {
            self.used.set(place + size);
            return piece;
        }
        if size <= layout.size() {
            return piece;
        }
        // SAFETY: the caller promises a size that fits a layout with this alignment.
        let other = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !other.is_null() {
            // SAFETY: both are that long, and the new piece overlaps none that is still handed out.
            unsafe {
                std::ptr::copy_nonoverlapping(piece, other, layout.size());
                self.dealloc(piece, layout);
            }
        }
        other
    }
}
