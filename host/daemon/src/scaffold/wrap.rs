//! A component out of a core module: what `wasm-tools component embed` and `new` do, for our interface alone, so that a
//! plugin in C needs a C compiler and nothing else.

use wasi_preview1_component_adapter_provider as preview1;
use wasmparser::{ExternalKind, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{Resolve, SourceMap};

use super::template;

/// The export of a module that describes itself.
const DESCRIBE: &str = "trunkline:plugin/metadata@0.1.0#describe";
/// What wit-bindgen names the section with the interface that a module was made for.
const TYPE_SECTION: &str = "component-type";

/// Why a module becomes no component.
#[derive(Debug, thiserror::Error)]
pub enum WrapError {
    /// The file is something else.
    #[error("not a WebAssembly module: {0}")]
    Module(String),
    /// It is a component already.
    #[error("a component already: nothing is to be done")]
    Component,
    /// It does not export what a plugin exports, or imports what there is not.
    #[error("the module does not fit the interface: {0}")]
    Interface(String),
}

/// Wraps a core module as a plugin. What it imports of WASI preview 1 (output, clocks, random numbers) is adapted.
///
/// # Errors
/// When it is no module, or not one of a plugin.
pub fn wrap(module: &[u8]) -> Result<Vec<u8>, WrapError> {
    let facts = Facts::of(module)?;
    let misfit = |error: anyhow::Error| WrapError::Interface(format!("{error:#}"));
    let mut module = module.to_vec();
    if !facts.is_typed {
        let (resolve, package) = interface().map_err(misfit)?;
        let world = if facts.describes { "described-plugin" } else { "plugin" };
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
    Ok((resolve, last.ok_or_else(|| anyhow::anyhow!("there is no interface"))?))
}

/// What a look at a module tells.
#[derive(Default)]
struct Facts {
    /// It carries an interface of its own.
    is_typed: bool,
    describes: bool,
}

impl Facts {
    fn of(module: &[u8]) -> Result<Self, WrapError> {
        let bad = |error: wasmparser::BinaryReaderError| WrapError::Module(error.to_string());
        if Parser::is_component(module) {
            return Err(WrapError::Component);
        }
        let mut facts = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            // Only two kinds of section matter here; the encoder reads the others, and validates all of them.
            if let Payload::CustomSection(section) = payload.as_ref().map_err(|error| bad(error.clone()))?
                && section.name().starts_with(TYPE_SECTION)
            {
                facts.is_typed = true;
            } else if let Ok(Payload::ExportSection(exports)) = payload {
                for export in exports {
                    let export = export.map_err(bad)?;
                    facts.describes |= export.kind == ExternalKind::Func && export.name == DESCRIBE;
                }
            }
        }
        Ok(facts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_module_of_a_plugin_is_told() {
        assert!(matches!(wrap(b"text"), Err(WrapError::Module(_))));
        assert!(matches!(wrap(b"\0asm\x0d\0\x01\0"), Err(WrapError::Component)));
        let empty = wrap(b"\0asm\x01\0\0\0");
        assert!(matches!(&empty, Err(WrapError::Interface(text)) if text.contains("handle")), "{empty:?}");
    }
}
