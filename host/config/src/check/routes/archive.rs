//! Archives.

use std::time::Duration;

use crate::keys::routes::archive::OBJECTS_WAIT;
use crate::model::routes::archive::{Archive, ArchivePlace, ObjectStore};
use crate::model::secret::Secret;
use crate::parse::context::ReadContext;
use crate::parse::raw::archive::{RawArchive, RawArchivePlace};
use crate::parse::secret::RawSecret;

pub(super) fn check(cx: &mut ReadContext<'_>, raw: RawArchive) -> Archive {
    let (place, default_wait) = match raw.place {
        RawArchivePlace::Folder(dir) => (ArchivePlace::Folder(cx.path(dir.value)), Duration::ZERO),
        RawArchivePlace::Objects(raw) => {
            let store = ObjectStore {
                access_key: raw.access_key.map(|raw| secret(cx, &raw)),
                secret_key: raw.secret_key.map(|raw| secret(cx, &raw)),
                bucket: raw.bucket,
                prefix: raw.prefix,
                endpoint: raw.endpoint,
                region: raw.region,
            };
            (ArchivePlace::Objects(store), OBJECTS_WAIT)
        }
    };
    Archive { place, wait: raw.wait.unwrap_or(default_wait), file_max_bytes: raw.file_max_bytes }
}

/// A secret that cannot be read is kept as the reason: it holds this route down and no other one.
fn secret(cx: &mut ReadContext<'_>, raw: &RawSecret) -> Result<Secret, String> {
    raw.resolve(cx).map_err(|error| error.to_string())
}
