//! `[broker] tls`, with existing files.

use super::*;

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\na2V5\n-----END PRIVATE KEY-----\n";

fn read(tls: &str, change: impl FnOnce(&mut Sources)) -> (tempfile::TempDir, Result<Loaded, Rejected>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, content) in [("ca.pem", CERTIFICATE), ("client.pem", CERTIFICATE), ("client.key", KEY)] {
        std::fs::write(directory.path().join(name), content).expect("writable");
    }
    let file = directory.path().join("routes.toml");
    let mut sources = Sources { file, ..sources("") };
    change(&mut sources);
    let checked = check(&format!("[broker]\nurl = \"amqps://rabbit\"\n{tls}\n{SMALLEST}"), &sources);
    (directory, checked)
}

#[test]
fn files_begin_at_the_directory_of_the_file() {
    for (tls, ca, has_identity) in [
        ("", false, false),
        ("tls = {}", false, false),
        ("tls = { ca = \"ca.pem\" }", true, false),
        ("tls = { cert = \"client.pem\", key = \"client.key\" }", false, true),
        ("tls = { ca = \"ca.pem\", cert = \"client.pem\", key = \"client.key\" }", true, true),
    ] {
        let (directory, checked) = read(tls, |_| {});
        let loaded = checked.unwrap_or_else(|rejected| panic!("{tls}\n{}", rejected.render(false)));
        let at = |name: &str| directory.path().join(name);
        let identity = ClientCertificate { cert: at("client.pem"), key: at("client.key") };
        let expected = Tls { ca: ca.then(|| at("ca.pem")), identity: has_identity.then_some(identity) };
        match loaded.config.broker {
            BrokerChoice::Amqp(amqp) => {
                assert_eq!((amqp.url.expose(), amqp.tls), ("amqps://rabbit", expected), "{tls}")
            }
            BrokerChoice::Embedded => panic!("{tls}"),
        }
        assert!(loaded.warnings.is_empty(), "{tls}");
    }
}

#[test]
fn no_other_place_takes_the_encryption_away_unsaid() {
    let tls = "tls = { ca = \"ca.pem\" }";
    for (flag, variable, expected) in [
        (Some("amqp://h"), None, Some("--broker has an amqp:// URL")),
        (None, Some("amqp://u:hunter2@h"), Some("RABBITMQ_URL has an amqp:// URL")),
        (Some("amqps://h"), Some("amqp://h"), None),
        (Some("embedded"), None, None),
    ] {
        let (_directory, checked) = read(tls, |sources| {
            sources.broker_url = flag.map(str::to_owned);
            sources.environment.extend(variable.map(|url| ("RABBITMQ_URL".to_owned(), url.to_owned())));
        });
        let told = checked.err().map(|rejected| rejected.render(false));
        match (&told, expected) {
            (None, None) => {}
            (Some(told), Some(expected)) => assert!(told.contains(expected) && !told.contains("hunter2"), "{told}"),
            (told, expected) => panic!("{flag:?} {variable:?}: {told:?}, not {expected:?}"),
        }
    }
}
