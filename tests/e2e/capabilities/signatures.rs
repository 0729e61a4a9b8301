//! `require-signature`: each error of a signature has its own text.

use minisign::KeyPair;
use serde_json::json;

use super::{publish, refusal};
use crate::bench::Bench;

fn sign(keys: &KeyPair, bytes: &[u8]) -> String {
    minisign::sign(Some(&keys.pk), &keys.sk, bytes, None, None).expect("signed").into_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_plugins_signed_by_a_known_key_run() {
    let bench = Bench::embedded();
    let keys = || KeyPair::generate_unencrypted_keypair().expect("keys");
    let (ours, second, foreign) = (keys(), keys(), keys());
    let echo = std::fs::read(trunkline_support::guests().join("echo.wasm")).expect("the guest");
    let put = |name: &str, bytes: &[u8], signature: Option<String>| {
        std::fs::write(bench.path(&format!("{name}.wasm")), bytes).expect("a file");
        if let Some(text) = signature {
            std::fs::write(bench.path(&format!("{name}.wasm.minisig")), text).expect("a file");
        }
    };
    let changed = [echo.as_slice(), &[0, 3, 1, b'x', 0]].concat();
    put("good", &echo, Some(sign(&ours, &echo)));
    put("second", &echo, Some(sign(&second, &echo)));
    put("unsigned", &echo, None);
    put("foreign", &echo, Some(sign(&foreign, &echo)));
    put("changed", &changed, Some(sign(&ours, &echo)));
    put("garbled", &echo, Some("not a signature".to_owned()));
    put("own", &echo, Some(sign(&foreign, &echo)));
    let key = |keys: &KeyPair| keys.pk.to_base64();
    let names = ["good", "second", "unsigned", "foreign", "changed", "garbled", "own"];
    let mut text = format!(
        "plugin-dir = \".\"\nrequire-signature = [{:?}, {:?}]\n[defaults]\nexchange = {{ name = \"$P-events\", type = \"topic\" }}\n",
        key(&ours),
        key(&second)
    );
    for name in names {
        text += &format!("[routes.{name}]\nfrom = {name:?}\nplugin = {name:?}\n");
    }
    text += &format!("[plugins.own]\nrequire-signature = {:?}\n", key(&foreign));
    let daemon = bench.start(&text).await;
    for (name, wanted) in [
        ("good", ""),
        ("second", ""),
        ("own", ""),
        ("unsigned", "is not signed, because the file"),
        ("foreign", "is signed with a key that is not in `require-signature`"),
        ("changed", "does not match its signature"),
        ("garbled", "has a malformed signature"),
    ] {
        let error = refusal(&daemon, name);
        assert!(error.contains(wanted) && error.is_empty() == wanted.is_empty(), "{name}: {error}");
    }
    let id = publish(&daemon, "good", None, &json!("x"));
    assert_eq!(daemon.settled(&id).await["outcome"], "ack");
}
