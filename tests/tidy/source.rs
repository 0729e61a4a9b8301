//! The source files of the repository, and how the checks read them.

use std::path::{Path, PathBuf};

use syn::{Attribute, File, Item};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_owned()
}

pub fn rust_files(dir: &Path) -> Vec<PathBuf> {
    files(dir, "rs")
}

/// The files with an extension below a folder, by path. Folders that tools fill are left out, and the peers of the benchmark, which
/// are programs of their own and stay unchanged.
pub fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            let is_left_out =
                path.ends_with("target") || path.ends_with("node_modules") || path.ends_with("benches/peers");
            found.extend(if is_left_out { Vec::new() } else { files(&path, extension) });
        } else if path.extension().is_some_and(|other| other == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The source folders of the daemon's crates.
pub fn sources() -> Vec<PathBuf> {
    let crates = std::fs::read_dir(root().join("host")).expect("host").map(|entry| entry.expect("an entry").path());
    let mut sources: Vec<PathBuf> = crates.map(|path| path.join("src")).filter(|path| path.is_dir()).collect();
    sources.sort();
    sources
}

/// The crate of a file below `host`, or its module where it is in the crate `daemon`.
pub fn module(file: &Path) -> String {
    let relative = file.strip_prefix(root().join("host")).expect("below host");
    let relative = relative.strip_prefix("daemon/src").unwrap_or(relative);
    let first = relative.components().next().expect("a part").as_os_str().to_string_lossy().into_owned();
    match first.trim_end_matches(".rs") {
        "cli" => "main".to_owned(),
        other => other.to_owned(),
    }
}

/// The file of a module that another file declares.
fn module_file(declaring: &Path, name: &str) -> PathBuf {
    let is_root = ["lib.rs", "main.rs", "mod.rs"].iter().any(|root| declaring.ends_with(root));
    let below = if is_root { declaring.parent().expect("a folder").to_owned() } else { declaring.with_extension("") };
    let candidates = [below.join(format!("{name}.rs")), below.join(name).join("mod.rs")];
    candidates.into_iter().find(|file| file.exists()).expect("the file of a module")
}

/// One file of a crate. The module path is empty for the first file.
pub struct CrateFile {
    pub module: Vec<String>,
    pub path: PathBuf,
    pub parsed: File,
    /// The names of the modules that the file declares in files of their own. Test modules are left out.
    pub children: Vec<String>,
}

/// The files that a `lib.rs` or `main.rs` declares, directly or through others, and the first file itself.
pub fn crate_files(first: &Path) -> Vec<CrateFile> {
    let mut open = vec![(Vec::new(), first.to_owned())];
    let mut found = Vec::new();
    while let Some((module, path)) = open.pop() {
        let text = std::fs::read_to_string(&path).expect("a file");
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut children = Vec::new();
        for item in &parsed.items {
            let Item::Mod(item) = item else { continue };
            if item.content.is_some() || is_test(&item.attrs) {
                continue;
            }
            let name = item.ident.to_string();
            open.push(([module.as_slice(), std::slice::from_ref(&name)].concat(), module_file(&path, &name)));
            children.push(name);
        }
        found.push(CrateFile { module, path, parsed, children });
    }
    found
}

/// Whether an item is compiled for tests only.
pub fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// Code lines: no comments, no text of tests.
pub fn code(text: &str) -> Vec<&str> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].lines().filter(|line| !line.trim_start().starts_with("//")).collect()
}

pub fn words_after<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices(prefix) {
        let before = line[..at].chars().next_back();
        if before.is_some_and(|character| character.is_alphanumeric() || character == '_' || character == ':') {
            continue;
        }
        let rest = &line[at + prefix.len()..];
        let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(rest.len());
        found.push(&rest[..end]);
    }
    found
}
