//! `trunkline new`: a folder with a plugin that builds, from files that the program carries.

use std::path::{Path, PathBuf};

use super::error::ScaffoldError;
use super::language::Language;
use super::name::check_name;
use super::template;

/// A plugin to make.
#[derive(Debug, Clone)]
pub struct NewPlugin {
    /// The plugin's name.
    pub name: String,
    /// The language.
    pub language: Language,
    /// The folder; `./NAME` when absent.
    pub path: Option<PathBuf>,
    /// Rust only: the folder of an SDK to depend on, instead of a copy in the new folder.
    pub sdk: Option<PathBuf>,
}

/// The result of [`create`].
#[derive(Debug)]
pub struct Created {
    /// The new folder.
    pub path: PathBuf,
    /// The next commands, for that folder.
    pub next: Vec<String>,
    /// The path of the component, from that folder.
    pub component: String,
}

/// Makes a folder with a plugin that builds. The folder is made completely or not at all, and replaces nothing.
///
/// # Errors
/// When the name is invalid, when the path exists, or when the folder cannot be written.
pub fn create(request: &NewPlugin) -> Result<Created, ScaffoldError> {
    check_name(&request.name)?;
    let sdk = sdk(request)?;
    let path = request.path.clone().unwrap_or_else(|| PathBuf::from(&request.name));
    let is_empty = |path: &Path| std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if path.symlink_metadata().is_ok() && !is_empty(&path) {
        return Err(ScaffoldError::Exists(path));
    }
    let failed = |source| ScaffoldError::Write { path: path.clone(), source };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed)?;
    let draft = tempfile::Builder::new().prefix(".trunkline-new-").tempdir_in(parent).map_err(failed)?;
    // A temporary folder is closed to other users. The folder inside gets ordinary permissions.
    let folder = draft.path().join("plugin");
    for (name, text) in template::files(request.language, &request.name, sdk.as_deref()) {
        let file = folder.join(name);
        let below = file.parent().unwrap_or(&folder);
        std::fs::create_dir_all(below).and_then(|()| std::fs::write(&file, text)).map_err(failed)?;
    }
    // A rename replaces an empty folder, and fails for a folder with content.
    std::fs::rename(&folder, &path).map_err(failed)?;
    let (next, component) = template::next(request.language, &request.name);
    Ok(Created { path, next, component })
}

/// The path of the SDK for the new package. `None` for the copy.
fn sdk(request: &NewPlugin) -> Result<Option<String>, ScaffoldError> {
    let Some(path) = &request.sdk else {
        return Ok(None);
    };
    if request.language != Language::Rust {
        return Err(ScaffoldError::Sdk(format!(
            "the template for {} has no SDK; remove the flag --sdk",
            request.language
        )));
    }
    let found =
        std::fs::canonicalize(path).map_err(|error| ScaffoldError::Sdk(format!("{}: {error}", path.display())))?;
    let manifest = std::fs::read_to_string(found.join("Cargo.toml")).unwrap_or_default();
    if !manifest.contains("name = \"trunkline-plugin\"") {
        return Err(ScaffoldError::Sdk(format!(
            "{} is not the folder of the crate trunkline-plugin; name the folder plugins/sdk of the repository",
            found.display()
        )));
    }
    Ok(Some(found.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, language: Language, path: &Path) -> NewPlugin {
        NewPlugin { name: name.to_owned(), language, path: Some(path.to_owned()), sdk: None }
    }

    #[test]
    fn templates_are_complete_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        for language in Language::ALL {
            assert_eq!(language.as_str().parse(), Ok(language));
            let path = dir.path().join(language.as_str());
            let created = create(&request("my-greeter", language, &path)).expect("made");
            assert!(!created.next.is_empty());
            let read = |name: &str| std::fs::read_to_string(path.join(name)).expect(name);
            assert!(read("README.md").starts_with("# my-greeter\n"));
            assert!(read("routes.toml").contains("[routes.my-greeter]"));
            for (name, text) in template::files(language, "my-greeter", None) {
                // A type in a comment of JavaScript has a space after its braces.
                let is_hole = |rest: &&str| rest.starts_with(|letter: char| letter.is_alphabetic());
                assert_eq!(text.split("{{").skip(1).find(is_hole), None, "{language}: {name} has a hole");
            }
            let again = create(&request("other", language, &path));
            assert!(matches!(again, Err(ScaffoldError::Exists(_))), "{again:?}");
            assert!(read("README.md").starts_with("# my-greeter\n"));
        }
        let left = std::fs::read_dir(dir.path()).expect("a folder").count();
        assert_eq!(left, Language::ALL.len(), "no draft is left");
    }

    #[test]
    fn a_wrong_sdk_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        for (language, sdk) in [(Language::C, dir.path().to_owned()), (Language::Rust, dir.path().join("none"))] {
            let request = NewPlugin { sdk: Some(sdk), ..request("a", language, &dir.path().join("a")) };
            assert!(matches!(create(&request), Err(ScaffoldError::Sdk(_))));
        }
        assert!(!dir.path().join("a").exists());
    }
}
