//! `include`: further files with routes and what belongs to them, laid into the tables of the first one.
//!
//! Paths begin at the directory of routes.toml, also those inside an included file. The last part of a path may hold `*`; such
//! files are taken in the order of their names, and hidden ones are left out. A name that is defined in two files is an
//! error, never a merge.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::codes::Code;
use super::diagnostics::Place;
use super::files::Files;
use super::walk::{Context, Table, Text};

/// The tables that an included file may have.
const TABLES: [&str; 6] = ["exchanges", "queues", "plugins", "routes", "hooks", "event-types"];
/// All files together; who has more has included something else.
const FILES_MAX: usize = 256;
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// What `include` led to: files to read, and directories whose list of files matters.
pub(super) struct Found {
    pub(super) files: Vec<PathBuf>,
    pub(super) directories: Vec<PathBuf>,
}

/// Finds the files that the first one names, and reads them.
pub(super) fn read(cx: &mut Context<'_>, top: &Table<'_>, directory: &Path, files: &mut Files) -> Found {
    let mut found = Found { files: Vec::new(), directories: Vec::new() };
    for pattern in top.texts(cx, "include").unwrap_or_default() {
        for path in paths(cx, &pattern, directory, &mut found.directories) {
            if found.files.contains(&path) || files.iter().any(|file| file.path == path) {
                let message = format!("{} is included twice", path.display());
                cx.error(Code::Include, &pattern.place, message).help("name it once");
                continue;
            }
            if found.files.len() == FILES_MAX {
                let message = format!("more than {FILES_MAX} files are included");
                cx.error(Code::Include, &pattern.place, message);
                return found;
            }
            match text(&path) {
                Ok(text) => files.add(&path, text),
                Err(reason) => {
                    let message = format!("cannot read {}: {reason}", path.display());
                    cx.error(Code::Include, &pattern.place, message)
                        .help("paths begin at the directory of routes.toml");
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
        return Err(format!("it is {bytes} bytes long; a file may have {FILE_MAX_BYTES}"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

fn paths(cx: &mut Context<'_>, pattern: &Text, directory: &Path, directories: &mut Vec<PathBuf>) -> Vec<PathBuf> {
    let whole = directory.join(&pattern.value);
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = whole.parent().map(Path::to_owned).unwrap_or_default();
    if parent.to_string_lossy().contains('*') {
        let message = format!("`include` has {}, with a * before the last part", pattern.shown());
        cx.error(Code::Include, &pattern.place, message).help("write * in the name of the file only");
        return Vec::new();
    }
    if !name.contains('*') {
        return vec![whole];
    }
    directories.push(parent.clone());
    let entries = match std::fs::read_dir(&parent) {
        Ok(entries) => entries,
        Err(error) => {
            let message = format!("cannot read the directory {}: {error}", parent.display());
            cx.error(Code::Include, &pattern.place, message).help("paths begin at the directory of routes.toml");
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

/// Lays the tables of an included file into those of the first.
pub(super) fn merge<'t>(cx: &mut Context<'_>, top: &mut DeTable<'t>, included: DeTable<'t>) {
    for (key, value) in included {
        let place = Place::File(key.span());
        let name: &str = key.get_ref();
        if !TABLES.contains(&name) {
            let message = format!("`{}` stands in an included file", name.escape_debug());
            let finding = cx.error(Code::Include, &place, message);
            finding.help(format!("an included file has {}; the rest belongs into the first file", TABLES.join(", ")));
            continue;
        }
        match (top.get_mut(name).map(Spanned::get_mut), value.into_inner()) {
            (Some(DeValue::Table(known)), DeValue::Table(more)) => join(cx, known, more),
            (Some(_), _) => _ = cx.error(Code::Include, &place, format!("`{name}` is no table in one of the files")),
            (None, value) => _ = top.insert(key.clone(), Spanned::new(key.span(), value)),
        }
    }
}

fn join<'t>(cx: &mut Context<'_>, known: &mut DeTable<'t>, more: DeTable<'t>) {
    for (name, value) in more {
        let key: &str = name.get_ref();
        match known.get_key_value(key).map(|(first, _)| Place::File(first.span())) {
            Some(first) => {
                let message = format!("\"{}\" is defined in another file too", key.escape_debug());
                cx.error(Code::Include, &Place::File(name.span()), message)
                    .also(&first, "the first is here")
                    .help("keep one of them, or give it another name");
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
