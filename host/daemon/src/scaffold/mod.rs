//! `trunkline new` and `trunkline wrap`: a folder that builds to a plugin, from files that the program carries, and a
//! component out of what a C compiler leaves. Knows nothing of the daemon.

mod template;
mod wrap;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use trunkline_event::{NameError, PluginName};
pub use wrap::{WrapError, wrap};

/// Names of packages, crates and files at once: long enough.
const NAME_MAX_BYTES: usize = 64;
/// What cargo takes for no name of a package, and the SDK's own.
const RESERVED: [&str; 47] = [
    "abstract",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "priv",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "trunkline-plugin",
    "unsafe",
    "use",
    "while",
];

/// A language that there is a template for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// With the SDK, for wasm32-wasip2.
    Rust,
    /// With componentize-js.
    Js,
    /// With componentize-py.
    Python,
    /// With clang, wasi-libc and generated bindings.
    C,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rust, Self::Js, Self::Python, Self::C];

    /// The word for `--lang`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Python => "python",
            Self::C => "c",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Language {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|language| language.as_str() == text)
            .ok_or_else(|| format!("there is no template for {text:?}; there are: {}", known()))
    }
}

/// What to make.
#[derive(Debug, Clone)]
pub struct Request {
    /// The plugin's name.
    pub name: String,
    /// In which language.
    pub language: Language,
    /// The folder; `./NAME` when absent.
    pub path: Option<PathBuf>,
    /// Rust: the SDK's folder, when it shall not be copied into the new one.
    pub sdk: Option<PathBuf>,
}

/// Why a folder was not made. Nothing is left behind then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name would not do for a route, a file or a package.
    #[error("the name {name:?} {problem}")]
    Name {
        /// As given.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Something is there already.
    #[error("{} is there already and is left as it is; choose another --path", .0.display())]
    Exists(PathBuf),
    /// `--sdk` for another language, or a folder that is not the SDK.
    #[error("--sdk: {0}")]
    Sdk(String),
    /// The system's word.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A folder that was made.
#[derive(Debug)]
pub struct Created {
    /// Where.
    pub path: PathBuf,
    /// What to type next, in that folder.
    pub next: Vec<String>,
    /// Where the component will be, from that folder.
    pub component: String,
}

/// Makes a folder with a plugin that builds, whole or not at all, and never in place of anything.
///
/// # Errors
/// When the name is none, when something is there already, or when it cannot be written.
pub fn create(request: &Request) -> Result<Created, Error> {
    check_name(&request.name)?;
    let sdk = sdk(request)?;
    let path = request.path.clone().unwrap_or_else(|| PathBuf::from(&request.name));
    let is_empty = |path: &Path| std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if path.symlink_metadata().is_ok() && !is_empty(&path) {
        return Err(Error::Exists(path));
    }
    let failed = |source| Error::Write { path: path.clone(), source };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed)?;
    let draft = tempfile::Builder::new().prefix(".trunkline-new-").tempdir_in(parent).map_err(failed)?;
    // A temporary folder is for its owner alone; this one becomes an ordinary one.
    let folder = draft.path().join("plugin");
    for (name, text) in template::files(request.language, &request.name, sdk.as_deref()) {
        let file = folder.join(name);
        let below = file.parent().unwrap_or(&folder);
        std::fs::create_dir_all(below).and_then(|()| std::fs::write(&file, text)).map_err(failed)?;
    }
    // Takes the place of nothing, or of an empty folder; a folder with something in it makes it fail.
    std::fs::rename(&folder, &path).map_err(failed)?;
    let (next, component) = template::next(request.language, &request.name);
    Ok(Created { path, next, component })
}

fn check_name(name: &str) -> Result<(), Error> {
    let bad = |problem: &str| Err(Error::Name { name: name.to_owned(), problem: problem.to_owned() });
    if let Err(error) = PluginName::new(name) {
        return match error {
            NameError::Empty => bad("is empty"),
            NameError::TooLong(_) | NameError::TooManyWords(_) | NameError::Control(_) | NameError::Shape => {
                bad("may hold only lower-case letters, digits and '-', and must begin with a letter")
            }
        };
    }
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) || !name.bytes().all(fits) {
        return bad("may hold only lower-case letters, digits and '-', and must begin with a letter");
    }
    if name.ends_with('-') || name.contains("--") {
        return bad("has a '-' with no word behind it");
    }
    if name.len() > NAME_MAX_BYTES {
        return bad(&format!("is {} bytes long; at most {NAME_MAX_BYTES} are possible", name.len()));
    }
    if RESERVED.contains(&name) {
        return bad("is a word of its own for the tools that build it");
    }
    Ok(())
}

/// The SDK as the new package is to find it.
fn sdk(request: &Request) -> Result<Option<String>, Error> {
    let Some(path) = &request.sdk else {
        return Ok(None);
    };
    if request.language != Language::Rust {
        return Err(Error::Sdk(format!("the template for {} has none", request.language)));
    }
    let found = std::fs::canonicalize(path).map_err(|error| Error::Sdk(format!("{}: {error}", path.display())))?;
    let manifest = std::fs::read_to_string(found.join("Cargo.toml")).unwrap_or_default();
    if !manifest.contains("name = \"trunkline-plugin\"") {
        return Err(Error::Sdk(format!("{} is not the folder of the crate trunkline-plugin", found.display())));
    }
    Ok(Some(found.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, language: Language, path: &Path) -> Request {
        Request { name: name.to_owned(), language, path: Some(path.to_owned()), sdk: None }
    }

    #[test]
    fn names_that_some_tool_would_refuse_are_refused_at_once() {
        for name in ["", "Hello", "1st", "a b", "a/b", "../a", "-a", "a-", "a--b", "a_b", "fn", "test", &"a".repeat(65)]
        {
            assert!(matches!(check_name(name), Err(Error::Name { .. })), "{name:?}");
        }
        for name in ["hello", "callback-task", "a1"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn every_template_is_whole_and_nothing_is_overwritten() {
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
                // A type in a comment of JavaScript has a space behind its braces.
                let is_hole = |rest: &&str| rest.starts_with(|letter: char| letter.is_alphabetic());
                assert_eq!(text.split("{{").skip(1).find(is_hole), None, "{language}: {name} has a hole");
            }
            let again = create(&request("other", language, &path));
            assert!(matches!(again, Err(Error::Exists(_))), "{again:?}");
            assert!(read("README.md").starts_with("# my-greeter\n"));
        }
        let left = std::fs::read_dir(dir.path()).expect("a folder").count();
        assert_eq!(left, Language::ALL.len(), "drafts are gone");
    }

    #[test]
    fn a_wrong_sdk_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        for (language, sdk) in [(Language::C, dir.path().to_owned()), (Language::Rust, dir.path().join("none"))] {
            let request = Request { sdk: Some(sdk), ..request("a", language, &dir.path().join("a")) };
            assert!(matches!(create(&request), Err(Error::Sdk(_))));
        }
        assert!(!dir.path().join("a").exists());
    }
}
