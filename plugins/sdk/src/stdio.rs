//! What the standard library wants of the system when a plugin prints or panics, without WASI.
//!
//! Every panic can print, so the library's panic handler alone brought all 19 functions of WASI that `callback-task`
//! imported, which calls none. The handler asks the C library for two things, `write` and
//! `getenv`. Both are defined here, the linker takes these before it looks into the C library, and the rest is gone with
//! them. What else of the C library a plugin uses (clocks, random numbers) comes as before.

use std::ffi::{c_char, c_int};

use crate::bindings::trunkline::plugin::stdio::{Output, print};

/// `EBADF` of wasi-libc.
const BAD_DESCRIPTOR: c_int = 8;
/// What one call of the host takes.
const CHUNK_BYTES: usize = 64;

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
}

/// POSIX `write`. A plugin has no files: there is stdout, and stderr.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(descriptor: c_int, from: *const u8, length: usize) -> isize {
    let to = match descriptor {
        1 => Output::Stdout,
        2 => Output::Stderr,
        _ => {
            // SAFETY: the C library's own variable, and there is one thread.
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

/// POSIX `getenv`: the environment of a plugin is empty.
#[unsafe(no_mangle)]
extern "C" fn getenv(_name: *const c_char) -> *mut c_char {
    std::ptr::null_mut()
}
