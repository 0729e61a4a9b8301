//! The components of the benchmark: `echo`, and copies of `echo` that differ in one custom section, so that each copy is a plugin of
//! its own for the daemon.

use std::path::Path;

use anyhow::Result;
use xtask::wasm::{self, BuildReport};

use super::place::kept;

/// The copies in the folder of the plugins: `echo-1` to `echo-100`.
pub(crate) const COPIES: usize = 100;
/// The id of a custom section of WebAssembly.
const CUSTOM_SECTION: u8 = 0;
const SECTION_NAME: &str = "copy";

/// Builds `echo` and its copies, and gives their folder.
pub(crate) fn build() -> Result<std::path::PathBuf> {
    let folder = kept("plugins")?;
    wasm::build(&["echo"], &folder, BuildReport::Progress)?;
    let echo = std::fs::read(folder.join("echo.wasm"))?;
    for number in 1..=COPIES {
        write_copy(&folder.join(format!("echo-{number}.wasm")), &echo, &number.to_string(), 0)?;
    }
    Ok(folder)
}

/// Writes a component with a custom section: a text that makes the component a different one, and some zeros for its size.
pub(crate) fn write_copy(to: &Path, component: &[u8], text: &str, zeros: usize) -> Result<()> {
    let mut content = vec![u8::try_from(SECTION_NAME.len())?];
    content.extend(SECTION_NAME.as_bytes());
    content.extend(text.as_bytes());
    content.resize(content.len() + zeros, 0);
    let mut copy = component.to_vec();
    copy.push(CUSTOM_SECTION);
    copy.extend(leb128(content.len()));
    copy.extend(content);
    if std::fs::read(to).is_ok_and(|old| old == copy) {
        return Ok(());
    }
    // A daemon that watches the folder never reads a part of a file.
    let draft = to.with_extension("tmp");
    std::fs::write(&draft, copy)?;
    Ok(std::fs::rename(draft, to)?)
}

/// A number in WebAssembly's encoding.
fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7F).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_a_valid_component_that_differs() {
        let module = b"\0asm\x0d\0\x01\0";
        let folder = super::super::place::TemporaryFolder::new().expect("a folder");
        let file = folder.path().join("copy.wasm");
        for (text, zeros) in [("1", 0), ("2", 200_000)] {
            write_copy(&file, module, text, zeros).expect("written");
            let copy = std::fs::read(&file).expect("a file");
            let payloads = wasmparser::Parser::new(0).parse_all(&copy);
            let is_copy = |payload: &wasmparser::Payload<'_>| matches!(payload, wasmparser::Payload::CustomSection(section) if section.name() == SECTION_NAME);
            assert_eq!(payloads.map(|payload| payload.expect("valid")).filter(is_copy).count(), 1);
            assert!(copy.len() > module.len() + zeros);
        }
        assert_eq!(leb128(300), [0xAC, 0x02]);
    }
}
