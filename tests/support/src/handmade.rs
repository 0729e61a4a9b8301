//! Hostile plugins that no compiler would make: WebAssembly text, wrapped as components of the plugin interface.
//!
//! The caller gives the text of `handle`; memory and allocator are the same for all. An event lies where the allocator
//! put it. An answer of zeroes means "nothing to emit", so the address 0 is a valid answer.

use std::fmt::Write;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Offsets of the answer of [`emissions`], as the canonical ABI lays it out.
const ANSWER: u32 = 16;
const EMISSIONS: u32 = 65_536;
const EMISSION_BYTES: u32 = 96;
const PAGE_BYTES: u64 = 65_536;

/// A plugin whose core module has these fields (tables, memories, functions) and this body of `handle`, which must
/// leave an address.
///
/// # Panics
/// When the text is invalid.
#[must_use]
pub fn plugin(fields: &str, handle: &str) -> Vec<u8> {
    component(
        "plugin",
        fields,
        &format!(r#"(func (export "trunkline:plugin/handler@0.1.0#handle") (param i32) (result i32) {handle})"#),
    )
}

/// A plugin that emits nothing, with this body of `describe`.
///
/// # Panics
/// When the text is invalid.
#[must_use]
pub fn described(describe: &str) -> Vec<u8> {
    let functions = format!(
        r#"(func (export "trunkline:plugin/handler@0.1.0#handle") (param i32) (result i32) i32.const 0)
        (func (export "trunkline:plugin/metadata@0.1.0#describe") (result i32) {describe})"#
    );
    component("described-plugin", "", &functions)
}

/// A plugin that answers with emissions that all point at the same bytes: `type_bytes` of type and `data_bytes` of data
/// each. Its memory has `memory_bytes`, and only the records are written.
///
/// # Panics
/// When the answer does not fit the memory.
#[must_use]
pub fn emissions(count: u32, type_bytes: u32, data_bytes: u32, memory_bytes: u64) -> Vec<u8> {
    let pages = memory_bytes / PAGE_BYTES;
    let handle = format!(
        "(local $left i32) (local $at i32)
        (drop (memory.grow (i32.const {pages})))
        (i32.store (i32.const {list}) (i32.const {EMISSIONS}))
        (i32.store (i32.const {length}) (i32.const {count}))
        (local.set $left (i32.const {count}))
        (local.set $at (i32.const {EMISSIONS}))
        (loop $next
            (i32.store (local.get $at) (i32.const 1024))
            (i32.store offset=4 (local.get $at) (i32.const {type_bytes}))
            (i32.store offset=8 (local.get $at) (i32.const 1024))
            (i32.store offset=12 (local.get $at) (i32.const {data_bytes}))
            (local.set $at (i32.add (local.get $at) (i32.const {EMISSION_BYTES})))
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br_if $next (local.get $left)))
        (i32.const {ANSWER})",
        list = ANSWER + 8,
        length = ANSWER + 12,
    );
    plugin("", &handle)
}

/// A function of many small blocks in a row, which a compiler with a quadratic step compiles very slowly.
#[must_use]
pub fn many_blocks(blocks: usize) -> Vec<u8> {
    let mut body = String::new();
    for _ in 0..blocks {
        body.push_str(
            "(block (br_if 0 (local.get 0)) (global.set $turns (i32.add (global.get $turns) (i32.const 1))))\n",
        );
    }
    plugin("(global $turns (mut i32) (i32.const 0))", &format!("{body} i32.const 0"))
}

/// Functions that are never called.
#[must_use]
pub fn many_functions(functions: usize) -> Vec<u8> {
    let mut fields = String::new();
    for number in 0..functions {
        // Writing into a string cannot fail.
        let _written = writeln!(fields, "(func (param i32) (result i32) (i32.add (local.get 0) (i32.const {number})))");
    }
    plugin(&fields, "i32.const 0")
}

/// The component with a custom section of this many bytes, which makes the file longer and nothing else.
#[must_use]
pub fn padded(mut component: Vec<u8>, bytes: usize) -> Vec<u8> {
    section(&mut component, 0, &[&[7][..], b"padding", &vec![0; bytes]].concat());
    component
}

/// The component with further instances of a core module with these fields.
///
/// # Panics
/// When the module's text is invalid.
#[must_use]
pub fn with_instances(mut component: Vec<u8>, instances: u8, fields: &str) -> Vec<u8> {
    let module = wat::parse_str(format!("(module {fields})")).expect("a module");
    // Core modules are numbered in their order.
    let number = core_modules(&component);
    section(&mut component, 1, &module);
    let mut all = vec![instances];
    for _ in 0..instances {
        all.extend([0, number, 0]);
    }
    section(&mut component, 2, &all);
    component
}

fn component(world: &str, fields: &str, functions: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (memory (export "memory") 2)
            (global $top (mut i32) (i32.const 4096))
            {fields}
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
                (global.set $top (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
            {functions})"#
    );
    let mut module = wat::parse_str(text).expect("a module");
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(xtask::root().join("wit/plugin-v0.1")).expect("the interface");
    let world = resolve.select_world(&[package], Some(world)).expect("its world");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("a custom section");
    let mut encoder = ComponentEncoder::default();
    let encoder = encoder.validate(true).module(&module).expect("a module of our interface");
    encoder.encode().expect("a component")
}

fn core_modules(component: &[u8]) -> u8 {
    let mut rest = &component[8..];
    let mut count = 0;
    while let Some((&id, after)) = rest.split_first() {
        let (mut length, mut bytes) = (0_usize, 0);
        for byte in after {
            length |= usize::from(byte & 0x7f) << (7 * bytes);
            bytes += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        count += u8::from(id == 1);
        rest = &after[bytes + length..];
    }
    count
}

fn section(out: &mut Vec<u8>, id: u8, content: &[u8]) {
    out.push(id);
    let mut length = content.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(content);
}
