//! Removes the debug information of a component. Code and names of functions stay byte for byte, so that the debug file
//! still matches the component.

use anyhow::{Context, Result};
use wasm_encoder::{ComponentSectionId, RawSection, Section};
use wasmparser::{Encoding, Parser, Payload};

/// A module or component whose sections are being copied.
struct ModuleCopy {
    encoding: Encoding,
    bytes: Vec<u8>,
}

/// The same module or component without the custom sections `.debug_*`, at any depth.
///
/// # Errors
/// When the bytes are not valid WebAssembly.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other payload is a section that is copied, or a part of one")]
pub fn strip(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut open: Vec<ModuleCopy> = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.context("the file is not valid WebAssembly")? {
            Payload::Version { encoding, range, .. } => {
                open.push(ModuleCopy { encoding, bytes: content(wasm, range)?.to_vec() });
            }
            // The payloads of a nested module or component follow; its end writes the section.
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {}
            Payload::CustomSection(section) if section.name().starts_with(".debug_") => {}
            Payload::End(_) => {
                let ModuleCopy { encoding, bytes } =
                    open.pop().context("the WebAssembly has an end without a beginning")?;
                let Some(outer) = open.last_mut() else { return Ok(bytes) };
                let id = match encoding {
                    Encoding::Module => ComponentSectionId::CoreModule,
                    Encoding::Component => ComponentSectionId::Component,
                };
                RawSection { id: id.into(), data: &bytes }.append_to(&mut outer.bytes);
            }
            section => {
                if let Some((id, range)) = section.as_section() {
                    let outer = open.last_mut().context("the WebAssembly has a section before the header")?;
                    RawSection { id, data: content(wasm, range)? }.append_to(&mut outer.bytes);
                }
            }
        }
    }
    anyhow::bail!("the WebAssembly has no end")
}

fn content(wasm: &[u8], range: std::ops::Range<u64>) -> Result<&[u8]> {
    let range = usize::try_from(range.start)?..usize::try_from(range.end)?;
    wasm.get(range).context("a section of the WebAssembly is cut short")
}

#[cfg(test)]
mod tests {
    use wasm_encoder::SectionId;

    use super::*;

    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    fn custom(name: &str, bytes: usize) -> Vec<u8> {
        [&[name.len() as u8], name.as_bytes(), &vec![7; bytes][..]].concat()
    }

    fn binary(header: &[u8], sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = header.to_vec();
        for (id, data) in sections {
            RawSection { id: *id, data }.append_to(&mut bytes);
        }
        bytes
    }

    fn nested_component(has_debug: bool) -> Vec<u8> {
        // One function type, one function of that type, and its body, which is empty.
        let mut sections = vec![
            (SectionId::Type.into(), vec![1, 0x60, 0, 0]),
            (SectionId::Function.into(), vec![1, 0]),
            (SectionId::Code.into(), vec![1, 2, 0, 0x0b]),
            (SectionId::Custom.into(), custom("producers", 300)),
        ];
        if has_debug {
            sections.push((SectionId::Custom.into(), custom(".debug_line", 10_000)));
        }
        let module = binary(MODULE, &sections);
        let component = binary(COMPONENT, &[(ComponentSectionId::CoreModule.into(), module)]);
        binary(COMPONENT, &[(ComponentSectionId::Component.into(), component)])
    }

    #[test]
    fn only_debug_sections_are_removed_at_any_depth() {
        let (with_debug, without) = (nested_component(true), nested_component(false));
        assert_eq!(strip(&with_debug).expect("valid"), without);
        assert_eq!(strip(&without).expect("valid"), without);
        assert!(strip(b"\0asm").is_err() && strip(&with_debug[..200]).is_err());
    }
}
