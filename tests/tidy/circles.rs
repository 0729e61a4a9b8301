//! The imports among the files of a crate, read with `syn`: no circle, and `lib.rs` and `mod.rs` only declare and re-export.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "`syn::Item` may gain kinds; the checks read those that have names"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, File, Item, UseTree};

use crate::source::{crate_files, is_test, root, sources};

/// A module of a crate. The path is empty for the crate itself.
type ModulePath = Vec<String>;

/// One source file: its module, the names that the file defines, and the names that the file imports.
struct ModuleFile {
    file: PathBuf,
    is_face: bool,
    defined: BTreeSet<String>,
    children: BTreeSet<String>,
    imports: Vec<(String, Vec<String>)>,
    globs: Vec<Vec<String>>,
    paths: BTreeSet<Vec<String>>,
}

/// The files of one crate by their modules. Test modules are left out.
struct Crate {
    sources: BTreeMap<ModulePath, ModuleFile>,
}

/// The attributes and the name of an item that has one.
fn named(item: &Item) -> Option<(&[Attribute], String)> {
    let (attributes, name) = match item {
        Item::Const(item) => (&item.attrs, &item.ident),
        Item::Enum(item) => (&item.attrs, &item.ident),
        Item::Fn(item) => (&item.attrs, &item.sig.ident),
        Item::Static(item) => (&item.attrs, &item.ident),
        Item::Struct(item) => (&item.attrs, &item.ident),
        Item::Trait(item) => (&item.attrs, &item.ident),
        Item::TraitAlias(item) => (&item.attrs, &item.ident),
        Item::Type(item) => (&item.attrs, &item.ident),
        Item::Union(item) => (&item.attrs, &item.ident),
        Item::Macro(item) => (&item.attrs, item.ident.as_ref()?),
        _ => return None,
    };
    Some((attributes, name.to_string()))
}

/// Whether an item of `lib.rs` or `mod.rs` declares or re-exports.
fn is_face_item(item: &Item) -> bool {
    match item {
        Item::Mod(item) => item.content.is_none() || is_test(&item.attrs),
        Item::Use(_) | Item::ExternCrate(_) => true,
        other => named(other).is_some_and(|(attributes, _)| is_test(attributes)),
    }
}

/// The paths of a file that have more than one segment, in macros too.
#[derive(Default)]
struct QualifiedPaths(BTreeSet<Vec<String>>);

impl QualifiedPaths {
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons) = (Vec::new(), 0);
        for tree in tokens {
            match tree {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.end(std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.end(std::mem::take(&mut path));
                    self.tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.end(std::mem::take(&mut path));
                    colons = 0;
                }
            }
        }
        self.end(path);
    }

    fn end(&mut self, path: Vec<String>) {
        if path.len() > 1 {
            self.0.insert(path);
        }
    }
}

/// Whether the paths of an item belong to the file: imports are read by themselves, tests not at all.
pub fn is_read(item: &Item) -> bool {
    match item {
        Item::Mod(item) => !is_test(&item.attrs),
        Item::Impl(item) => !is_test(&item.attrs),
        Item::Use(_) => false,
        other => named(other).is_none_or(|(attributes, _)| !is_test(attributes)),
    }
}

/// The names that a `use` brings, each with its whole path, and the paths of its globs.
fn flatten(tree: &UseTree, before: &[String], imports: &mut Vec<(String, Vec<String>)>, globs: &mut Vec<Vec<String>>) {
    let path = |name: &syn::Ident| [before, &[name.to_string()]].concat();
    match tree {
        UseTree::Path(part) => flatten(&part.tree, &path(&part.ident), imports, globs),
        UseTree::Name(name) if name.ident == "self" => {
            imports.push((before.last().cloned().unwrap_or_default(), before.to_vec()));
        }
        UseTree::Name(name) => imports.push((name.ident.to_string(), path(&name.ident))),
        UseTree::Rename(name) if name.ident == "self" => imports.push((name.rename.to_string(), before.to_vec())),
        UseTree::Rename(name) => imports.push((name.rename.to_string(), path(&name.ident))),
        UseTree::Glob(_) => globs.push(before.to_vec()),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, imports, globs)),
    }
}

impl ModuleFile {
    fn new(file: &Path, parsed: &File) -> Self {
        let is_face = parsed.items.iter().all(is_face_item);
        let mut source = Self {
            file: file.to_owned(),
            is_face,
            defined: BTreeSet::new(),
            children: BTreeSet::new(),
            imports: Vec::new(),
            globs: Vec::new(),
            paths: BTreeSet::new(),
        };
        for item in &parsed.items {
            match item {
                Item::Use(item) if !is_test(&item.attrs) => {
                    flatten(&item.tree, &[], &mut source.imports, &mut source.globs);
                }
                // A module with its text in this file counts as a name of the file.
                Item::Mod(item) if item.content.is_some() && !is_test(&item.attrs) => {
                    source.defined.insert(item.ident.to_string());
                }
                other => source.defined.extend(named(other).map(|(_, name)| name)),
            }
        }
        let mut paths = QualifiedPaths::default();
        parsed.items.iter().filter(|item| is_read(item)).for_each(|item| paths.tokens(item.to_token_stream()));
        source.paths = paths.0;
        source
    }
}

impl Crate {
    /// Reads the files that a `lib.rs` or `main.rs` declares, directly or through others.
    fn read(first: &Path) -> Self {
        let mut sources = BTreeMap::new();
        for file in crate_files(first) {
            let mut source = ModuleFile::new(&file.path, &file.parsed);
            source.children.extend(file.children);
            sources.insert(file.module, source);
        }
        Self { sources }
    }

    /// The file that defines what a path names, seen from a module. None for paths that leave the crate.
    fn resolve(&self, from: &ModulePath, path: &[String], depth: usize) -> Option<&ModuleFile> {
        let (first, rest) = path.split_first()?;
        if depth == 0 {
            return None;
        }
        match first.as_str() {
            "crate" => self.descend(&Vec::new(), rest, depth),
            "self" => self.descend(from, rest, depth),
            "super" => self.descend(&from.get(..from.len().checked_sub(1)?)?.to_vec(), rest, depth),
            _ => {
                let source = self.sources.get(from)?;
                if source.children.contains(first) {
                    return self.descend(from, path, depth);
                }
                let (_, whole) = source.imports.iter().find(|(name, _)| name == first)?;
                let is_itself = whole.first() == Some(first);
                let whole = [whole.as_slice(), rest].concat();
                if is_itself { None } else { self.resolve(from, &whole, depth - 1) }
            }
        }
    }

    fn descend(&self, module: &ModulePath, rest: &[String], depth: usize) -> Option<&ModuleFile> {
        let source = self.sources.get(module)?;
        let Some((first, after)) = rest.split_first() else { return Some(source) };
        if first == "super" {
            return self.descend(&module.get(..module.len().checked_sub(1)?)?.to_vec(), after, depth);
        }
        if source.children.contains(first) {
            return self.descend(&[module.as_slice(), std::slice::from_ref(first)].concat(), after, depth);
        }
        if source.defined.contains(first) {
            return Some(source);
        }
        if let Some((_, path)) = source.imports.iter().find(|(name, _)| name == first) {
            return self.resolve(module, &[path.as_slice(), after].concat(), depth.checked_sub(1)?);
        }
        let through =
            |glob: &Vec<String>| self.resolve(module, &[glob.as_slice(), rest].concat(), depth.checked_sub(1)?);
        source.globs.iter().find_map(through)
    }

    /// For each file the files whose names it uses. Files that only declare and re-export are looked through.
    fn arrows(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        const DEPTH: usize = 8;
        let mut arrows: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
        for (module, source) in self.sources.iter().filter(|(_, source)| !source.is_face) {
            let imported = source.imports.iter().map(|(_, path)| path).chain(&source.globs);
            for path in imported.chain(&source.paths) {
                let target = self.resolve(module, path, DEPTH).filter(|target| !target.is_face);
                let target = target.map(|target| target.file.as_path()).filter(|file| *file != source.file);
                arrows.entry(&source.file).or_default().extend(target);
            }
        }
        arrows
    }
}

/// The groups of files that reach each other, each with more than one file.
fn circles<'a>(arrows: &BTreeMap<&'a Path, BTreeSet<&'a Path>>) -> Vec<Vec<&'a Path>> {
    let reach = |from: &'a Path| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(file) = open.pop() {
            open.extend(arrows.get(file).into_iter().flatten().filter(|next| reached.insert(**next)));
        }
        reached
    };
    let reached: BTreeMap<_, _> = arrows.keys().map(|file| (*file, reach(file))).collect();
    let (mut found, mut done) = (Vec::new(), BTreeSet::new());
    for (file, reaches) in &reached {
        if reaches.contains(file) && !done.contains(file) {
            let circle = reaches.iter().filter(|other| reached.get(*other).is_some_and(|back| back.contains(file)));
            let circle: Vec<&Path> = circle.copied().collect();
            done.extend(circle.iter().copied());
            found.push(circle);
        }
    }
    found
}

/// Every crate below `host`: the library, and the program.
fn crates() -> Vec<Crate> {
    let files = sources().into_iter().flat_map(|folder| ["lib.rs", "main.rs"].map(|name| folder.join(name)));
    files.filter(|file| file.exists()).map(|file| Crate::read(&file)).collect()
}

fn short(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

#[test]
fn no_circle_among_the_files_of_a_crate() {
    let (mut bad, mut count) = (Vec::new(), 0);
    for of in crates() {
        let arrows = of.arrows();
        count += arrows.values().map(BTreeSet::len).sum::<usize>();
        for circle in circles(&arrows) {
            let mut lines = vec![format!("a circle of {} files:", circle.len())];
            for file in &circle {
                let inside = arrows[file].iter().filter(|to| circle.contains(*to)).map(|to| short(to));
                lines.push(format!("  {} -> {}", short(file), inside.collect::<Vec<_>>().join(", ")));
            }
            bad.push(lines.join("\n"));
        }
    }
    assert!(count > 300, "hardly any import was found ({count}): the check itself is broken");
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn module_faces_only_declare_and_reexport() {
    let mut bad = Vec::new();
    for of in crates() {
        let is_face = |file: &Path| file.ends_with("mod.rs") || file.ends_with("lib.rs");
        let defining = of.sources.values().filter(|source| is_face(&source.file) && !source.is_face);
        bad.extend(defining.map(|source| format!("{} defines {:?}", short(&source.file), source.defined)));
    }
    assert!(bad.is_empty(), "move these to files of their own:\n{}", bad.join("\n"));
}

/// The checks above see a circle that a re-export hides, and look through files that only re-export.
#[test]
fn circles_are_found_through_reexports() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = [
        ("lib.rs", "mod room; pub use room::Table;"),
        ("room/mod.rs", "mod leg; mod table; pub use leg::Leg; pub use table::Table;"),
        ("room/table.rs", "use super::Leg; pub struct Table(Leg);"),
        ("room/leg.rs", "pub struct Leg; impl Leg { fn of() -> Option<crate::Table> { None } }"),
    ];
    std::fs::create_dir(dir.path().join("room")).expect("a folder");
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).expect("a file");
    }
    let of = Crate::read(&dir.path().join("lib.rs"));
    assert_eq!(circles(&of.arrows()).iter().map(Vec::len).collect::<Vec<_>>(), [2]);
    std::fs::write(dir.path().join("room/leg.rs"), "pub struct Leg;").expect("a file");
    assert!(circles(&Crate::read(&dir.path().join("lib.rs")).arrows()).is_empty());
}
