//! A storage backend that reads a file and keeps writes in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};
use redb::StorageBackend;

/// Unit in which writes are kept, in bytes.
const PAGE: usize = 4096;

/// A file that is only read. Writes stay in memory.
#[derive(Debug)]
pub(crate) struct ReadOnlyOverlay {
    file: File,
    written: Mutex<OverlayPages>,
    failure: ReadFailure,
}

/// The first failure of the disk to read the file. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadFailure(Arc<OnceLock<String>>);

/// Pages that were written.
#[derive(Debug)]
struct OverlayPages {
    length: u64,
    /// Length of the part of the file that is visible. It ends where the file was ever cut.
    visible: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl ReadFailure {
    /// The failure, if there was one.
    pub(crate) fn why(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

impl ReadOnlyOverlay {
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().length == 0
    }

    pub(crate) fn over(file: &Path, failure: ReadFailure) -> io::Result<Self> {
        let file = File::open(file)?;
        let length = file.metadata()?.len();
        let written = Mutex::new(OverlayPages { length, visible: length, pages: BTreeMap::new() });
        Ok(Self { file, written, failure })
    }

    fn read_file(&self, out: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(out, at).inspect_err(|error| {
            if error.kind() != io::ErrorKind::UnexpectedEof {
                let _first = self.failure.0.set(error.to_string());
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, OverlayPages> {
        self.written.lock()
    }

    /// A page of the file.
    fn page(&self, number: u64, visible: u64) -> io::Result<Box<[u8; PAGE]>> {
        let mut page = Box::new([0; PAGE]);
        let at = number * PAGE as u64;
        let length = usize::try_from(visible.saturating_sub(at)).unwrap_or(PAGE).min(PAGE);
        self.read_file(&mut page[..length], at)?;
        Ok(page)
    }
}

/// Part of a range in one page.
struct RangePart {
    page: u64,
    /// Offset in the page.
    within: usize,
    /// Offset in the range.
    at: usize,
    length: usize,
}

/// The parts of a range, page by page.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = RangePart> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = usize::try_from(at % PAGE as u64).unwrap_or_default();
        let part = (length - done).min(PAGE - within);
        let found = RangePart { page: at / PAGE as u64, within, at: done, length: part };
        done += part;
        (part > 0).then_some(found)
    })
}

impl StorageBackend for ReadOnlyOverlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.lock();
        if offset + out.len() as u64 > written.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Most ranges have no written page and take one read instead of one for each page.
        let pages = offset / PAGE as u64..=(offset + out.len() as u64) / PAGE as u64;
        if written.pages.range(pages).next().is_none() && offset + out.len() as u64 <= written.visible {
            return self.read_file(out, offset);
        }
        for RangePart { page: number, within, at, length } in parts(offset, out.len()) {
            let page = match written.pages.get(&number) {
                Some(page) => &page[within..within + length],
                None => &self.page(number, written.visible)?[within..within + length],
            };
            out[at..at + length].copy_from_slice(page);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.lock();
        written.length = len;
        if len < written.visible {
            written.visible = len;
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
        for RangePart { page: number, within, at, length } in parts(offset, data.len()) {
            if !written.pages.contains_key(&number) {
                let page = self.page(number, written.visible)?;
                written.pages.insert(number, page);
            }
            if let Some(page) = written.pages.get_mut(&number) {
                page[within..within + length].copy_from_slice(&data[at..at + length]);
            }
        }
        Ok(())
    }
}
