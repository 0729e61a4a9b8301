//! The allocator of a plugin. An instance handles one event, so most memory is never needed again. The first 64 KiB are
//! handed out one piece after the other. Only the newest piece can be freed, or grow in its place. Larger needs go to the
//! allocator of the C library.
//!
//! The allocator of the C library writes to more pages, and each written page costs a copy after the call. With that
//! allocator alone, a call of `cargo xtask bench invoke` takes 6.2 µs instead of 5.5 µs with a task, and 5.0 µs instead of
//! 4.6 µs without one (`docs/benchmarks.md`).

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};

const ARENA_BYTES: usize = 64 << 10;
const ALIGN_MAX: usize = 16;

/// The arena has pages of its own, and the field that every call writes is at the beginning of the first page.
#[repr(C, align(4096))]
struct Arena {
    /// Bytes that are handed out.
    used: Cell<usize>,
    bytes: ArenaBytes,
}

#[repr(align(16))]
struct ArenaBytes(UnsafeCell<[u8; ARENA_BYTES]>);

// SAFETY: `wasm32-wasip2` has one thread.
unsafe impl Sync for Arena {}

#[global_allocator]
static ARENA: Arena = Arena { used: Cell::new(0), bytes: ArenaBytes(UnsafeCell::new([0; ARENA_BYTES])) };

impl Arena {
    /// The offset of a piece in the arena; none for a piece of the C library.
    #[inline]
    fn offset(&self, piece: *mut u8) -> Option<usize> {
        let offset = piece.addr().wrapping_sub(self.bytes.0.get().addr());
        (offset < ARENA_BYTES).then_some(offset)
    }
}

// SAFETY: the pieces of the arena lie one behind the other. `used` moves back only to the beginning of the newest piece,
// when this piece is freed or moved. All other pieces belong to the C library.
unsafe impl GlobalAlloc for Arena {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let offset = self.used.get().next_multiple_of(layout.align());
        if layout.align() <= ALIGN_MAX && offset + layout.size() <= ARENA_BYTES {
            self.used.set(offset + layout.size());
            // SAFETY: `offset` is in the arena, or at its end.
            return unsafe { self.bytes.0.get().cast::<u8>().add(offset) };
        }
        // SAFETY: the promise of the caller.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match self.offset(piece) {
            Some(offset) if offset + layout.size() == self.used.get() => self.used.set(offset),
            Some(_) => {}
            // SAFETY: the promise of the caller. The piece belongs to the C library.
            None => unsafe { System.dealloc(piece, layout) },
        }
    }

    #[inline]
    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(offset) = self.offset(piece) else {
            // SAFETY: the promise of the caller. The piece belongs to the C library.
            return unsafe { System.realloc(piece, layout, size) };
        };
        if offset + layout.size() == self.used.get() && offset + size <= ARENA_BYTES {
            self.used.set(offset + size);
            return piece;
        }
        if size <= layout.size() {
            return piece;
        }
        // SAFETY: the caller promises a size that fits a layout with this alignment.
        let larger = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !larger.is_null() {
            // SAFETY: both pieces have that length, and the new piece overlaps no piece that is in use.
            unsafe {
                std::ptr::copy_nonoverlapping(piece, larger, layout.size());
                self.dealloc(piece, layout);
            }
        }
        larger
    }
}
