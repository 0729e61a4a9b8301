//! `trunkline wrap`: a component out of a core module. It does the work of `wasm-tools component embed` and `new` for the
//! plugin interface, so that a plugin in C needs a C compiler only.

use wasi_preview1_component_adapter_provider as preview1;
use wasmparser::{ExternalKind, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{Resolve, SourceMap};

use super::template;

/// The export of a module with a descriptor.
const DESCRIBE: &str = "trunkline:plugin/metadata@0.1.0#describe";
/// The name with which wit-bindgen begins the section for the interface of a module.
const TYPE_SECTION: &str = "component-type";

/// The reason why a module cannot become a component.
#[derive(Debug, thiserror::Error)]
pub enum WrapError {
    /// The file is not a WebAssembly module.
    #[error("the file is not a WebAssembly module: {0}")]
    Module(String),
    /// The file is a component already.
    #[error("the file is already a component and needs no wrapping")]
    Component,
    /// The module misses an export of a plugin, or has an unknown import.
    #[error("the module does not fit the interface: {0}")]
    Interface(String),
}

/// Wraps a core module as a plugin. Its imports of WASI preview 1 (output, clocks, random numbers) are adapted.
///
/// # Errors
/// When the file is not a module of a plugin.
pub fn wrap(module: &[u8]) -> Result<Vec<u8>, WrapError> {
    let shape = ModuleShape::of(module)?;
    let misfit = |error: anyhow::Error| WrapError::Interface(format!("{error:#}"));
    let mut module = module.to_vec();
    if !shape.is_typed {
        let (resolve, package) = interface().map_err(misfit)?;
        let world = if shape.describes { "described-plugin" } else { "plugin" };
        let world = resolve.select_world(&[package], Some(world)).map_err(misfit)?;
        wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).map_err(misfit)?;
    }
    let adapter = preview1::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER;
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(&module).map_err(misfit)?;
    encoder.adapter(preview1::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter).map_err(misfit)?;
    encoder.encode().map_err(misfit)
}

fn interface() -> anyhow::Result<(Resolve, wit_parser::PackageId)> {
    let mut resolve = Resolve::default();
    let mut last = None;
    for files in template::wit_packages() {
        let mut sources = SourceMap::default();
        for (name, text) in files {
            sources.push_str(name, *text);
        }
        let group = sources.parse().map_err(|(_, error)| anyhow::anyhow!("{error:?}"))?;
        last = Some(resolve.push_group(group).map_err(|error| anyhow::anyhow!("{error:?}"))?);
    }
    Ok((resolve, last.ok_or_else(|| anyhow::anyhow!("the interface of plugins is missing"))?))
}

/// The properties of a module that decide how it is wrapped.
#[derive(Default)]
struct ModuleShape {
    /// The module has a section with its interface.
    is_typed: bool,
    /// The module exports a descriptor.
    describes: bool,
}

impl ModuleShape {
    fn of(module: &[u8]) -> Result<Self, WrapError> {
        let bad = |error: wasmparser::BinaryReaderError| WrapError::Module(error.to_string());
        if Parser::is_component(module) {
            return Err(WrapError::Component);
        }
        let mut shape = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            // Two kinds of section matter here. The encoder reads the others and validates all.
            if let Payload::CustomSection(section) = payload.as_ref().map_err(|error| bad(error.clone()))?
                && section.name().starts_with(TYPE_SECTION)
            {
                shape.is_typed = true;
            } else if let Ok(Payload::ExportSection(exports)) = payload {
                for export in exports {
                    let export = export.map_err(bad)?;
                    shape.describes |= export.kind == ExternalKind::Func && export.name == DESCRIBE;
                }
            }
        }
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_refused() {
        assert!(matches!(wrap(b"text"), Err(WrapError::Module(_))));
        assert!(matches!(wrap(b"\0asm\x0d\0\x01\0"), Err(WrapError::Component)));
        let empty = wrap(b"\0asm\x01\0\0\0");
        assert!(matches!(&empty, Err(WrapError::Interface(text)) if text.contains("handle")), "{empty:?}");
    }
}
