//! The files of each template, inside the program. `{{name}}` is the plugin's name, `{{wasm}}` is that name in the form of
//! Cargo's files, `{{sdk}}` is the path of the Rust SDK, and `{{version}}` is the version of Trunkline.

use super::language::Language;

/// The path and the text of a file.
type TemplateFile = (&'static str, &'static str);

macro_rules! files {
    ($(#[$doc:meta])* $name:ident: $($to:literal <- $from:literal,)*) => {
        $(#[$doc])*
        const $name: &[TemplateFile] = &[$(($to, include_str!(concat!("../../../../", $from))),)*];
    };
}

files! {
    /// The WIT of the plugin interface.
    INTERFACE:
    "stdio.wit" <- "wit/plugin-v0.1/stdio.wit",
    "types.wit" <- "wit/plugin-v0.1/types.wit",
    "world.wit" <- "wit/plugin-v0.1/world.wit",
}

files! {
    /// The WIT packages that the interface uses, one file each.
    DEPENDENCIES:
    "deps/config/store.wit" <- "wit/plugin-v0.1/deps/config/store.wit",
    "deps/keyvalue/keyvalue.wit" <- "wit/plugin-v0.1/deps/keyvalue/keyvalue.wit",
    "deps/logging/logging.wit" <- "wit/plugin-v0.1/deps/logging/logging.wit",
}

files! {
    /// The SDK. The folders are those of the repository, because the SDK names the interface by a relative path.
    SDK:
    "Cargo.toml" <- "plugins/templates/rust/sdk.toml",
    "macros/Cargo.toml" <- "plugins/templates/rust/macros.toml",
    "macros/src/lib.rs" <- "plugins/sdk/macros/src/lib.rs",
    "src/arena.rs" <- "plugins/sdk/src/arena.rs",
    "src/config.rs" <- "plugins/sdk/src/config.rs",
    "src/emission.rs" <- "plugins/sdk/src/emission.rs",
    "src/event.rs" <- "plugins/sdk/src/event.rs",
    "src/export.rs" <- "plugins/sdk/src/export.rs",
    "src/failure.rs" <- "plugins/sdk/src/failure.rs",
    "src/lib.rs" <- "plugins/sdk/src/lib.rs",
    "src/log.rs" <- "plugins/sdk/src/log.rs",
    "src/stdio.rs" <- "plugins/sdk/src/stdio.rs",
    "src/testing.rs" <- "plugins/sdk/src/testing.rs",
    "src/time.rs" <- "plugins/sdk/src/time.rs",
}

files! {
    RUST:
    ".cargo/config.toml" <- "plugins/templates/rust/config.toml",
    "Cargo.toml" <- "plugins/templates/rust/Cargo.toml",
    "README.md" <- "plugins/templates/rust/README.md",
    "routes.toml" <- "plugins/templates/routes.toml",
    "src/lib.rs" <- "plugins/templates/rust/src/lib.rs",
}

files! {
    JS:
    "README.md" <- "plugins/templates/js/README.md",
    "build.js" <- "plugins/templates/js/build.js",
    "handler.js" <- "plugins/templates/js/handler.js",
    "handler.test.js" <- "plugins/templates/js/handler.test.js",
    "package-lock.json" <- "plugins/templates/js/package-lock.json",
    "package.json" <- "plugins/templates/js/package.json",
    "plugin.js" <- "plugins/templates/js/plugin.js",
    "routes.toml" <- "plugins/templates/routes.toml",
    "wit/app.wit" <- "plugins/templates/wit/app.wit",
}

files! {
    PYTHON:
    "README.md" <- "plugins/templates/python/README.md",
    "handler.py" <- "plugins/templates/python/handler.py",
    "plugin.py" <- "plugins/templates/python/plugin.py",
    "requirements.txt" <- "plugins/templates/python/requirements.txt",
    "routes.toml" <- "plugins/templates/routes.toml",
    "test_handler.py" <- "plugins/templates/python/test_handler.py",
    "wit/app.wit" <- "plugins/templates/wit/app.wit",
}

files! {
    C:
    "Makefile" <- "plugins/templates/c/Makefile",
    "README.md" <- "plugins/templates/c/README.md",
    "bindings/plugin.c" <- "plugins/templates/c/bindings/plugin.c",
    "bindings/plugin.h" <- "plugins/templates/c/bindings/plugin.h",
    "routes.toml" <- "plugins/templates/routes.toml",
    "src/handler.c" <- "plugins/templates/c/src/handler.c",
    "src/handler.h" <- "plugins/templates/c/src/handler.h",
    "src/json.c" <- "plugins/templates/c/src/json.c",
    "src/json.h" <- "plugins/templates/c/src/json.h",
    "src/plugin.c" <- "plugins/templates/c/src/plugin.c",
    "tests/test.c" <- "plugins/templates/c/tests/test.c",
}

/// The WIT packages as lists of files, each package after the packages that it uses.
pub(super) fn wit_packages() -> impl Iterator<Item = &'static [TemplateFile]> {
    DEPENDENCIES.chunks(1).chain([INTERFACE])
}

/// All files of a new plugin. `sdk` is the folder of an SDK to depend on, instead of the copy.
pub(super) fn files(language: Language, name: &str, sdk: Option<&str>) -> Vec<(String, String)> {
    const VENDOR: &str = "vendor/trunkline/plugins/sdk";
    let own = match language {
        Language::Rust => RUST,
        Language::Js => JS,
        Language::Python => PYTHON,
        Language::C => C,
    };
    let mut files: Vec<(String, &str)> = own.iter().map(|(to, text)| ((*to).to_owned(), *text)).collect();
    let mut add = |below: &str, more: &[TemplateFile]| {
        files.extend(more.iter().map(|&(to, text)| (format!("{below}/{to}"), text)));
    };
    match (language, sdk) {
        (Language::Rust, None) => {
            add(VENDOR, SDK);
            add("vendor/trunkline/wit/plugin-v0.1", INTERFACE);
            add("vendor/trunkline/wit/plugin-v0.1", DEPENDENCIES);
        }
        (Language::Js | Language::Python, _) => {
            add("wit/deps/plugin", INTERFACE);
            add("wit", DEPENDENCIES);
        }
        (Language::Rust, Some(_)) | (Language::C, _) => {}
    }
    let ignored = match language {
        Language::Rust => "/target\n",
        Language::Js => "/node_modules\n*.wasm\n",
        Language::Python => "/venv\n__pycache__\n*.wasm\n",
        Language::C => "/build\n*.wasm\n",
    };
    files.push((".gitignore".to_owned(), ignored));
    let fill = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{wasm}}", &name.replace('-', "_"))
            .replace("{{sdk}}", sdk.unwrap_or(VENDOR))
            .replace("{{version}}", env!("CARGO_PKG_VERSION"))
    };
    files.into_iter().map(|(to, text)| (to, fill(text))).collect()
}

/// The commands that build the component, and its path. The README of the template has the same.
pub(super) fn next(language: Language, name: &str) -> (Vec<String>, String) {
    let component = match language {
        Language::Rust => format!("target/wasm32-wasip2/release/{}.wasm", name.replace('-', "_")),
        Language::Js | Language::Python | Language::C => format!("{name}.wasm"),
    };
    let python = format!("venv/bin/componentize-py -d wit -w app componentize plugin -o {name}.wasm");
    let commands: &[&str] = match language {
        Language::Rust => &["cargo test", "cargo build --release --target wasm32-wasip2"],
        Language::Js => &["npm install", "npm test", "npm run build"],
        Language::Python => &[
            "python3 -m venv venv && venv/bin/pip install -r requirements.txt",
            "python3 -m unittest",
            python.as_str(),
        ],
        Language::C => &["make test", "make"],
    };
    (commands.iter().map(|command| (*command).to_owned()).collect(), component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_the_printed_commands() {
        for language in Language::ALL {
            let files = files(language, "greeter", None);
            let readme = files.iter().find(|(name, _)| name == "README.md").map(|(_, text)| text).expect("a README");
            let (commands, component) = next(language, "greeter");
            for text in commands.iter().chain([&component]) {
                assert!(readme.contains(text.as_str()), "{language}: {text}");
            }
        }
    }
}
