//! Where an archive route keeps its events: gzip files of JSON Lines, in a folder or in object storage.
//!
//! Promises: [`RouteArchive::keep`] answers after the event is synced to disk or stored by the object storage. A write that
//! fails is tried again for as long as the route runs, because an event that is given up is not archived. A route that ends
//! abandons its waiting events, and the broker delivers them again. An event that was written before a crash and never
//! answered is archived twice, under the same id. The archive knows no broker.

mod archived_event;
mod file_name;
mod folder;
mod keep;
mod objects;
mod outcome;
mod read;
mod writer;

pub use archived_event::ArchivedEvent;
pub use keep::RouteArchive;
pub use outcome::{ArchiveError, KeepOutcome};
pub use read::{ArchiveFiles, ArchiveReadError, open};
