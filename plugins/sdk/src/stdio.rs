//! `write` and `getenv` of the C library without WASI, for plugins that print or panic.
//!
//! Every panic can print. The standard library's panic handler therefore imports 19 functions of WASI, through two
//! functions of the C library: `write` and `getenv`. The linker prefers the definitions in this file, so that a
//! component has no such imports. Clocks and random numbers still come from the C library.
//!
//! Without this file a component has three core modules instead of one. A call in `benches/invoke.rs` in the
//! development profile then takes 17.8 µs instead of 12.9 µs without a task, and 29.0 µs instead of 14.7 µs with a task
//! (`docs/benchmarks.md`).

use std::ffi::{c_char, c_int};

use crate::bindings::trunkline::plugin::stdio::{Output, print};

/// `EBADF` of wasi-libc.
const BAD_DESCRIPTOR: c_int = 8;
/// Largest number of bytes of one host call.
const CHUNK_BYTES: usize = 64;

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
}

/// POSIX `write`. A plugin has stdout and stderr, and no files.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(descriptor: c_int, from: *const u8, length: usize) -> isize {
    let to = match descriptor {
        1 => Output::Stdout,
        2 => Output::Stderr,
        _ => {
            // SAFETY: the variable of the C library, and `wasm32-wasip2` has one thread.
            unsafe { *__errno_location() = BAD_DESCRIPTOR };
            return -1;
        }
    };
    if length == 0 {
        return 0;
    }
    // SAFETY: POSIX asks callers for `length` readable bytes.
    let bytes = unsafe { std::slice::from_raw_parts(from, length) };
    for chunk in bytes.chunks(CHUNK_BYTES) {
        let mut numbers = [0; CHUNK_BYTES / 8];
        for (at, byte) in chunk.iter().enumerate() {
            numbers[at / 8] |= u64::from(*byte) << (at % 8 * 8);
        }
        print(to, u8::try_from(chunk.len()).unwrap_or(u8::MAX), numbers.into());
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}

/// POSIX `getenv`. The environment of a plugin is empty.
#[unsafe(no_mangle)]
extern "C" fn getenv(_name: *const c_char) -> *mut c_char {
    std::ptr::null_mut()
}
