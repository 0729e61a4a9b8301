//! Takes the debug information out of a component, and nothing else: code and names of functions stay byte for byte, so
//! that the debug file still fits.

use anyhow::{Context, Result, ensure};

const PREAMBLE_BYTES: usize = 8;
/// Sections of both forms.
const CUSTOM: u8 = 0;
/// Sections of a component that hold a whole binary.
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;

/// The same module or component without the custom sections `.debug_*`, at any depth.
///
/// # Errors
/// When the bytes are no WebAssembly.
pub fn strip(wasm: &[u8]) -> Result<Vec<u8>> {
    let (preamble, mut rest) = wasm.split_at_checked(PREAMBLE_BYTES).context("too short for WebAssembly")?;
    ensure!(preamble.starts_with(b"\0asm"), "not WebAssembly");
    let is_component = preamble[6] == 1;
    let mut out = preamble.to_vec();
    while let Some((&id, after)) = rest.split_first() {
        let (length, after) = number(after)?;
        let (content, after) = after.split_at_checked(length).context("a section is cut short")?;
        rest = after;
        if id == CUSTOM && is_debug(content)? {
            continue;
        }
        let nested = is_component && (id == CORE_MODULE || id == COMPONENT);
        let content = if nested { strip(content)? } else { content.to_vec() };
        out.push(id);
        write_number(&mut out, content.len());
        out.extend(content);
    }
    Ok(out)
}

fn is_debug(custom: &[u8]) -> Result<bool> {
    let (length, after) = number(custom)?;
    let name = after.get(..length).context("the name of a section is cut short")?;
    Ok(name.starts_with(b".debug_"))
}

/// An unsigned LEB128, and what follows it.
fn number(bytes: &[u8]) -> Result<(usize, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((value, &bytes[at + 1..]));
        }
    }
    anyhow::bail!("a number is cut short")
}

fn write_number(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![id];
        write_number(&mut out, content.len());
        out.extend(content);
        out
    }

    fn custom(name: &str, bytes: usize) -> Vec<u8> {
        section(CUSTOM, &[&[name.len() as u8], name.as_bytes(), &vec![7; bytes][..]].concat())
    }

    #[test]
    fn only_debug_sections_go_at_any_depth() {
        let module = |debug: bool| {
            let mut module = b"\0asm\x01\0\0\0".to_vec();
            module.extend(section(10, &[0; 300]));
            module.extend(custom("name", 5));
            if debug {
                module.extend(custom(".debug_line", 10_000));
            }
            module
        };
        let component = |debug: bool| [&b"\0asm\x0d\0\x01\0"[..], &section(CORE_MODULE, &module(debug))].concat();
        let outer = |debug: bool| [&b"\0asm\x0d\0\x01\0"[..], &section(COMPONENT, &component(debug))].concat();
        assert_eq!(strip(&outer(true)).expect("good"), outer(false));
        assert_eq!(strip(&outer(false)).expect("good"), outer(false));
        assert!(strip(b"\0asm").is_err() && strip(&outer(true)[..200]).is_err());
    }
}
