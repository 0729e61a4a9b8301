//! Builds the plugins and the guests as components, so that a guest that does not build fails the tests' build.
//! Compares the C bindings of `trunkline new` with the interface.

use std::error::Error;
use std::path::Path;

use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;
use xtask::wasm::BuildReport;

fn main() -> Result<(), Box<dyn Error>> {
    let root = xtask::root();
    for watched in ["plugins", "tests/guests", "wit", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    check_bindings(&root)?;
    let (plugins, guests) = (root.join("target/plugins"), root.join("target/guests"));
    xtask::wasm::build(xtask::wasm::PLUGINS, &plugins, BuildReport::Errors)?;
    let names = xtask::wasm::guests()?;
    xtask::wasm::build(&names.iter().map(String::as_str).collect::<Vec<_>>(), &guests, BuildReport::Errors)?;
    println!("cargo::rustc-env=PLUGINS_DIR={}", plugins.display());
    println!("cargo::rustc-env=GUESTS_DIR={}", guests.display());
    Ok(())
}

/// Compares the bindings in the repository, which the program contains, with the output of wit-bindgen.
fn check_bindings(root: &Path) -> Result<(), Box<dyn Error>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root.join("wit/plugin-v0.1"))?;
    let world = resolve.select_world(&[package], Some("described-plugin"))?;
    let options = wit_bindgen_c::Opts {
        no_object_file: true,
        rename_world: Some("plugin".to_owned()),
        ..wit_bindgen_c::Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    for (name, made) in files.iter() {
        let kept = root.join("plugins/templates/c/bindings").join(name);
        if std::fs::read(&kept).is_ok_and(|text| text == made) {
            continue;
        }
        let fresh = root.join("target/bindings").join(name);
        std::fs::create_dir_all(root.join("target/bindings"))?;
        std::fs::write(&fresh, made)?;
        return Err(format!("{} is not what wit-bindgen makes, which is {}", kept.display(), fresh.display()).into());
    }
    Ok(())
}
