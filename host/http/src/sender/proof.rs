//! The proof of a webhook's sender by tokens and signatures. All comparisons take constant time.

use axum::http::HeaderMap;
use subtle::ConstantTimeEq;

use trunkline_config::{Hook, MacDigits, Secret, SignatureScheme};

use super::signed::{self, SignedRequest, mac, text, wrong};
use crate::problem::Problem;
use crate::request::{query, token};

/// Checks the secrets in the headers and in the query of a request.
///
/// # Errors
/// 401 if the hook needs a secret and the request has no valid secret.
pub(crate) fn check_head(hook: &Hook, headers: &HeaderMap, query: Option<&str>) -> Result<(), Problem> {
    if !hook.tokens.is_empty() && !own_token(headers).is_some_and(|given| is_one_of(&hook.tokens, given)) {
        let why = "the hook needs its token in the header `Authorization: Bearer TOKEN` or `X-Hook-Token: TOKEN`";
        return Err(Problem::unauthorized_because(why));
    }
    let Some(provider) = hook.provider.as_ref().filter(|provider| !provider.secrets.is_empty()) else { return Ok(()) };
    let (is_known, place) = match provider.profile.scheme {
        SignatureScheme::Plain { header } => {
            (has_secret(&provider.secrets, headers, header), format!("in the header `{header}`"))
        }
        // `check_body` checks the signature.
        SignatureScheme::PlainOrStandard { header } => (
            has_secret(&provider.secrets, headers, header) || signed::has_standard(headers),
            format!("in the header `{header}`, or a signature in the header `webhook-signature`"),
        ),
        SignatureScheme::InAddress { parameter } => {
            let in_address = query::value(query, parameter);
            let given = [in_address.as_deref().map(str::as_bytes), own_token(headers)];
            let is_known = given.into_iter().flatten().any(|given| is_one_of(&provider.secrets, given));
            (
                is_known,
                format!(
                    "in the parameter `{parameter}` of the address or in the header `Authorization: Bearer SECRET`"
                ),
            )
        }
        SignatureScheme::OfBody { .. }
        | SignatureScheme::Stripe
        | SignatureScheme::Slack
        | SignatureScheme::Standard => return Ok(()),
    };
    if is_known {
        return Ok(());
    }
    Err(Problem::unauthorized_because(format!(
        "a request of the sender {} needs the secret of the hook {place}",
        provider.profile.name
    )))
}

/// Checks the signature of a body. `now` is the time in seconds since 1970.
///
/// # Errors
/// 401 if the hook needs a signature and the request has no valid signature, or if the request has an old timestamp.
pub(crate) fn check_body(hook: &Hook, headers: &HeaderMap, body: &[u8], now: u64) -> Result<(), Problem> {
    if !hook.signatures.is_empty() {
        let is_good = hook.signatures.iter().any(|signature| {
            let given = text(headers, &signature.header).unwrap_or_default();
            let signatures = mac(given.strip_prefix("sha256=").unwrap_or(given), MacDigits::Hex);
            signed::is_signed(signature.secret.expose().as_bytes(), &SignedRequest { parts: vec![body], signatures })
        });
        let why = "the signature of the body is missing or wrong; send the HMAC-SHA256 of the body in the header of the hook's `signature`";
        return if is_good { Ok(()) } else { Err(Problem::unauthorized_because(why)) };
    }
    let Some(provider) = hook.provider.as_ref().filter(|provider| !provider.secrets.is_empty()) else { return Ok(()) };
    let scheme = provider.profile.scheme;
    let request = match scheme {
        SignatureScheme::Plain { .. } | SignatureScheme::InAddress { .. } => return Ok(()),
        SignatureScheme::PlainOrStandard { header } if has_secret(&provider.secrets, headers, header) => return Ok(()),
        SignatureScheme::OfBody { header, prefix, digits } => {
            let given = text(headers, header).and_then(|given| given.strip_prefix(prefix)).unwrap_or_default();
            SignedRequest { parts: vec![body], signatures: mac(given, digits) }
        }
        SignatureScheme::Stripe => signed::stripe(headers, body, now)?,
        SignatureScheme::Slack => signed::slack(headers, body, now)?,
        SignatureScheme::Standard | SignatureScheme::PlainOrStandard { .. } => signed::standard(headers, body, now)?,
    };
    let is_good = provider.secrets.iter().any(|secret| signed::is_signed(&signed::key(scheme, secret), &request));
    if is_good { Ok(()) } else { Err(wrong()) }
}

/// The token in the headers of a request.
fn own_token(headers: &HeaderMap) -> Option<&[u8]> {
    let own = headers.get("x-hook-token").map(|value| value.as_bytes());
    own.or_else(|| token::bearer(headers).map(str::as_bytes))
}

/// Whether a header contains one of the secrets.
fn has_secret(secrets: &[Secret], headers: &HeaderMap, header: &str) -> bool {
    headers.get(header).is_some_and(|given| is_one_of(secrets, given.as_bytes()))
}

fn is_one_of(secrets: &[Secret], given: &[u8]) -> bool {
    secrets.iter().any(|secret| bool::from(secret.expose().as_bytes().ct_eq(given)))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use trunkline_config::{Config, Sources};

    const SECRET: &str = "It's a Secret to Everybody";
    const GITHUB: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    /// A time for requests without a timestamp.
    const NEVER: u64 = 0;
    // A request and its signature from the libraries of Standard Webhooks.
    const STANDARD_TIME: u64 = 1_614_265_330;
    const STANDARD_ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const STANDARD_BODY: &[u8] = b"{\"test\": 2432232314}";
    const STANDARD_SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn hook(keys: &str) -> Hook {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("routes.toml");
        std::fs::write(&file, format!("[hooks.h]\n{keys}\n")).expect("a file");
        let environment = [
            ("HOOK_SECRET", SECRET),
            ("OTHER", "YW5vdGhlci1zZWNyZXQtb2YtdGhlLXNlbmRlcg=="),
            ("SLACK", "8f742231b10e8888abcd99yyyzzz85a5"),
            ("STANDARD", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            ("STRIPE", "whsec_test_secret_of_the_tests"),
            ("HOME", "/tmp"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let loaded = trunkline_config::load(&Sources { file, environment, ..Sources::default() });
        let config: Config = loaded.unwrap_or_else(|rejected| panic!("{}", rejected.render(false))).config;
        config.hooks["h"].clone()
    }

    fn of(provider: &str, variable: &str) -> Hook {
        hook(&format!(
            "provider = \"{provider}\"\nsignature = {{ secret = [{{ env = \"OTHER\" }}, {{ env = \"{variable}\" }}] }}"
        ))
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).parse().expect("a name"), HeaderValue::from_str(value).expect("a value")))
            .collect()
    }

    /// The key, body and signature are those of GitHub's documentation of its webhooks.
    #[test]
    fn signatures_of_bodies() {
        let hook = hook("signature = { header = \"X-Hub-Signature-256\", secret = { env = \"HOOK_SECRET\" } }");
        let check =
            |value: &str, body: &[u8]| check_body(&hook, &headers(&[("x-hub-signature-256", value)]), body, NEVER);
        assert_eq!(check(&format!("sha256={GITHUB}"), b"Hello, World!"), Ok(()));
        assert_eq!(check(GITHUB, b"Hello, World!"), Ok(()));
        assert_eq!(check(&GITHUB.to_uppercase(), b"Hello, World!"), Ok(()));
        for (bad, body) in [
            (GITHUB, &b"Hello, World"[..]),
            (&GITHUB[..62], b"Hello, World!"),
            (&GITHUB[..63], b"Hello, World!"),
            ("", b"Hello, World!"),
            ("sha256=", b"Hello, World!"),
            ("sha256=+7", b"Hello, World!"),
        ] {
            assert!(check(bad, body).is_err(), "{bad}");
        }
        assert!(check_body(&hook, &HeaderMap::new(), b"Hello, World!", NEVER).is_err());
    }

    #[test]
    fn tokens() {
        let with = hook("token = { env = \"HOOK_SECRET\" }");
        for good in [("authorization", "Bearer It's a Secret to Everybody"), ("x-hook-token", SECRET)] {
            assert_eq!(check_head(&with, &headers(&[good]), None), Ok(()));
        }
        for bad in [("authorization", "Bearer another"), ("x-hook-token", ""), ("x-other", SECRET)] {
            assert!(check_head(&with, &headers(&[bad]), None).is_err(), "{bad:?}");
        }
        let two = hook("token = [{ env = \"OTHER\" }, { env = \"HOOK_SECRET\" }]");
        for good in [SECRET, "YW5vdGhlci1zZWNyZXQtb2YtdGhlLXNlbmRlcg=="] {
            assert_eq!(check_head(&two, &headers(&[("x-hook-token", good)]), None), Ok(()));
        }
        assert_eq!(check_head(&hook(""), &HeaderMap::new(), None), Ok(()));
    }

    /// The signature for GitHub and Meta is from GitHub's documentation. The signature for Shopify was computed with another
    /// program.
    #[test]
    fn known_senders_sign_the_body() {
        let github = format!("sha256={GITHUB}");
        for (provider, header, good) in [
            ("github", "x-hub-signature-256", github.as_str()),
            ("meta", "x-hub-signature-256", github.as_str()),
            ("shopify", "x-shopify-hmac-sha256", "dXEH6g6yUJ/CESIczphLijdXC211hsIsRvQ3nIsEPhc="),
        ] {
            let hook = of(provider, "HOOK_SECRET");
            let check = |value: &str, body: &[u8]| check_body(&hook, &headers(&[(header, value)]), body, NEVER);
            assert_eq!(check(good, b"Hello, World!"), Ok(()), "{provider}");
            for bad in ["", "sha256=", GITHUB, &good[..good.len() - 2], "v0=00"] {
                assert!(check(bad, b"Hello, World!").is_err(), "{provider}: {bad}");
            }
            assert!(check(good, b"Hello, World?").is_err(), "{provider}");
            assert!(check_body(&hook, &HeaderMap::new(), b"Hello, World!", NEVER).is_err(), "{provider}");
        }
    }

    #[test]
    fn known_senders_give_the_secret_itself() {
        for (provider, header) in [
            ("wasender", "x-webhook-signature"),
            ("gitlab", "x-gitlab-token"),
            ("telegram", "x-telegram-bot-api-secret-token"),
            ("event-grid", "authorization"),
        ] {
            let hook = of(provider, "HOOK_SECRET");
            let good = if header == "authorization" { format!("Bearer {SECRET}") } else { SECRET.to_owned() };
            assert_eq!(check_head(&hook, &headers(&[(header, &good)]), None), Ok(()), "{provider}");
            for bad in ["", "another", &good[1..]] {
                assert!(check_head(&hook, &headers(&[(header, bad)]), None).is_err(), "{provider}: {bad}");
            }
            assert!(check_head(&hook, &HeaderMap::new(), None).is_err(), "{provider}");
        }
        let event_grid = of("event-grid", "HOOK_SECRET");
        let query = |query: &str| check_head(&event_grid, &HeaderMap::new(), Some(query));
        assert_eq!(query("a=b&code=It%27s+a%20Secret+to+Everybody"), Ok(()));
        assert!(query("code=another&cod=x").is_err());
    }

    /// The request and its signature are from Slack's documentation.
    #[test]
    fn slack_signs_a_timestamp() {
        const TIME: u64 = 1_531_420_618;
        const BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
            &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=\
            https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=\
            398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let hook = of("slack", "SLACK");
        let good = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
        let check = |signature: &str, time: &str, now: u64| {
            let headers = headers(&[("x-slack-signature", signature), ("x-slack-request-timestamp", time)]);
            check_body(&hook, &headers, BODY.as_bytes(), now)
        };
        for now in [TIME, TIME + 300, TIME - 300] {
            assert_eq!(check(good, "1531420618", now), Ok(()), "{now}");
        }
        for (signature, time, now) in [
            (good, "1531420618", TIME + 301),
            (good, "1531420618", TIME - 301),
            (good, "1531420619", TIME),
            (good, "", TIME),
            (good, "-1", TIME),
            (&good[3..], "1531420618", TIME),
            ("v0=", "1531420618", TIME),
        ] {
            assert!(check(signature, time, now).is_err(), "{signature} {time} {now}");
        }
    }

    #[test]
    fn standard_webhooks_sign_id_and_timestamp() {
        let good = STANDARD_SIGNATURE;
        let hook = of("standard", "STANDARD");
        let check = |id: &str, signature: &str, now: u64| {
            let own = [("webhook-id", id), ("webhook-timestamp", "1614265330"), ("webhook-signature", signature)];
            let svix = [("svix-id", id), ("svix-timestamp", "1614265330"), ("svix-signature", signature)];
            let [own, svix] = [own, svix].map(|pairs| check_body(&hook, &headers(&pairs), STANDARD_BODY, now));
            assert_eq!(own, svix);
            own
        };
        let id = STANDARD_ID;
        for good in [good, &format!("v1,AAAA v1a,BBBB {good}"), &format!("{good} v2,x")] {
            assert_eq!(check(id, good, STANDARD_TIME), Ok(()), "{good}");
        }
        for (id, signature, now) in [
            ("msg_other", good, STANDARD_TIME),
            (id, good, STANDARD_TIME + 301),
            (id, good, STANDARD_TIME - 301),
            (id, &good[3..], STANDARD_TIME),
            (id, "v1,", STANDARD_TIME),
            (id, "", STANDARD_TIME),
        ] {
            assert!(check(id, signature, now).is_err(), "{id} {signature} {now}");
        }
    }

    /// GitLab 19 signs requests with a signing token, as Standard Webhooks describes. Earlier versions send the secret token.
    #[test]
    fn gitlab_signs_or_gives_the_secret_itself() {
        let hook = of("gitlab", "STANDARD");
        let check = |pairs: &[(&'static str, &str)], now: u64| {
            let headers = headers(pairs);
            check_head(&hook, &headers, None).and_then(|()| check_body(&hook, &headers, STANDARD_BODY, now))
        };
        let plain = |secret| ("x-gitlab-token", secret);
        let signed = |signature| {
            [("webhook-id", STANDARD_ID), ("webhook-timestamp", "1614265330"), ("webhook-signature", signature)]
        };
        let good = signed(STANDARD_SIGNATURE);
        let secret = plain("YW5vdGhlci1zZWNyZXQtb2YtdGhlLXNlbmRlcg==");
        let with = |token| [&good[..], &[token]].concat();
        for pairs in [good.to_vec(), vec![secret], with(secret), with(plain("another"))] {
            assert_eq!(check(&pairs, STANDARD_TIME), Ok(()), "{pairs:?}");
        }
        assert!(check(&good, STANDARD_TIME + 301).is_err(), "an old timestamp");
        let forged = signed("v1,AAAA");
        for pairs in [vec![], vec![plain("another")], forged.to_vec(), good[1..].to_vec(), good[..2].to_vec()] {
            assert!(check(&pairs, STANDARD_TIME).is_err(), "{pairs:?}");
        }
        // The secret token is no key of signatures.
        let plain_only = of("gitlab", "HOOK_SECRET");
        assert!(check_body(&plain_only, &headers(&good), STANDARD_BODY, STANDARD_TIME).is_err());
    }

    /// The signature was computed with another program that follows Stripe's description.
    #[test]
    fn stripe_signs_a_timestamp() {
        const TIME: u64 = 1_492_774_577;
        const BODY: &[u8] = b"{\"id\":\"evt_1\",\"type\":\"payment_intent.succeeded\"}";
        let good = "8243739bb63120898f746694795c9adebf4550e1a9fcef581d1dcdd5ba3b6f0b";
        let hook = of("stripe", "STRIPE");
        let check =
            |signature: &str, now: u64| check_body(&hook, &headers(&[("stripe-signature", signature)]), BODY, now);
        for signature in [
            format!("t=1492774577,v1={good}"),
            format!("t=1492774577,v1={},v1={good},v0={good}", "0".repeat(64)),
            format!("t=1492774577, v1={good}"),
        ] {
            assert_eq!(check(&signature, TIME), Ok(()), "{signature}");
            assert!(check(&signature, TIME + 301).is_err(), "{signature}");
        }
        for signature in [
            format!("t=1492774578,v1={good}"),
            format!("t=1492774577,v0={good}"),
            format!("v1={good}"),
            format!("t=1492774577,t=1492774578,v1={}", "0".repeat(64)),
            String::new(),
        ] {
            assert!(check(&signature, TIME).is_err(), "{signature}");
        }
    }
}
