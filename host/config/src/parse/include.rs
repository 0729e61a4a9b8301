//! `include`: further files, whose tables are merged into those of the first file.
//!
//! Paths begin at the directory of routes.toml, also in an included file. The last part of a path may contain `*`. Matching
//! files are read in the order of their names, without hidden files. A name that two files define is an error; tables of
//! one name are never merged.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::context::{ReadContext, Text};
use super::table::Table;
use crate::diagnostics::codes::Code;
use crate::diagnostics::files::SourceFiles;
use crate::diagnostics::place::ValuePlace;
use crate::keys::key::{Key, Named};
use crate::keys::top::{EVENT_TYPES, EXCHANGES, HOOKS, INCLUDE, PLUGINS, QUEUES, ROUTES};

/// The tables that an included file may have.
const TABLES: [&Key<Named>; 6] = [&EXCHANGES, &QUEUES, &PLUGINS, &ROUTES, &HOOKS, &EVENT_TYPES];
/// Largest number of files. A larger number means that `include` matches other files by mistake.
const FILES_MAX: usize = 256;
const FILE_MAX_BYTES: u64 = 1024 * 1024;
const RELATIVE: &str = "write an existing path, such as \"routes.d/*.toml\": a relative path is resolved from the directory of routes.toml";

/// The files of `include`, and the directories whose list of files matters.
pub(crate) struct IncludedFiles {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) directories: Vec<PathBuf>,
}

/// Finds the files that the first file names, and reads them.
pub(crate) fn read(cx: &mut ReadContext<'_>, top: &Table<'_>, files: &mut SourceFiles) -> IncludedFiles {
    let mut found = IncludedFiles { files: Vec::new(), directories: Vec::new() };
    for pattern in top.texts(cx, &INCLUDE).unwrap_or_default() {
        for path in paths(cx, &pattern, &mut found.directories) {
            if found.files.contains(&path) || files.iter().any(|file| file.path == path) {
                let message = format!("the file {} is included twice", path.display());
                cx.error(Code::Include, &pattern.place, message).help("list the file only once in `include`");
                continue;
            }
            if found.files.len() == FILES_MAX {
                let message = format!("`include` names more than {FILES_MAX} files");
                cx.error(Code::Include, &pattern.place, message)
                    .help(format!("put the tables into at most {FILES_MAX} files"));
                return found;
            }
            match text(&path) {
                Ok(text) => files.add(&path, &text),
                Err(reason) => {
                    let message = format!("the included file {} cannot be read: {reason}", path.display());
                    cx.error(Code::Include, &pattern.place, message).help(RELATIVE);
                }
            }
            found.files.push(path);
        }
    }
    found
}

fn text(path: &Path) -> Result<String, String> {
    let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if bytes > FILE_MAX_BYTES {
        return Err(format!("the file has {bytes} bytes, but the limit is {FILE_MAX_BYTES}"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

fn paths(cx: &mut ReadContext<'_>, pattern: &Text, directories: &mut Vec<PathBuf>) -> Vec<PathBuf> {
    let whole = cx.path(&pattern.value);
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = whole.parent().map(Path::to_owned).unwrap_or_default();
    if parent.to_string_lossy().contains('*') {
        let message = format!("`include` has a * in a directory of the path {}", pattern.shown());
        cx.error(Code::Include, &pattern.place, message)
            .help("write * only in the last part of the path, as in \"routes.d/*.toml\"");
        return Vec::new();
    }
    if !name.contains('*') {
        return vec![whole];
    }
    directories.push(parent.clone());
    let entries = match std::fs::read_dir(&parent) {
        Ok(entries) => entries,
        Err(error) => {
            let message = format!("the directory {} of `include` cannot be read: {error}", parent.display());
            cx.error(Code::Include, &pattern.place, message).help(RELATIVE);
            return Vec::new();
        }
    };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let mut names = names.filter(|found| !found.starts_with('.') && matches(&name, found)).collect::<Vec<_>>();
    names.sort();
    names.into_iter().map(|name| parent.join(name)).collect()
}

/// `*` stands for any number of characters.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| rest.get(at..).is_some_and(|rest| matches(after, rest)))
        }),
    }
}

/// Merges the tables of an included file into those of the first.
pub(crate) fn merge<'t>(cx: &mut ReadContext<'_>, top: &mut DeTable<'t>, included: DeTable<'t>) {
    for (key, value) in included {
        let place = ValuePlace::File(key.span());
        let name: &str = key.get_ref();
        if !TABLES.iter().any(|key| key.name == name) {
            let message = format!("the key `{}` is not allowed in an included file", name.escape_debug());
            let finding = cx.error(Code::Include, &place, message);
            finding.help(format!(
                "write the key in routes.toml: an included file may only have the tables {}",
                TABLES.map(|key| key.name).join(", ")
            ));
            continue;
        }
        match (top.get_mut(name).map(Spanned::get_mut), value.into_inner()) {
            (Some(DeValue::Table(known)), DeValue::Table(more)) => join(cx, known, more),
            (Some(_), _) => {
                let message =
                    format!("`{name}` must be a table in every file, but is another value in one of the files");
                cx.error(Code::Include, &place, message).help(format!("write [{name}.NAME] in each file"));
            }
            (None, value) => _ = top.insert(key.clone(), Spanned::new(key.span(), value)),
        }
    }
}

fn join<'t>(cx: &mut ReadContext<'_>, known: &mut DeTable<'t>, more: DeTable<'t>) {
    for (name, value) in more {
        let key: &str = name.get_ref();
        match known.get_key_value(key).map(|(first, _)| ValuePlace::File(first.span())) {
            Some(first) => {
                let message = format!("two files define a table with the name \"{}\"", key.escape_debug());
                cx.error(Code::Include, &ValuePlace::File(name.span()), message)
                    .also(&first, "the first definition")
                    .help("remove or rename one of the two tables");
            }
            None => _ = known.insert(name, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_number_of_characters() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", true),
            ("*.toml", "a.toml.bak", false),
            ("r*-*.toml", "routes-a.toml", true),
            ("r*-*.toml", "routes.toml", false),
            ("é*", "éa", true),
            ("*", "", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
