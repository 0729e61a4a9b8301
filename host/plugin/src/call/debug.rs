//! File and line of a trap, from DWARF: the component's own, or that of `NAME.debug.wasm` beside `NAME.wasm`.
//!
//! Files are read once, at the first trap. A debug file is used only when its code equals the component's byte for byte,
//! because the debug file of another build would name wrong lines.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gimli::{EndianSlice, LittleEndian};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use wasmparser::{Parser, Payload};

use super::backtrace::{self, Frame, FramePlace};
use crate::load::file::hex_digest;

/// Longest file that is read. Debug information is several times as long as the code.
const FILE_MAX_BYTES: u64 = 256 << 20;
/// Number of source places that are kept, so that a plugin that always traps needs one search.
const PLACES_MAX: usize = 4096;

type DwarfContext<'a> = addr2line::Context<EndianSlice<'a, LittleEndian>>;

/// Debug information of a plugin, read at the first trap.
pub(crate) struct DebugInfo {
    /// The component's file, with the digest of the loaded component. A file with another digest is not used.
    file: PathBuf,
    digest: Arc<str>,
    sources: OnceCell<Arc<SourceMap>>,
}

impl DebugInfo {
    pub(crate) fn new(file: &Path, digest: &str) -> Self {
        Self { file: file.to_owned(), digest: digest.into(), sources: OnceCell::new() }
    }

    /// The lines of a stack for a dead letter. The first call reads files, off the async threads.
    pub(crate) async fn render(&self, frames: Vec<Frame>) -> String {
        let sources = self.sources.get_or_init(|| async {
            let (file, digest) = (self.file.clone(), self.digest.clone());
            let work = tokio::task::spawn_blocking(move || SourceMap::read(&file, &digest));
            Arc::new(work.await.unwrap_or_default())
        });
        let sources = sources.await.clone();
        if sources.has_places_of(&frames) {
            return sources.render(&frames);
        }
        tokio::task::spawn_blocking(move || sources.render(&frames)).await.unwrap_or_default()
    }
}

/// The debug file of a component: `NAME.debug.wasm` beside `NAME.wasm`.
fn beside(component: &Path) -> PathBuf {
    component.with_extension("debug.wasm")
}

/// Code sections of the component, each with its debug information.
#[derive(Default)]
struct SourceMap {
    codes: Vec<CodeSection>,
    /// Reason why a debug file gives no lines.
    problem: Option<String>,
    places: Mutex<HashMap<usize, Vec<FramePlace>>>,
}

struct CodeSection {
    range: Range<usize>,
    debug: Arc<DebugSections>,
}

impl SourceMap {
    fn read(file: &Path, digest: &str) -> Self {
        let problem = |problem: String| Self { problem: Some(problem), ..Self::default() };
        let Some(component) = read(file) else { return Self::default() };
        let is_same = hex_digest(&component) == digest;
        let debug_file = beside(file);
        let name = debug_file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let debug = read(&debug_file);
        if !is_same {
            let text = || format!("the file {} was replaced after the daemon had loaded the plugin", file.display());
            return debug.map_or_else(Self::default, |_| problem(text()));
        }
        let modules = modules(&component);
        let separate = debug.as_deref().map(self::modules).unwrap_or_default();
        let codes: Vec<CodeSection> = modules
            .iter()
            .filter_map(|module| {
                let own = Some(module).filter(|module| module.debug.has_lines());
                let other =
                    || separate.iter().find(|other| other.code_digest == module.code_digest && other.debug.has_lines());
                let debug = own.or_else(other)?.debug.clone();
                Some(CodeSection { range: module.code.clone(), debug })
            })
            .collect();
        let mismatch = || match separate.iter().any(|module| module.debug.has_lines()) {
            true => format!("{name} does not match {}", file.file_name().unwrap_or_default().to_string_lossy()),
            false => format!("{name} has no debug information"),
        };
        let problem = (codes.is_empty() && debug.is_some()).then(mismatch);
        if let Some(problem) = &problem {
            tracing::warn!(target: "trunkline::plugin", component = %file.display(), "{problem}; backtraces of the plugin show no source lines");
        }
        Self { codes, problem, places: Mutex::default() }
    }

    fn render(&self, frames: &[Frame]) -> String {
        let text = backtrace::render(frames, |frame| self.places(frame));
        match &self.problem {
            Some(problem) => format!("{text}\n  ({problem})"),
            None => text,
        }
    }

    /// Whether rendering the frames needs no search.
    fn has_places_of(&self, frames: &[Frame]) -> bool {
        let known = self.places.lock();
        self.codes.is_empty() || frames.iter().all(|frame| frame.offset.is_none_or(|at| known.contains_key(&at)))
    }

    fn places(&self, frame: &Frame) -> Vec<FramePlace> {
        let Some((offset, code)) = frame
            .offset
            .and_then(|offset| Some((offset, self.codes.iter().find(|code| code.range.contains(&offset))?)))
        else {
            return Vec::new();
        };
        let mut known = self.places.lock();
        if let Some(places) = known.get(&offset) {
            return places.clone();
        }
        let places = code.debug.places((offset - code.range.start) as u64);
        if known.len() < PLACES_MAX {
            known.insert(offset, places.clone());
        }
        places
    }
}

/// The debug sections of a core module, by their names.
#[derive(Default)]
struct DebugSections(HashMap<String, Vec<u8>>);

impl DebugSections {
    fn has_lines(&self) -> bool {
        self.0.contains_key(".debug_line")
    }

    /// Source places of an address in the code section. Broken debug information gives fewer places, or none.
    fn places(&self, address: u64) -> Vec<FramePlace> {
        let mut places = Vec::new();
        let section = |id: gimli::SectionId| {
            let bytes = self.0.get(id.name()).map(Vec::as_slice).unwrap_or_default();
            Ok::<_, gimli::Error>(EndianSlice::new(bytes, LittleEndian))
        };
        let context = gimli::Dwarf::load(section).and_then(DwarfContext::from_dwarf);
        let Ok(context) = context else { return places };
        let Ok(mut frames) = context.find_frames(address).skip_all_loads() else { return places };
        while let Ok(Some(frame)) = frames.next() {
            let function = frame.function.as_ref().and_then(|function| Some(function.raw_name().ok()?.into_owned()));
            let file = frame.location.as_ref().and_then(|location| location.file).map(str::to_owned);
            places.push(FramePlace { function, file, line: frame.location.and_then(|location| location.line) });
        }
        places
    }
}

fn read(file: &Path) -> Option<Vec<u8>> {
    let facts = std::fs::metadata(file).ok()?;
    if facts.is_file() && facts.len() <= FILE_MAX_BYTES { std::fs::read(file).ok() } else { None }
}

/// A core module of a component.
#[derive(Default)]
struct CoreModule {
    /// Byte range of the code section in the component.
    code: Range<usize>,
    code_digest: [u8; 32],
    debug: Arc<DebugSections>,
}

/// The core modules that have code, up to the first invalid byte.
#[expect(clippy::wildcard_enum_match_arm, reason = "the payloads are open-ended, and all others are skipped")]
fn modules(component: &[u8]) -> Vec<CoreModule> {
    let mut modules = Vec::new();
    // Modules and components are nested. The payloads up to an end belong to the innermost one.
    let mut open: Vec<CoreModule> = Vec::new();
    for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
        match payload {
            Payload::Version { .. } => open.push(CoreModule::default()),
            Payload::CodeSectionStart { range, .. } => {
                let place = |byte: u64| usize::try_from(byte).unwrap_or(usize::MAX);
                let range = place(range.start)..place(range.end);
                if let Some(module) = open.last_mut() {
                    module.code_digest = component.get(range.clone()).map(Sha256::digest).unwrap_or_default().into();
                    module.code = range;
                }
            }
            Payload::CustomSection(section) if section.name().starts_with(".debug_") => {
                // The `Arc` is not shared yet.
                if let Some(sections) = open.last_mut().and_then(|module| Arc::get_mut(&mut module.debug)) {
                    sections.0.insert(section.name().to_owned(), section.data().to_owned());
                }
            }
            Payload::End(_) => modules.extend(open.pop().filter(|module| !module.code.is_empty())),
            _ => {}
        }
    }
    modules
}
