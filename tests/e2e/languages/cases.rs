//! Events for the plugin callback-task, and the expected result of each.

/// One event.
pub struct Case {
    pub id: &'static str,
    pub data: Vec<u8>,
    pub time: Option<&'static str>,
    pub tenant: Option<&'static str>,
    pub user: Option<&'static str>,
    pub expect: Expect,
}

pub enum Expect {
    /// One task whose JSON contains these texts.
    Task(&'static [&'static str]),
    Nothing,
    /// A rejection whose text contains this word.
    Rejected(&'static str),
}

use Expect::{Nothing, Rejected, Task};

fn case(id: &'static str, data: impl Into<Vec<u8>>, expect: Expect) -> Case {
    let time = Some("2026-11-21T10:00:00Z");
    Case { id, data: data.into(), time, tenant: Some("org-1"), user: Some("user-1"), expect }
}

/// A requested call back with one further field, or with one field replaced.
fn with(field: &str, value: &str) -> String {
    let mut fields = vec![("call_id", "\"c-1\""), ("duration", "61.5"), ("outcome", "\"callback_requested\"")];
    fields.retain(|(name, _)| *name != field);
    fields.push((field, value));
    let fields = fields.iter().map(|(name, value)| format!("\"{name}\":{value}"));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn without(field: &str) -> String {
    with(field, "0").replace(&format!(",\"{field}\":0"), "")
}

pub fn all() -> Vec<Case> {
    [outcomes(), texts(), numbers(), shapes(), bytes(), times()].into_iter().flatten().collect()
}

fn outcomes() -> Vec<Case> {
    vec![
        case("requested", with("outcome", "\"callback_requested\""), Task(&["\"priority\":\"high\"", "2026-11-22"])),
        case("completed", with("outcome", "\"completed\""), Nothing),
        case("voicemail", with("outcome", "\"voicemail\""), Nothing),
        case("failed", with("outcome", "\"failed\""), Nothing),
        case("unknown-outcome", with("outcome", "\"lost\""), Rejected("unknown outcome `lost`")),
        case("outcome-case", with("outcome", "\"Completed\""), Rejected("Completed")),
        case("outcome-map", with("outcome", "{\"completed\":null}"), Rejected("")),
        case("outcome-null", with("outcome", "null"), Rejected("")),
        case("no-outcome", without("outcome"), Rejected("outcome")),
        Case { user: None, ..case("no-user", with("x", "1"), Task(&["\"user_id\":null"])) },
        Case { tenant: None, user: None, ..case("no-tenant", with("x", "1"), Task(&["\"organization_id\":null"])) },
        Case { user: Some("Zoë \"Z\""), ..case("odd-user", with("x", "1"), Task(&["Zoë \\\"Z\\\""])) },
    ]
}

fn texts() -> Vec<Case> {
    vec![
        case("transcript", with("transcript", "\"Please call me.\""), Task(&["Transcript:\\nPlease call me."])),
        case("transcript-null", with("transcript", "null"), Task(&["called back.\""])),
        case("transcript-empty", with("transcript", "\"\""), Task(&["Transcript:\\n\""])),
        case("transcript-number", with("transcript", "1"), Rejected("")),
        case("transcript-list", with("transcript", "[\"a\"]"), Rejected("")),
        case("unicode", with("transcript", "\"Grüße 🚀 日本語 \u{7f}\u{2028}\""), Task(&["Grüße 🚀 日本語"])),
        case(
            "escapes",
            with("transcript", r#""\u00e9\ud83d\ude80\"\\\/\b\f\n\r\t\u0001\u001f\u0000""#),
            Task(&["é🚀\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\\u0000"]),
        ),
        case("escaped-key", with("call\\u005fid", "\"c-2\"").replace("\"call_id\":\"c-1\",", ""), Task(&["c-2"])),
        case("escaped-id", with("call_id", "\"c\\u002d\\\"1\\\"\""), Task(&["c-\\\"1\\\""])),
        case("empty-id", with("call_id", "\"\""), Task(&["\"call_id\":\"\""])),
        case("id-number", with("call_id", "1"), Rejected("")),
        case("no-id", without("call_id"), Rejected("call_id")),
        case("half-pair", with("call_id", "\"\\ud83d\""), Rejected("")),
        case("half-pair-unused", with("x", "\"\\ud83d\""), Task(&["c-1"])),
        case("second-half", with("transcript", "\"\\ude80\""), Rejected("")),
        case("bad-escape", with("x", "\"\\x\""), Rejected("")),
        case("raw-control", with("x", "\"\u{1}\""), Rejected("")),
    ]
}

fn numbers() -> Vec<Case> {
    let good =
        [("d-zero", "0"), ("d-minus-zero", "-0.0"), ("d-exponent", "1e3"), ("d-large", "1e300"), ("d-tiny", "1e-999")];
    let negative = [("d-negative", "-1"), ("d-negative-small", "-0.5")];
    let bad = [
        ("d-text", "\"1\""),
        ("d-true", "true"),
        ("d-null", "null"),
        ("d-list", "[1]"),
        ("d-too-large", "1e999"),
        ("d-leading-zero", "01"),
        ("d-plus", "+1"),
        ("d-bare-point", "1."),
        ("d-no-whole", ".5"),
        ("d-nan", "NaN"),
        ("d-infinity", "-Infinity"),
    ];
    let huge = format!("1{}", "0".repeat(400));
    let mut cases = vec![
        case("no-duration", without("duration"), Rejected("duration")),
        case("d-many-digits", with("duration", &huge), Rejected("")),
        case("unused-many-digits", with("x", &format!("1{}", "0".repeat(6000))), Task(&["c-1"])),
        case("unused-too-large", with("x", "1e999"), Task(&["c-1"])),
        case("unused-bad-number", with("x", "-"), Rejected("")),
    ];
    cases.extend(good.map(|(id, number)| case(id, with("duration", number), Task(&["c-1"]))));
    cases.extend(negative.map(|(id, number)| case(id, with("duration", number), Rejected("`duration` is below 0"))));
    cases.extend(bad.map(|(id, number)| case(id, with("duration", number), Rejected(""))));
    cases
}

fn shapes() -> Vec<Case> {
    let nested = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    vec![
        case("empty", "", Rejected("")),
        case("null", "null", Rejected("object")),
        case("list", "[]", Rejected("object")),
        case("list-of-fields", "[\"c-1\",1,\"callback_requested\",null]", Rejected("object")),
        case("text", "\"callback_requested\"", Rejected("object")),
        case("no-fields", "{}", Rejected("missing field")),
        case("cut", "{\"call_id\":\"c-1\"", Rejected("")),
        case("trailing", with("x", "1") + "x", Rejected("")),
        case("two", with("x", "1") + &with("x", "1"), Rejected("")),
        case("comma-at-end", with("x", "1").replace('}', ",}"), Rejected("")),
        case("no-comma", with("x", "1").replace(",\"x\"", "\"x\""), Rejected("")),
        case("no-colon", with("x", "1").replace("\"x\":", "\"x\""), Rejected("")),
        case("comment", with("x", "1 // one"), Rejected("")),
        case("single-quotes", with("x", "'a'"), Rejected("")),
        case("spaces", format!(" \t\r\n{}\n ", with("x", "1").replace(':', " : ").replace(',', "\n,")), Task(&["c-1"])),
        case("form-feed", format!("\u{c}{}", with("x", "1")), Rejected("")),
        case("nested", with("x", &nested), Task(&["c-1"])),
        case(
            "more-fields",
            with("x", "{\"call_id\":7,\"call_id\":8,\"a\":[1,{\"b\":[]},\"\",true,false,null]}"),
            Task(&["c-1"]),
        ),
    ]
}

fn bytes() -> Vec<Case> {
    let text = with("x", "\"a\"");
    let put = |at: &str, bytes: &[u8]| {
        let at = text.find(at).expect("the place") + at.len();
        [&text.as_bytes()[..at], bytes, &text.as_bytes()[at..]].concat()
    };
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    vec![
        case("bad-utf8", put("\"c-1", b"\xff"), Rejected("")),
        case("bad-utf8-unused", put("\"x\":\"a", b"\xff"), Rejected("")),
        case("overlong", put("\"c-1", b"\xc0\xaf"), Rejected("")),
        case("surrogate-bytes", put("\"x\":\"a", b"\xed\xa0\x80"), Rejected("")),
        case("beyond-unicode", put("\"x\":\"a", b"\xf4\x90\x80\x80"), Rejected("")),
        case("cut-character", put("\"x\":\"a", b"\xf0\x9f\x9a"), Rejected("")),
        case("byte-order-mark", [b"\xef\xbb\xbf", text.as_bytes()].concat(), Task(&["2026-11-22"])),
        case("utf-16", utf16, Rejected("")),
        case("zero-byte", put("\"x\":\"a", b"\0"), Rejected("")),
        case("binary", (0..=255).collect::<Vec<u8>>(), Rejected("")),
    ]
}

fn times() -> Vec<Case> {
    let good = [
        ("t-offset", "2026-11-30T00:00:00+02:00", &["2026-12-01"]),
        ("t-year", "2026-12-31T12:00:00Z", &["2027-01-01"]),
        ("t-leap", "2028-02-28T12:00:00Z", &["2028-02-29"]),
        ("t-leap-end", "2028-02-29T12:00:00Z", &["2028-03-01"]),
        ("t-century", "2100-02-28T12:00:00Z", &["2100-03-01"]),
        ("t-400", "2000-02-28T12:00:00Z", &["2000-02-29"]),
        ("t-lower-case", "2026-11-21t10:00:00z", &["2026-11-22"]),
        ("t-space", "2026-11-21 10:00:00Z", &["2026-11-22"]),
        ("t-last", "9999-12-31T10:00:00Z", &["10000-01-01"]),
        ("t-first", "0000-02-28T10:00:00Z", &["0000-02-29"]),
    ];
    let bad = [
        ("t-no-day", "2026-02-30T12:00:00Z"),
        ("t-no-month", "2026-13-01T12:00:00Z"),
        ("t-zero", "2026-00-00T12:00:00Z"),
        ("t-date", "2026-11-21"),
        ("t-word", "yesterday"),
        ("t-sign", "+026-11-21T12:00:00Z"),
        ("t-other-digits", "２026-11-21T12:00:00Z"),
        ("t-short", "2026-1-21T12:00:00Z"),
        ("t-letters", "2026-11-21X12:00:00Z"),
    ];
    let timed = |id, time, expect| Case { time, ..case(id, with("x", "1"), expect) };
    let mut cases = vec![
        timed("t-missing", None, Rejected("no time")),
        // Without a call back no time is needed.
        Case { time: None, ..case("t-missing-unneeded", with("outcome", "\"completed\""), Nothing) },
    ];
    cases.extend(good.map(|(id, time, words)| timed(id, Some(time), Task(words))));
    cases.extend(bad.map(|(id, time)| timed(id, Some(time), Rejected("no time"))));
    cases
}
