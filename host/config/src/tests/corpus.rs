//! `UPDATE_EXPECTED=1 cargo test -p trunkline-config` writes the expected texts. Read the difference before you commit it.

use super::*;

/// Sources as the lines `#! env NAME=VALUE`, `#! broker URL`, `#! listen ADDRESS` and `#! no-home` of a file say.
fn directed(name: &str, source: &str) -> Sources {
    let mut sources = sources(name);
    for line in source.lines().filter_map(|line| line.strip_prefix("#! ")) {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("env", rest) => {
                let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
                sources.environment.insert(name.to_owned(), value.to_owned());
            }
            ("broker", url) => sources.broker_url = Some(url.to_owned()),
            ("listen", address) => sources.listen = Some(address.to_owned()),
            ("no-home", "") => drop(sources.environment.remove("HOME")),
            // An unknown directive is a comment.
            _ => {}
        }
    }
    sources
}

/// The printed text for a file, and its diagnostics.
fn printed(name: &str, source: &str) -> (String, Vec<Diagnostic>) {
    match check(source, &directed(name, source)) {
        Ok(loaded) => (render(&loaded.warnings, false), loaded.warnings),
        Err(rejected) => (rejected.render(false), rejected.diagnostics),
    }
}

fn corpus() -> Vec<(PathBuf, String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testdata");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).expect("testdata is there") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            let source = std::fs::read_to_string(&path).expect("readable");
            files.push((path, name, source));
        }
    }
    files.sort();
    assert!(files.len() > 10, "the corpus is there");
    files
}

/// The lines that differ, `-` expected and `+` printed.
fn difference(expected: &str, printed: &str) -> String {
    let (expected, printed) = (expected.lines().collect::<Vec<_>>(), printed.lines().collect::<Vec<_>>());
    let same_begin = expected.iter().zip(&printed).take_while(|(one, two)| one == two).count();
    let (expected, printed) = (&expected[same_begin..], &printed[same_begin..]);
    let same_end = expected.iter().rev().zip(printed.iter().rev()).take_while(|(one, two)| one == two).count();
    let lines = |mark: char, lines: &[&str]| lines.iter().map(|line| format!("{mark} {line}\n")).collect::<String>();
    let (expected, printed) = (&expected[..expected.len() - same_end], &printed[..printed.len() - same_end]);
    format!("from line {}:\n{}{}", same_begin + 1, lines('-', expected), lines('+', printed))
}

#[test]
fn diagnostics_are_printed_as_expected() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some_and(|value| value == "1");
    let mut wrong = String::new();
    for (path, name, source) in corpus() {
        let (printed, diagnostics) = printed(&name, &source);
        assert!(!diagnostics.is_empty(), "{name} has a mistake");
        let beside = path.with_extension("expected");
        if update {
            std::fs::write(&beside, &printed).expect("writable");
            continue;
        }
        let expected = std::fs::read_to_string(&beside).unwrap_or_default();
        if expected != printed {
            wrong.push_str(&format!("{name}, {}\n", difference(&expected, &printed)));
        }
    }
    assert!(wrong.is_empty(), "UPDATE_EXPECTED=1 accepts these:\n{wrong}");
}

#[test]
fn every_code_is_in_the_corpus() {
    let files = corpus();
    let seen = files.iter().flat_map(|(_, name, source)| printed(name, source).1);
    let seen = seen.map(|diagnostic| diagnostic.code).collect::<BTreeSet<_>>();
    let unseen = Code::ALL.iter().filter(|code| !seen.contains(code.as_str())).collect::<Vec<_>>();
    assert_eq!(unseen, [&Code::NoFile, &Code::NoStateDir], "what is missing is tested by itself");
}

#[test]
fn secrets_do_not_show() {
    for (_, name, source) in corpus() {
        let (printed, diagnostics) = printed(&name, &source);
        let json = serde_json::to_string(&diagnostics).expect("serialisable");
        for secret in ["hunter2", "a-token-that-is-written-here", "0123456789abcdef", "tiny"] {
            assert!(!printed.contains(secret) && !json.contains(secret), "{name} shows {secret}");
        }
    }
}

#[test]
fn json_form() {
    let (_, diagnostics) = printed("r.toml", "[routes.r]\nform = \"a\"\nfrom = \"b\"\nplugin = \"p\"\n");
    let expected = r#"[{"code":"TL003","severity":"error","message":"unknown key `form` in [routes.r]","file":"r.toml","line":2,"column":1,"help":"did you mean `from`?"}]"#;
    assert_eq!(serde_json::to_string(&diagnostics).expect("serialisable"), expected);
}

#[test]
fn a_missing_file_differs_from_a_bad_one() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| Sources { file: directory.path().join(name), ..sources("") };
    let missing = load(&at("none.toml")).expect_err("there is no file");
    assert!(missing.is_missing());
    assert_eq!(missing.diagnostics[0].code, Code::NoFile.as_str());
    assert!(missing.render(false).contains("none.toml"), "{}", missing.render(false));

    std::fs::write(directory.path().join("bad.toml"), "x").expect("writable");
    assert!(!load(&at("bad.toml")).expect_err("no TOML").is_missing());
    std::fs::write(directory.path().join("latin.toml"), b"# \xfcber").expect("writable");
    let latin = load(&at("latin.toml")).expect_err("no UTF-8");
    assert!(!latin.is_missing() && latin.diagnostics[0].code == Code::Syntax.as_str());
    std::fs::write(directory.path().join("empty.toml"), "").expect("writable");
    assert_eq!(load(&at("empty.toml")).expect("a warning only").warnings[0].code, Code::Nothing.as_str());
}

#[test]
fn cut_off_or_garbled_files_are_reported_without_a_panic() {
    for (_, name, source) in corpus() {
        let source = source.replace("from", "fröm");
        for (at, letter) in source.char_indices().step_by(11) {
            let without = format!("{}{}", &source[..at], &source[at + letter.len_utf8()..]);
            for text in [&source[..at], &without, &without.replace('\n', "\r\n")] {
                let (printed, diagnostics) = printed(&name, text);
                assert_eq!(printed.is_empty(), diagnostics.is_empty(), "{name} {at}");
            }
        }
    }
}

#[test]
fn wrong_defaults_are_reported_once() {
    let source = "[defaults]\nemit = { exchange = \"nowhere\" }\n[routes]\na = { from = \"a\", plugin = \"p\" }\nb = { from = \"b\", plugin = \"p\" }\n";
    let codes = printed("r.toml", source).1.iter().map(|diagnostic| diagnostic.code).collect::<Vec<_>>();
    assert_eq!(codes, [Code::UnknownExchange.as_str()]);
}

#[test]
fn files_of_windows_editors_are_read_and_their_lines_found() {
    let source = "\u{feff}[routes.r]\r\nfrom = \"a\"\r\n\tplugin = \"p\"\r\n\tplugn = \"p\"\r\n";
    let (printed, diagnostics) = printed("r.toml", source);
    let found = diagnostics.iter().map(|found| (found.code, found.line, found.column)).collect::<Vec<_>>();
    assert_eq!(found, [(Code::UnknownKey.as_str(), Some(4), Some(2))], "{printed}");
    assert!(printed.contains("plugn = \"p\""), "{printed}");
}

/// Editors on Windows write a byte order mark at the beginning of routes.toml, included files, schemas and secrets.
#[test]
fn byte_order_marks_are_left_out_of_every_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let marked = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), format!("\u{feff}{text}")).expect("writable");
    };
    marked("routes.toml", "include = [\"one.toml\", \"two.toml\"]\n[http]\ntokens = [{ file = \"token\" }]\n");
    marked("one.toml", "[routes.one]\nfrom = \"a\"\nplugin = \"p\"\nschema = \"data.json\"\n");
    marked("two.toml", "[routes.two]\nfrom = \"b\"\nplugin = \"p\"\n");
    marked("data.json", "{\"type\": \"object\"}");
    marked("token", "a-token-of-this-test-0123456789\n");
    let file = Sources { file: directory.path().join("routes.toml"), ..sources("") };
    let loaded = load(&file).unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
    assert!(loaded.warnings.is_empty(), "{}", render(&loaded.warnings, false));
    assert_eq!(loaded.config.routes.len(), 2);
    assert_eq!(loaded.config.http.tokens[0].expose(), "a-token-of-this-test-0123456789");

    marked("two.toml", "[routes.two]\nfrom = \"b\"\nplugn = \"p\"\n");
    marked("routes.toml", "colour = 1\ninclude = [\"two.toml\"]\n");
    let found = load(&file).expect_err("unknown keys").diagnostics;
    let places = found.iter().filter(|found| found.code == Code::UnknownKey.as_str());
    let places = places.map(|found| (found.line, found.column)).collect::<Vec<_>>();
    assert_eq!(places, [(Some(1), Some(1)), (Some(3), Some(1))], "the mark does not count as a column: {found:?}");
}
