//! The stack of a trap: names of functions, with file and line where debug information exists.

use std::fmt::Write;

use wasmtime::WasmBacktrace;

/// Frames that a dead letter shows, innermost first.
const FRAMES_MAX: usize = 16;
/// Bytes of a function's name. Names of generic functions are long.
const NAME_MAX_BYTES: usize = 160;
/// Parts of a path that are shown, from its end.
const PATH_PARTS_MAX: usize = 4;

/// Prefixes of functions through which Rust's library panics. They are left out, so that the caller comes first.
const RUNTIME: [&str; 14] = [
    "std::",
    "core::",
    "alloc::",
    "<std::",
    "<core::",
    "<alloc::",
    "__rust",
    "rust_panic",
    "rust_begin_unwind",
    "panic_abort",
    "_panic_abort",
    "__imported_",
    "abort",
    "_abort",
];

/// A guest's function on the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Name in the name section.
    pub(crate) function: String,
    /// Offset of the instruction in the component, in bytes.
    pub(crate) offset: Option<usize>,
}

/// Place of a frame in the source. A frame with inlined functions has several places, innermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FramePlace {
    pub(crate) function: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
}

/// The guest's stack when it trapped, innermost first.
pub(crate) fn frames(error: &wasmtime::Error) -> Vec<Frame> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let frame = |frame: &wasmtime::FrameInfo| Frame {
        function: frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), str::to_owned),
        offset: frame.module_offset(),
    };
    trace.frames().iter().map(frame).collect()
}

/// One line for each function. `places` gives the places of a frame from debug information; it may give none.
pub(crate) fn render(frames: &[Frame], mut places: impl FnMut(&Frame) -> Vec<FramePlace>) -> String {
    let mut lines: Vec<(String, bool)> = Vec::new();
    for frame in frames {
        let known = places(frame);
        // The last place is the function itself, whose full name the frame has. The other places were inlined.
        let (own, inlined) = match known.split_last() {
            Some((own, inlined)) => (own.clone(), inlined),
            None => (FramePlace { function: None, file: None, line: None }, &[][..]),
        };
        let own = FramePlace { function: Some(demangled(&frame.function)), ..own };
        let inlined = inlined.iter().map(|place| FramePlace {
            function: place.function.as_deref().map(|name| without_types(&demangled(name)).to_owned()),
            ..place.clone()
        });
        lines.extend(inlined.chain([own]).map(|place| (line(&place), is_runtime(&place))));
    }
    // A stack that is only in the library, such as its stack overflow, is shown whole.
    if lines.iter().any(|(_, is_runtime)| !is_runtime) {
        lines.retain(|(_, is_runtime)| !is_runtime);
    }
    let mut text = String::new();
    let mut rest = lines.iter().map(|(line, _)| line).peekable();
    let mut shown = 0;
    while let Some(line) = rest.next() {
        let mut times = 1;
        while rest.next_if_eq(&line).is_some() {
            times += 1;
        }
        if shown == FRAMES_MAX {
            text.push_str("\n  ...");
            break;
        }
        shown += 1;
        let repeated = if times > 1 { format!(", {times} times") } else { String::new() };
        // Writing into a string cannot fail.
        let _written = write!(text, "\n  at {line}{repeated}");
    }
    text
}

fn line(place: &FramePlace) -> String {
    let name = place.function.as_deref().unwrap_or("an inlined function");
    let name = &name[..name.floor_char_boundary(NAME_MAX_BYTES)];
    match (&place.file, place.line) {
        (Some(file), Some(line)) => format!("{name} ({}:{line})", short(file)),
        (Some(file), None) => format!("{name} ({})", short(file)),
        (None, _) => name.to_owned(),
    }
}

fn is_runtime(place: &FramePlace) -> bool {
    let name = place.function.as_deref().unwrap_or_default();
    // The folder in which the distributed library was built.
    let in_library = place.file.as_deref().is_some_and(|file| file.starts_with("/rustc/"));
    in_library || RUNTIME.iter().any(|prefix| name.starts_with(prefix))
}

/// A name without the types in brackets at its end, which debug information spells out for generic functions.
fn without_types(name: &str) -> &str {
    match name.find('<') {
        Some(at) if at > 0 => &name[..at],
        Some(_) | None => name,
    }
}

/// A name without Rust's hash. Names of other languages stay as they are.
fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// The last parts of a path. The first parts belong to the machine on which the plugin was built.
fn short(path: &str) -> String {
    let parts: Vec<&str> = path.split(['/', '\\']).collect();
    let last = parts[parts.len().saturating_sub(PATH_PARTS_MAX)..].join("/");
    last[..last.floor_char_boundary(NAME_MAX_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str) -> Frame {
        Frame { function: function.to_owned(), offset: None }
    }

    #[test]
    fn the_library_is_left_out_and_repetitions_are_counted() {
        let frames = [
            frame("_ZN3std9panicking11begin_panic17h0123456789abcdefE"),
            frame("_ZN4deep5inner17h0123456789abcdefE"),
            frame("_ZN4deep5outer17h0123456789abcdefE"),
            frame("_ZN4deep5outer17h0123456789abcdefE"),
            frame("trunkline:plugin/handler@0.1.0#handle"),
        ];
        let place = |function: &str, file: &str, line| FramePlace {
            function: Some(function.into()),
            file: Some(file.into()),
            line: Some(line),
        };
        let known = |frame: &Frame| match frame.function.contains("inner") {
            true => vec![
                place("unwrap<usize>", "/rustc/0a1b/library/core/src/option.rs", 900),
                place("inlined<deep::Order>", "/home/me/work/guests/deep/src/lib.rs", 7),
                place("inner", "/home/me/work/guests/deep/src/lib.rs", 9),
            ],
            false => Vec::new(),
        };
        assert_eq!(
            render(&frames, known),
            "\n  at inlined (guests/deep/src/lib.rs:7)\n  at deep::inner (guests/deep/src/lib.rs:9)\n  \
             at deep::outer, 2 times\n  at trunkline:plugin/handler@0.1.0#handle"
        );
        assert_eq!(render(&frames[..1], |_| Vec::new()), "\n  at std::panicking::begin_panic");
        assert_eq!(render(&[], |_| Vec::new()), "");
    }

    #[test]
    fn a_long_stack_has_an_end() {
        let frames: Vec<Frame> = (0..100).map(|n| frame(&format!("f{n}{}", "x".repeat(500)))).collect();
        let text = render(&frames, |_| Vec::new());
        assert_eq!(text.lines().count(), 1 + FRAMES_MAX + 1);
        assert!(text.ends_with("\n  ...") && text.len() < FRAMES_MAX * (NAME_MAX_BYTES + 10), "{text}");
    }
}
