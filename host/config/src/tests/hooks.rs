//! Hooks of known senders, lists of secrets, and templates of hooks.

use super::*;

const VARIABLES: [(&str, &str); 5] = [
    ("OLD", "the-old-secret-of-the-sender"),
    ("NEW", "the-new-secret-of-the-sender"),
    ("STANDARD", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ("VERIFY", "short"),
    ("BROKEN", "whsec_no-signing-token"),
];

fn hook(keys: &str) -> Hook {
    config_with(
        &format!("[http]\nlisten = \"0.0.0.0:80\"\ntokens = [{{ env = \"OLD\" }}]\n[hooks.h]\n{keys}\n"),
        &VARIABLES,
    )
    .hooks
    .remove("h")
    .expect("a hook")
}

fn messages(keys: &str) -> Vec<String> {
    let mut sources = sources("routes.toml");
    sources.environment.extend(VARIABLES.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let rejected = check(&format!("[hooks.h]\n{keys}\n"), &sources).err().unwrap_or_else(|| panic!("{keys} is good"));
    rejected.diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect()
}

#[test]
fn every_known_sender_needs_only_its_secret() {
    for (name, profile) in crate::model::http::sender::SENDERS {
        let hook = hook(&format!("provider = \"{name}\"\nsignature = {{ secret = {{ env = \"STANDARD\" }} }}"));
        let provider = hook.provider.expect("a known sender");
        assert_eq!((&provider.profile, provider.secrets.len(), hook.status), (profile, 1, 200), "{name}");
        assert_eq!((hook.kinds.len(), hook.ids.len()), (profile.kinds.len() + 1, profile.ids.len()), "{name}");
        assert!(hook.signatures.is_empty() && hook.tokens.is_empty() && provider.handshake_token.is_none(), "{name}");
    }
}

#[test]
fn two_secrets_hold_during_a_rotation() {
    let both = "[{ env = \"OLD\" }, { env = \"NEW\" }]";
    let secrets = |hook: Hook| hook.provider.expect("a known sender").secrets;
    let one_table = hook(&format!("provider = \"github\"\nsignature = {{ secret = {both} }}"));
    let two_tables = "[{ secret = { env = \"OLD\" } }, { secret = { env = \"NEW\" } }]";
    let two_tables = hook(&format!("provider = \"github\"\nsignature = {two_tables}"));
    let expected = ["the-old-secret-of-the-sender", "the-new-secret-of-the-sender"].map(Secret::new);
    assert_eq!((secrets(one_table), secrets(two_tables)), (expected.to_vec(), expected.to_vec()));
    let generic = hook(&format!("token = {both}\nsignature = {{ header = \"X-Mac\", secret = {both} }}"));
    assert_eq!((generic.tokens, generic.signatures.len()), (expected.to_vec(), 2));
    assert!(generic.signatures.iter().all(|signature| signature.header == "x-mac"));
    let meta = hook(
        "provider = \"meta\"\nsignature = { secret = { env = \"OLD\" } }\nhandshake = { token = { env = \"VERIFY\" } }",
    );
    assert_eq!(meta.provider.and_then(|provider| provider.handshake_token), Some(Secret::new("short")));
}

#[test]
fn a_known_sender_decides_about_other_keys() {
    let beside = messages(
        "provider = \"github\"\ncodec = \"raw\"\nstatus = 202\ntoken = { env = \"OLD\" }\n\
         signature = { header = \"X-Mac\", secret = { env = \"OLD\" } }\nhandshake = { token = { env = \"OLD\" } }",
    );
    for key in ["codec", "status", "token", "header"] {
        let wanted = format!("cannot have `{key}`, because `provider = \"github\"` determines");
        assert!(beside.iter().any(|message| message.contains(&wanted)), "{key}: {beside:?}");
    }
    assert!(beside.iter().any(|message| message.contains("only `provider = \"meta\"` allows")), "{beside:?}");
    assert_eq!(beside.len(), 5, "{beside:?}");
    for (keys, wanted) in [
        ("provider = \"git-hub\"\nsignature = { secret = { env = \"OLD\" } }", "must be one of \"meta\", \"wasender\""),
        ("provider = \"standard\"\nsignature = { secret = { env = \"OLD\" } }", "is not Base64"),
        ("provider = \"gitlab\"\nsignature = { secret = { env = \"BROKEN\" } }", "is not Base64"),
        ("signature = { secret = { env = \"OLD\" } }", "has no `header`"),
        ("signature = []", "the list `signature` is empty"),
        ("token = []", "the list `token` is empty"),
        ("provider = \"meta\"\nhandshake = {}", "has no `token`"),
        ("handshake = { token = { env = \"OLD\" } }", "only `provider = \"meta\"` allows"),
    ] {
        let found = messages(keys);
        assert!(found.len() == 1 && found[0].contains(wanted), "{keys}: {found:?}");
    }
}

/// The remedies of a hook of a known sender never name `token`, which such a hook cannot have.
#[test]
fn the_secret_of_a_known_sender_belongs_to_its_signature() {
    for (keys, wanted) in [
        ("provider = \"github\"", "h] has no `signature`, so"),
        ("provider = \"gitlab\"\ntoken = { env = \"OLD\" }", "cannot have `token`"),
    ] {
        let mut sources = sources("routes.toml");
        sources.environment.extend(VARIABLES.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let open = "[http]\nlisten = \"0.0.0.0:80\"\ntokens = [{ env = \"OLD\" }]";
        let source = format!("{open}\n[hooks.h]\n{keys}\n");
        let rejected = check(&source, &sources).err().unwrap_or_else(|| panic!("{keys} is good"));
        let [found] = &rejected.diagnostics[..] else { panic!("{keys}: {:?}", rejected.diagnostics) };
        assert!(found.message.contains(wanted), "{keys}: {}", found.message);
        let help = found.help.as_deref().unwrap_or_default();
        assert!(help.contains("`signature = { secret = { env = "), "{keys}: {help}");
    }
}

#[test]
fn placeholders_belong_to_their_keys() {
    for good in [
        "type = \"{header.X-GitHub-Event}.{data.action}\"",
        "key = \"in.{type}.{data.entry[0].changes[0].field:dotted}\"",
        "key = \"{type:dotted}\"",
        "id = \"{header.X-GitHub-Delivery|data.id|new}\"",
        "id = \"{digest}\"",
    ] {
        hook(&format!("token = {{ env = \"OLD\" }}\n{good}"));
    }
    for bad in [
        "type = \"{type}\"",
        "type = \"{data.a|new}\"",
        "type = \"{data.a:dotted}\"",
        "key = \"{digest}\"",
        "id = \"{type}\"",
        "id = \"{data.a:dotted}\"",
    ] {
        let found = messages(bad);
        assert!(found.len() == 1 && found[0].contains("does not allow this placeholder"), "{bad}: {found:?}");
    }
}

#[test]
fn a_hook_takes_the_paths_below_its_own() {
    let hook = hook("path = \"/hooks/wa/in\"\ntoken = { env = \"OLD\" }");
    for good in ["/hooks/wa/in", "/hooks/wa/in/", "/hooks/wa/in/messages-upsert", "/hooks/wa/in/a/b"] {
        assert!(hook.takes(good), "{good}");
    }
    for bad in ["/hooks/wa", "/hooks/wa/inner", "/hooks/wa/in-2/a", "/hooks"] {
        assert!(!hook.takes(bad), "{bad}");
    }
}
