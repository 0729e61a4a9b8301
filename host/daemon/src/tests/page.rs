//! A page of docs/reference.

use std::path::{Path, PathBuf};

/// The folder of the workspace.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_owned()
}

/// Compares a page with its file. Writes the file first if `TRUNKLINE_WRITE_REFERENCE` is set.
pub(super) fn compare(name: &str, page: &str) {
    let file = root().join("docs/reference").join(name);
    if std::env::var_os("TRUNKLINE_WRITE_REFERENCE").is_some() {
        std::fs::write(&file, page).expect("the page is written");
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page, "docs/reference/{name} is old; TRUNKLINE_WRITE_REFERENCE=1 writes it");
}
