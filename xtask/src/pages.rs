//! The pages that readers follow with a shell: README, tutorial, how-to pages.

use std::path::PathBuf;

use anyhow::Result;

use crate::root;

/// The files, README first, then the tutorial and the how-to pages in the order of their names.
///
/// # Errors
/// When a folder cannot be read.
pub fn pages() -> Result<Vec<PathBuf>> {
    let mut pages = vec![root().join("README.md")];
    for folder in ["docs/tutorial", "docs/how-to"] {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(root().join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
        found.sort();
        pages.extend(found);
    }
    Ok(pages)
}
