//! `canary` and `shadow` of a route.

use super::*;

fn with(keys: &str) -> String {
    format!("{SMALLEST}{keys}\n")
}

#[test]
fn a_canary_and_a_shadow_name_plugins_that_are_loaded() {
    let config = config(&with(
        "canary = { plugin = \"next\", percent = 2.5, by = \"tenant\" }\nshadow = { plugin = \"other\" }",
    ));
    let route = route(&config, "callback-tasks");
    let plugin = |name: &str| PluginName::new(name).expect("a name");
    let canary = Canary { plugin: plugin("next"), share: 250, by: Some(OrderBy::Tenant), auto: true };
    assert_eq!(route.canary, Some(canary));
    assert_eq!(route.shadow, Some(Shadow { plugin: plugin("other"), share: 10_000 }));
    let names = config.plugins.keys().map(PluginName::as_str).collect::<Vec<_>>();
    assert_eq!(names, ["callback-task", "next", "other"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (keys, code) in [
        ("canary = { plugin = \"next\" }", Code::MissingKey),
        ("canary = { percent = 5 }", Code::MissingKey),
        ("canary = { plugin = \"next\", percent = 0 }", Code::OutOfBounds),
        ("canary = { plugin = \"next\", percent = 101 }", Code::OutOfBounds),
        ("canary = { plugin = \"next\", percent = 5, by = \"moon\" }", Code::UnknownWord),
        ("canary = { plugin = \"next\", percent = 5, sticky = true }", Code::UnknownKey),
        ("canary = { plugin = \"callback-task\", percent = 5 }", Code::SamePlugin),
        ("shadow = { plugin = \"callback-task\" }", Code::SamePlugin),
        ("shadow = { plugin = \"other\", sample = 0 }", Code::OutOfBounds),
    ] {
        let rejected = check(&with(keys), &sources("/etc/trunkline/routes.toml")).expect_err(keys);
        let codes = rejected.diagnostics.iter().map(|diagnostic| diagnostic.code).collect::<Vec<_>>();
        assert!(codes.contains(&code.as_str()), "{keys}: {}", rejected.render(false));
    }
}
