//! Canonical JSON and signed records: one record, one spelling, no free byte.

use coffer_keys::{
    CanonicalError, EnvelopeError, SigningKey, parse_canonical, sign_statement, to_canonical, verify_envelope,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::seeded::Seeded;

const TYPE: &str = "application/vnd.in-toto+json";

fn sample() -> (SigningKey, Value, Vec<u8>) {
    let key = SigningKey::generate(&Seeded::new(1));
    let record = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "differences": 0,
        "sites": ["site-a", "site-b"],
        "note": "zwei Standorte zerst\u{f6}rt",
        "complete": true,
        "missing": null,
    });
    let envelope = sign_statement(&key, "drill-1", TYPE, &record).unwrap();
    (key, record, envelope)
}

#[test]
fn a_record_opens_as_what_was_signed() {
    let (key, record, envelope) = sample();
    assert_eq!(verify_envelope(&envelope, &key.verifying_key(), "drill-1", TYPE), Ok(record));
}

#[test]
fn every_change_of_every_single_byte_fails() {
    let (key, _, envelope) = sample();
    let key = key.verifying_key();
    for at in 0..envelope.len() {
        let mut altered = envelope.clone();
        for value in (0..=255).filter(|value| *value != envelope[at]) {
            altered[at] = value;
            assert!(verify_envelope(&altered, &key, "drill-1", TYPE).is_err(), "byte {at} to {value}");
        }
    }
}

#[test]
fn a_byte_added_or_removed_anywhere_fails() {
    let (key, _, envelope) = sample();
    let key = key.verifying_key();
    for at in 0..=envelope.len() {
        for value in [b' ', b'\n', b'A', b'=', b'0'] {
            let mut longer = envelope.clone();
            longer.insert(at, value);
            assert!(verify_envelope(&longer, &key, "drill-1", TYPE).is_err(), "{value} before {at}");
        }
        if at < envelope.len() {
            let mut shorter = envelope.clone();
            shorter.remove(at);
            assert!(verify_envelope(&shorter, &key, "drill-1", TYPE).is_err(), "without {at}");
        }
    }
}

#[test]
fn another_key_id_type_or_key_is_told_apart() {
    let (key, _, envelope) = sample();
    let public = key.verifying_key();
    let other = SigningKey::generate(&Seeded::new(2)).verifying_key();
    let error = |key, id, kind| verify_envelope(&envelope, key, id, kind).unwrap_err();
    assert!(matches!(error(&public, "drill-2", TYPE), EnvelopeError::KeyId { .. }));
    assert!(matches!(error(&public, "drill-1", "text/plain"), EnvelopeError::PayloadType { .. }));
    assert_eq!(error(&other, "drill-1", TYPE), EnvelopeError::BadSignature);
}

#[test]
fn no_or_two_signatures_and_unknown_members_are_refused() {
    let (key, _, envelope) = sample();
    let public = key.verifying_key();
    let good: Value = serde_json::from_slice(&envelope).unwrap();
    let mut none = good.clone();
    none["signatures"] = json!([]);
    let mut two = good.clone();
    two["signatures"] = json!([good["signatures"][0], good["signatures"][0]]);
    let mut extra = good.clone();
    extra["extra"] = json!(1);
    let mut in_signature = good.clone();
    in_signature["signatures"][0]["cert"] = json!("x");
    for shape in [none, two, extra, in_signature, json!([]), json!({"payload": 1})] {
        let bytes = to_canonical(&shape).unwrap();
        assert_eq!(verify_envelope(&bytes, &public, "drill-1", TYPE), Err(EnvelopeError::Shape));
    }
}

#[test]
fn a_signed_payload_that_is_not_canonical_is_refused() {
    use base64::Engine as _;
    let key = SigningKey::generate(&Seeded::new(1));
    for payload in ["{\"b\":1,\"a\":2}", "{ }", "{\"a\":1.5}", "{\"a\":1,\"a\":1}", "not json"] {
        let signed = format!("DSSEv1 {} {TYPE} {} {payload}", TYPE.len(), payload.len());
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let envelope = json!({
            "payload": encode(payload.as_bytes()),
            "payloadType": TYPE,
            "signatures": [{ "keyid": "k", "sig": encode(&key.sign(signed.as_bytes())) }],
        });
        let bytes = to_canonical(&envelope).unwrap();
        let error = verify_envelope(&bytes, &key.verifying_key(), "k", TYPE).unwrap_err();
        assert!(matches!(error, EnvelopeError::Payload(_)), "{payload}: {error}");
    }
}

#[test]
fn keys_sort_by_utf_16_and_not_by_bytes() {
    // U+10000 starts with the surrogate D800, below U+E000, above it in UTF-8.
    let value = json!({"\u{e000}": 1, "\u{10000}": 2, "": 3, "a": 4, "B": 5});
    let expected = "{\"\":3,\"B\":5,\"a\":4,\"\u{10000}\":2,\"\u{e000}\":1}";
    assert_eq!(to_canonical(&value).unwrap(), expected.as_bytes());
}

#[test]
fn strings_are_escaped_as_rfc_8785_demands() {
    let value = json!("\u{0}\u{8}\t\n\u{b}\u{c}\r\u{1f}\"\\/\u{7f}\u{20ac}\u{2028}");
    let expected = "\"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\\\"\\\\/\u{7f}\u{20ac}\u{2028}\"";
    assert_eq!(to_canonical(&value).unwrap(), expected.as_bytes());
}

#[test]
fn every_other_spelling_of_a_value_is_refused_at_its_byte() {
    let cases: [(&str, usize); 8] = [
        (" 1", 0),
        ("1 ", 1),
        ("{\"a\": 1}", 5),
        ("{\"b\":1,\"a\":2}", 2),
        ("{\"a\":1,\"a\":1}", 6),
        ("\"\\/\"", 1),
        ("\"\\u0041\"", 1),
        ("\"\\u001F\"", 6),
    ];
    for (text, offset) in cases {
        let error = parse_canonical(text.as_bytes());
        assert_eq!(error, Err(CanonicalError::NotCanonical { offset }), "{text}");
    }
}

#[test]
fn numbers_that_some_reader_would_round_are_refused() {
    for text in ["1.0", "1.5", "1e3", "-0", "9007199254740992", "-9007199254740992", "18446744073709551615"] {
        assert!(matches!(parse_canonical(text.as_bytes()), Err(CanonicalError::Number(_))), "{text}");
    }
    for text in ["0", "-1", "9007199254740991", "-9007199254740991"] {
        assert!(parse_canonical(text.as_bytes()).is_ok(), "{text}");
    }
}

#[test]
fn nesting_without_end_is_refused_and_not_followed() {
    let text = "[".repeat(100_000);
    assert!(matches!(parse_canonical(text.as_bytes()), Err(CanonicalError::Syntax { .. })));
    let deep = (0..500).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(to_canonical(&deep), Err(CanonicalError::TooDeep));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-(1i64 << 53) + 1..(1i64 << 53)).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn canonical_bytes_read_back_as_the_value(value in any_value()) {
        prop_assert_eq!(parse_canonical(&to_canonical(&value).unwrap()), Ok(value));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_canonical(&bytes);
    }
}
