//! JSON as signed metadata may have it: integers, no name twice in an object, not too deep.
//!
//! What two readers could read differently must not be signed for, so it is refused before
//! anything is looked at: a name that stands twice (which one counts?), a number with a fraction,
//! an exponent or more than 64 bits (how is it written again?), and nesting that could exhaust a
//! reader's stack.
//!
//! [`canonical`] writes it again in the form that signatures are over (OLPC's canonical JSON):
//! names sorted, no space, and only `"` and `\` escaped.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Objects and arrays in each other. The deepest that the specification has is about eight; the
/// rest is for what operators add.
pub const MAX_DEPTH: usize = 32;

/// Reads one JSON document.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: MAX_DEPTH }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth }),
            None => Err(E::custom(format_args!("deeper than {MAX_DEPTH} levels"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with whole numbers of 64 bits")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(inside)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut object = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(inside)?;
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!("`{name}` stands twice")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// A number that canonical JSON has no form for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a number that is not whole has no canonical form")]
pub struct NotCanonical;

/// The bytes that signatures are over.
pub fn canonical(value: &Value) -> Result<Vec<u8>, NotCanonical> {
    let mut out = Vec::new();
    write(value, quote, &mut out)?;
    Ok(out)
}

/// The bytes of a file: in the canonical order, and JSON for every reader. The canonical form itself
/// is none where a text has control characters, as the PEM of a key has.
pub(super) fn file(value: &Value) -> Result<Vec<u8>, NotCanonical> {
    let mut out = Vec::new();
    write(value, escape, &mut out)?;
    Ok(out)
}

fn write(
    value: &Value,
    quote: fn(&str, &mut Vec<u8>),
    out: &mut Vec<u8>,
) -> Result<(), NotCanonical> {
    match value {
        Value::Null => out.extend(b"null"),
        Value::Bool(true) => out.extend(b"true"),
        Value::Bool(false) => out.extend(b"false"),
        Value::Number(number) if number.is_f64() => return Err(NotCanonical),
        Value::Number(number) => out.extend(number.to_string().bytes()),
        Value::String(text) => quote(text, out),
        Value::Array(list) => {
            out.push(b'[');
            for (n, item) in list.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write(item, quote, out)?;
            }
            out.push(b']');
        }
        Value::Object(object) => {
            // By bytes, which for UTF-8 is by code point; whatever order the map keeps.
            let mut fields: Vec<_> = object.iter().collect();
            fields.sort_by_key(|(name, _)| name.as_bytes());
            out.push(b'{');
            for (n, (name, value)) in fields.into_iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                quote(name, out);
                out.push(b':');
                write(value, quote, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn escape(text: &str, out: &mut Vec<u8>) {
    out.extend(Value::from(text).to_string().bytes());
}

fn quote(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str) -> String {
        let value = parse(text.as_bytes()).unwrap();
        String::from_utf8(canonical(&value).unwrap()).unwrap()
    }

    fn fault(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn the_canonical_form_is_sorted_tight_and_escapes_two_signs_only() {
        assert_eq!(
            again(r#"{ "b": [1, -2, {}], "a": {"é": null, "z": true, "Z": false}, "": [] }"#),
            r#"{"":[],"a":{"Z":false,"z":true,"é":null},"b":[1,-2,{}]}"#
        );
        assert_eq!(
            again(r#""\u0041\n\t\"\\\/\u00e9\ud83d\ude00""#),
            "\"A\n\t\\\"\\\\/é😀\""
        );
        assert_eq!(again("18446744073709551615"), "18446744073709551615");
        assert_eq!(again("-9223372036854775808"), "-9223372036854775808");
    }

    #[test]
    fn a_file_is_json_where_the_canonical_form_is_none() {
        let value = serde_json::json!({"b": "line\none \"q\"", "a": [1, null]});
        let text = file(&value).unwrap();
        assert_eq!(text, br#"{"a":[1,null],"b":"line\none \"q\""}"#);
        assert_eq!(parse(&text).unwrap(), value);
        assert!(parse(&canonical(&value).unwrap()).is_err());
    }

    #[test]
    fn names_are_sorted_by_code_point_not_by_utf_16() {
        // U+FF61 sorts before U+1F600 by code point, after it by UTF-16 unit.
        assert_eq!(again("{\"😀\":1,\"｡\":2}"), "{\"｡\":2,\"😀\":1}");
    }

    #[test]
    fn a_name_that_stands_twice_is_refused_wherever_it_stands() {
        assert!(fault(r#"{"a":1,"a":1}"#).contains("`a` stands twice"));
        assert!(fault(r#"[{"b":{"a":1,"\u0061":2}}]"#).contains("`a` stands twice"));
    }

    #[test]
    fn numbers_that_are_not_whole_or_too_large_are_refused() {
        for text in ["1.0", "1e3", "-0", "18446744073709551616", "1e999", "[0.5]"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        let value = serde_json::json!({"custom": 0.5});
        assert_eq!(canonical(&value), Err(NotCanonical));
    }

    #[test]
    fn nesting_ends_at_its_limit_and_never_in_a_crash() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(fault(&nested(MAX_DEPTH + 1)).contains("deeper than"));
        assert!(parse("[".repeat(1_000_000).as_bytes()).is_err());
        assert!(parse("{\"a\":".repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn what_is_not_one_document_of_utf_8_is_refused() {
        for bytes in [
            &b""[..],
            b"{} {}",
            b"{}x",
            b"\xef\xbb\xbf{}",
            b"\"\xff\"",
            b"\"\\ud800\"",
            b"NaN",
        ] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
        assert!(parse(b" {} \n").is_ok());
    }
}
