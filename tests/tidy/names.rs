//! One meaning a name: each type is declared under a name of its own in the production code of all crates, read with
//! `syn`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::Item;

use crate::circles::is_read;
use crate::source::{crate_files, root, sources};

/// Names that each crate may declare once, with the reason.
const ONCE_A_CRATE: [(&str, &str); 1] =
    [("Error", "the usual name of a crate's error in Rust; users write the name with its crate")];

/// The keywords before the name of a type. The keyword `type` also begins an associated type, so aliases are read apart.
const KEYWORDS: [&str; 4] = ["struct", "enum", "trait", "union"];

/// One declaration of a type.
struct Declaration {
    name: String,
    /// The name of the crate's folder.
    folder: String,
    file: PathBuf,
}

/// The names behind the keywords, at any depth: types may be declared inside functions and by macros.
fn names_in_tokens(tokens: TokenStream, names: &mut Vec<String>) {
    let mut is_name = false;
    for tree in tokens {
        if let TokenTree::Group(group) = &tree {
            names_in_tokens(group.stream(), names);
        }
        let word = if let TokenTree::Ident(word) = &tree { word.to_string() } else { String::new() };
        if is_name && !word.is_empty() {
            names.push(word.clone());
        }
        is_name = KEYWORDS.contains(&word.as_str());
    }
}

/// The names that items declare. Items for tests and associated types are left out.
fn names_of_items(items: &[Item], names: &mut Vec<String>) {
    for item in items.iter().filter(|item| is_read(item)) {
        if let Item::Mod(module) = item {
            if let Some((_, items)) = &module.content {
                names_of_items(items, names);
            }
        } else if let Item::Type(alias) = item {
            names.push(alias.ident.to_string());
        } else {
            names_in_tokens(item.to_token_stream(), names);
        }
    }
}

/// The declarations of one crate, in the files that its `lib.rs` and `main.rs` declare directly or through others.
fn declarations(src: &Path) -> Vec<Declaration> {
    let folder = src.parent().and_then(Path::file_name).expect("the folder of a crate").to_string_lossy().into_owned();
    let firsts = ["lib.rs", "main.rs"].map(|name| src.join(name));
    let mut found = Vec::new();
    for file in firsts.iter().filter(|first| first.exists()).flat_map(|first| crate_files(first)) {
        let mut names = Vec::new();
        names_of_items(&file.parsed.items, &mut names);
        let declared = names.into_iter();
        found.extend(declared.map(|name| Declaration { name, folder: folder.clone(), file: file.path.clone() }));
    }
    found
}

/// A line for each name that several declarations share. A name of [`ONCE_A_CRATE`] is shared only within a crate.
fn duplicates(declarations: &[Declaration]) -> Vec<String> {
    let mut files: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for declaration in declarations {
        let is_excepted = ONCE_A_CRATE.iter().any(|(name, _)| *name == declaration.name);
        let scope = if is_excepted { declaration.folder.as_str() } else { "" };
        let file = declaration.file.strip_prefix(root()).unwrap_or(&declaration.file);
        files.entry((declaration.name.as_str(), scope)).or_default().push(file.display().to_string());
    }
    let shared = files.into_iter().filter(|(_, files)| files.len() > 1);
    shared.map(|((name, _), files)| format!("{name}: {}", files.join(", "))).collect()
}

#[test]
fn each_type_has_a_name_of_its_own() {
    let all: Vec<Declaration> = sources().iter().flat_map(|folder| declarations(folder)).collect();
    assert!(all.len() > 300, "hardly any type was found ({}): the check itself is broken", all.len());
    for (name, reason) in ONCE_A_CRATE {
        assert!(all.iter().any(|declaration| declaration.name == name), "no crate declares {name} ({reason})");
    }
    let bad = duplicates(&all);
    assert!(bad.is_empty(), "name each type by its owner and its role:\n{}", bad.join("\n"));
}

/// The check above sees a planted duplicate inside a function, and leaves out tests, associated types and exceptions.
#[test]
fn a_planted_duplicate_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |path: &str, text: &str| {
        let file = dir.path().join(path);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(file, text).expect("a file");
    };
    let found = || -> Vec<String> {
        let all = ["one/src", "two/src"].iter().flat_map(|folder| declarations(&dir.path().join(folder)));
        let lines = duplicates(&all.collect::<Vec<_>>());
        lines.iter().filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect()
    };
    let nothing: Vec<String> = Vec::new();
    write("one/src/lib.rs", "mod deep; #[cfg(test)] mod tests; pub enum Error {} trait Maker { type Output; }");
    write("one/src/tests.rs", "struct Twin;");
    write("one/src/deep.rs", "pub struct Twin; impl crate::Maker for Twin { type Output = u8; }");
    write("two/src/lib.rs", "pub enum Error {} #[cfg(test)] mod tests { struct Twin; } trait Taker { type Output; }");
    assert_eq!(found(), nothing);
    write("two/src/main.rs", "fn main() { loop { enum Twin {} } }");
    assert_eq!(found(), ["Twin"]);
    write("two/src/main.rs", "type Twin = u8; mod inside { pub union Error { bits: u8 } }");
    assert_eq!(found(), ["Error", "Twin"]);
    write("two/src/main.rs", "fn main() {}");
    assert_eq!(found(), nothing);
}
