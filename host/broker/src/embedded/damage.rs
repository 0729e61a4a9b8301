//! What a disk may have done to the store: looked for before the store is opened, and taken out by [`repair`].
//!
//! redb looks at its checksums only when it is asked to, and then mends what it finds by going back to an older state.
//! So the store is looked at through a layer that keeps every write in memory: one that is not whole is refused, and
//! the file stays as it is until somebody decides.

mod salvage;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use redb::{Database, StorageBackend};

use self::salvage::Salvage;
use super::FILE;
use super::store::{CACHE_BYTES, Fault, Store};
use crate::Error;
use trunkline_config::state_dir::Lock;

/// What the layer keeps at once.
const PAGE: usize = 4096;

/// A file that is only read; writes stay in memory.
#[derive(Debug)]
struct Layer {
    file: File,
    written: Mutex<Written>,
    unreadable: Unreadable,
}

/// Why the disk did not give what is in the file; that says nothing of the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Unreadable(Arc<OnceLock<String>>);

#[derive(Debug)]
struct Written {
    length: u64,
    /// What of the file is still to be seen: it ends where it was ever cut.
    of_file: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl Layer {
    fn over(file: &Path, unreadable: Unreadable) -> io::Result<Self> {
        let file = File::open(file)?;
        let length = file.metadata()?.len();
        let written = Mutex::new(Written { length, of_file: length, pages: BTreeMap::new() });
        Ok(Self { file, written, unreadable })
    }

    fn read_file(&self, out: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(out, at).inspect_err(|error| {
            if error.kind() != io::ErrorKind::UnexpectedEof {
                let _first = self.unreadable.0.set(error.to_string());
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page as the file has it.
    fn page(&self, number: u64, of_file: u64) -> io::Result<Box<[u8; PAGE]>> {
        let mut page = Box::new([0; PAGE]);
        let at = number * PAGE as u64;
        let there = usize::try_from(of_file.saturating_sub(at)).unwrap_or(PAGE).min(PAGE);
        self.read_file(&mut page[..there], at)?;
        Ok(page)
    }
}

/// The parts of a range, page by page: number, offset in the page, offset in the range, length.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = usize::try_from(at % PAGE as u64).unwrap_or_default();
        let part = (length - done).min(PAGE - within);
        let found = (at / PAGE as u64, within, done, part);
        done += part;
        (part > 0).then_some(found)
    })
}

impl StorageBackend for Layer {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.lock();
        if offset + out.len() as u64 > written.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Most ranges are untouched: one read instead of one for each page.
        let pages = offset / PAGE as u64..=(offset + out.len() as u64) / PAGE as u64;
        if written.pages.range(pages).next().is_none() && offset + out.len() as u64 <= written.of_file {
            return self.read_file(out, offset);
        }
        for (number, within, at, length) in parts(offset, out.len()) {
            let page = match written.pages.get(&number) {
                Some(page) => &page[within..within + length],
                None => &self.page(number, written.of_file)?[within..within + length],
            };
            out[at..at + length].copy_from_slice(page);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.lock();
        written.length = len;
        if len < written.of_file {
            written.of_file = len;
            let last = len / PAGE as u64;
            let _beyond = written.pages.split_off(&(last + 1));
            if let Some(page) = written.pages.get_mut(&last) {
                page[usize::try_from(len % PAGE as u64).unwrap_or_default()..].fill(0);
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.lock();
        for (number, within, at, length) in parts(offset, data.len()) {
            if !written.pages.contains_key(&number) {
                let page = self.page(number, written.of_file)?;
                written.pages.insert(number, page);
            }
            if let Some(page) = written.pages.get_mut(&number) {
                page[within..within + length].copy_from_slice(&data[at..at + length]);
            }
        }
        Ok(())
    }
}

/// Work on a database that may be damaged, which can make redb panic.
pub(super) fn guarded<T, E: std::fmt::Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_panic) => Err("its pages contradict each other".to_owned()),
    }
}

/// Why a store is not opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// What is in the file is not a whole store.
    #[error("{0}")]
    Damage(String),
    /// The disk does not give it.
    #[error("{0}")]
    Unreadable(String),
}

impl Unreadable {
    fn or_damage(&self, problem: String) -> Problem {
        self.0.get().map_or(Problem::Damage(problem), |why| Problem::Unreadable(why.clone()))
    }
}

/// Opens a store without touching its file.
pub(super) fn look_at(file: &Path, unreadable: &Unreadable) -> Result<Database, Problem> {
    let layer = Layer::over(file, unreadable.clone()).map_err(|error| Problem::Unreadable(error.to_string()))?;
    // redb would make a new one of it.
    if layer.lock().length == 0 {
        return Err(Problem::Damage("it is empty".to_owned()));
    }
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    guarded(|| builder.create_with_backend(layer)).map_err(|problem| unreadable.or_damage(problem))
}

/// Looks at every page of a store that is not open; its file stays as it is.
fn check(file: &Path) -> Result<(), Problem> {
    let unreadable = Unreadable::default();
    let mut database = look_at(file, &unreadable)?;
    match guarded(|| database.check_integrity()).map_err(|problem| unreadable.or_damage(problem))? {
        true => Ok(()),
        false => Err(Problem::Damage("pages do not have their checksums".to_owned())),
    }
}

/// Opens or makes a store; see [`open`].
///
/// # Errors
/// As there.
pub(super) fn open_or_make(file: &Path) -> Result<Store, Fault> {
    if !file.exists() {
        Store::make(file)?;
    }
    open(file)
}

/// Opens a store. Every page is looked at first, and a file that is damaged is not touched.
///
/// # Errors
/// [`Fault::Damaged`] when it is damaged, with what to do; another fault when it cannot be read or opened.
pub(super) fn open(file: &Path) -> Result<Store, Fault> {
    check(file).map_err(|problem| match problem {
        Problem::Damage(problem) => {
            let file = file.display();
            let what_to_do = "stop the daemon and run `trunkline repair`, which keeps what is whole";
            Fault::Damaged(format!("the store {file} is damaged: {problem}; {what_to_do}"))
        }
        Problem::Unreadable(problem) => Fault::Doubt(format!("the store {}: {problem}", file.display())),
    })?;
    Store::open(file)
}

/// What [`repair`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Where the damaged file is now; none when there was nothing to repair.
    pub damaged: Option<PathBuf>,
    /// What was wrong with it.
    pub problem: String,
    /// Messages in queues, and delayed ones, that are in the new store.
    pub kept: u64,
    /// What could not be read, a line each.
    pub left_out: Vec<String>,
}

/// Makes a new store of what is whole in the one of a daemon's state directory, which no daemon may have open. The
/// damaged file stays beside it.
///
/// # Errors
/// [`Error::Unusable`]: a daemon runs, or nothing of the store can be read.
pub fn repair(state_dir: &Path) -> Result<Repaired, Error> {
    repair_in(&super::directory(state_dir))
}

fn repair_in(dir: &Path) -> Result<Repaired, Error> {
    let _lock = Lock::take(dir).map_err(|error| Error::Unusable(error.to_string()))?;
    let file = dir.join(FILE);
    let unusable = |problem: &dyn std::fmt::Display| Error::Unusable(format!("{}: {problem}", file.display()));
    if !file.exists() {
        return Err(unusable(&"there is no store"));
    }
    let Err(problem) = check(&file) else { return Ok(Repaired::default()) };
    let hopeless = "move it away to begin with an empty store";
    let database = look_at(&file, &Unreadable::default())
        .map_err(|error| unusable(&format!("nothing of it can be read: {error}; {hopeless}")))?;
    let (new, damaged) = (dir.join("messages.redb.new"), aside(dir));
    let _older = std::fs::remove_file(&new);
    let store = Store::open(&new).map_err(|fault| unusable(&fault))?;
    let Salvage { kept, left_out } = store.salvage(&database).map_err(|error| unusable(&error))?;
    drop(store);
    // A damaged database may panic once more when it is closed; the file is untouched either way.
    let _closed = guarded(|| {
        drop(database);
        Ok::<_, Error>(())
    });
    let renamed = std::fs::rename(&file, &damaged).and_then(|()| std::fs::rename(&new, &file));
    renamed.and_then(|()| File::open(dir)?.sync_all()).map_err(|error| unusable(&error))?;
    Ok(Repaired { damaged: Some(damaged), problem: problem.to_string(), kept, left_out })
}

/// A name that nothing has yet.
fn aside(dir: &Path) -> PathBuf {
    let names = (1..).map(|number| dir.join(format!("{FILE}.damaged-{number}")));
    names.into_iter().find(|name| !name.exists()).unwrap_or_else(|| dir.join(format!("{FILE}.damaged")))
}

#[cfg(test)]
mod tests;
