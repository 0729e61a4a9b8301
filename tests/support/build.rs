//! Builds the plugins and the guests as components, so that a guest that does not build fails the tests' build.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = xtask::root();
    for watched in ["plugins", "tests/guests", "wit", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let (plugins, guests) = (root.join("target/plugins"), root.join("target/guests"));
    xtask::wasm::build(&xtask::wasm::PLUGINS, &plugins)?;
    let names = xtask::wasm::guests()?;
    xtask::wasm::build(&names.iter().map(String::as_str).collect::<Vec<_>>(), &guests)?;
    println!("cargo::rustc-env=PLUGINS_DIR={}", plugins.display());
    println!("cargo::rustc-env=GUESTS_DIR={}", guests.display());
    Ok(())
}
