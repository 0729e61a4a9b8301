//! File and line of a trap, from DWARF: the component's own, or that of `NAME.debug.wasm` beside `NAME.wasm`.
//!
//! Nothing is read before the first trap, and then once. A debug file is believed only where its code is the
//! component's, byte for byte; of another build it would name wrong lines.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use gimli::{EndianSlice, LittleEndian};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use wasmparser::{Parser, Payload};

use super::backtrace::{self, Frame, Place};

/// Debug information is some times as long as the code; of more than this none is shown.
const FILE_MAX_BYTES: u64 = 256 << 20;
/// Places that are remembered, so that a plugin that always traps costs a search once.
const PLACES_MAX: usize = 4096;

type Context<'a> = addr2line::Context<EndianSlice<'a, LittleEndian>>;

/// What is known of a plugin's source. Cheap before the first trap.
pub(super) struct Debug {
    /// The component, and its digest: another file in its place is no help.
    file: PathBuf,
    digest: Arc<str>,
    found: OnceCell<Arc<Found>>,
}

impl Debug {
    pub(super) fn new(file: &Path, digest: &str) -> Self {
        Self { file: file.to_owned(), digest: digest.into(), found: OnceCell::new() }
    }

    /// The lines that a dead letter shows of a stack. Reads files the first time, off the async threads.
    pub(super) async fn render(&self, frames: Vec<Frame>) -> String {
        let found = self.found.get_or_init(|| async {
            let (file, digest) = (self.file.clone(), self.digest.clone());
            let work = tokio::task::spawn_blocking(move || Found::read(&file, &digest));
            Arc::new(work.await.unwrap_or_default())
        });
        let found = found.await.clone();
        if found.knows(&frames) {
            return found.render(&frames);
        }
        tokio::task::spawn_blocking(move || found.render(&frames)).await.unwrap_or_default()
    }
}

/// The debug file of a component: `NAME.debug.wasm` beside `NAME.wasm`.
fn beside(component: &Path) -> PathBuf {
    component.with_extension("debug.wasm")
}

/// Code sections of the component, each with its debug information.
#[derive(Default)]
struct Found {
    codes: Vec<Code>,
    /// Why there are no lines although there is a debug file.
    problem: Option<String>,
    known: Mutex<HashMap<usize, Vec<Place>>>,
}

struct Code {
    range: Range<usize>,
    lines: Arc<Sections>,
}

impl Found {
    fn read(file: &Path, digest: &str) -> Self {
        let problem = |problem: String| Self { problem: Some(problem), ..Self::default() };
        let Some(component) = read(file) else { return Self::default() };
        let is_ours = super::load::hex(&Sha256::digest(&component)) == digest;
        let debug_file = beside(file);
        let name = debug_file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let debug = read(&debug_file);
        if !is_ours {
            let text = || format!("{} was replaced since it was loaded", file.display());
            return debug.map_or_else(Self::default, |_| problem(text()));
        }
        let modules = modules(&component);
        let separate = debug.as_deref().map(self::modules).unwrap_or_default();
        let codes: Vec<Code> = modules
            .iter()
            .filter_map(|module| {
                let own = Some(module).filter(|module| module.debug.has_lines());
                let other =
                    || separate.iter().find(|other| other.code_digest == module.code_digest && other.debug.has_lines());
                let lines = own.or_else(other)?.debug.clone();
                Some(Code { range: module.code.clone(), lines })
            })
            .collect();
        let mismatch = || match separate.iter().any(|module| module.debug.has_lines()) {
            true => format!("{name} does not match {}", file.file_name().unwrap_or_default().to_string_lossy()),
            false => format!("{name} holds no debug information"),
        };
        let problem = (codes.is_empty() && debug.is_some()).then(mismatch);
        if let Some(problem) = &problem {
            tracing::warn!(target: "trunkline::plugin", component = %file.display(), "{problem}: no lines in backtraces");
        }
        Self { codes, problem, known: Mutex::default() }
    }

    fn render(&self, frames: &[Frame]) -> String {
        let text = backtrace::render(frames, |frame| self.places(frame));
        match &self.problem {
            Some(problem) => format!("{text}\n  ({problem})"),
            None => text,
        }
    }

    /// Whether rendering needs no search.
    fn knows(&self, frames: &[Frame]) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.codes.is_empty() || frames.iter().all(|frame| frame.offset.is_none_or(|at| known.contains_key(&at)))
    }

    fn places(&self, frame: &Frame) -> Vec<Place> {
        let Some((offset, code)) = frame
            .offset
            .and_then(|offset| Some((offset, self.codes.iter().find(|code| code.range.contains(&offset))?)))
        else {
            return Vec::new();
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = known.get(&offset) {
            return places.clone();
        }
        let places = code.lines.places((offset - code.range.start) as u64);
        if known.len() < PLACES_MAX {
            known.insert(offset, places.clone());
        }
        places
    }
}

/// The debug sections of a core module, by their names.
#[derive(Default)]
struct Sections(HashMap<String, Vec<u8>>);

impl Sections {
    fn has_lines(&self) -> bool {
        self.0.contains_key(".debug_line")
    }

    /// Where an address of the code section comes from. Broken debug information gives fewer places, or none.
    fn places(&self, address: u64) -> Vec<Place> {
        let mut places = Vec::new();
        let section = |id: gimli::SectionId| {
            let bytes = self.0.get(id.name()).map(Vec::as_slice).unwrap_or_default();
            Ok::<_, gimli::Error>(EndianSlice::new(bytes, LittleEndian))
        };
        let context = gimli::Dwarf::load(section).and_then(Context::from_dwarf);
        let Ok(context) = context else { return places };
        let Ok(mut frames) = context.find_frames(address).skip_all_loads() else { return places };
        while let Ok(Some(frame)) = frames.next() {
            let function = frame.function.as_ref().and_then(|function| Some(function.raw_name().ok()?.into_owned()));
            let file = frame.location.as_ref().and_then(|location| location.file).map(str::to_owned);
            places.push(Place { function, file, line: frame.location.and_then(|location| location.line) });
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
struct Module {
    /// Its code section's place in the component.
    code: Range<usize>,
    code_digest: [u8; 32],
    debug: Arc<Sections>,
}

/// The core modules that have code, as far as the bytes make sense.
#[expect(clippy::wildcard_enum_match_arm, reason = "the payloads are open-ended, and all others are passed over")]
fn modules(component: &[u8]) -> Vec<Module> {
    let mut modules = Vec::new();
    // Modules lie in components that lie in components; what belongs to one ends with its own end.
    let mut open: Vec<Module> = Vec::new();
    for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
        match payload {
            Payload::Version { .. } => open.push(Module::default()),
            Payload::CodeSectionStart { range, .. } => {
                let place = |byte: u64| usize::try_from(byte).unwrap_or(usize::MAX);
                let range = place(range.start)..place(range.end);
                if let Some(module) = open.last_mut() {
                    module.code_digest = component.get(range.clone()).map(Sha256::digest).unwrap_or_default().into();
                    module.code = range;
                }
            }
            Payload::CustomSection(section) if section.name().starts_with(".debug_") => {
                // Nobody else has it yet.
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
