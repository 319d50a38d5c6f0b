//! Whether a JSON value is one that a schema lets through.
//!
//! The keywords are those that answers on the appliance are held to
//! ([`SCHEMA_KEYWORDS`](crate::engine::constraint::SCHEMA_KEYWORDS)), with the meaning of JSON
//! Schema: spaces, order and properties without a name in the schema are free. Others are read
//! over: a request with one of them is refused on the appliance before it gets here.
//!
//! Bounded in depth and in steps: a schema that calls itself without taking anything, or takes
//! the same value in too many ways, lets nothing through.

use std::cell::Cell;

use serde_json::{Map, Value, json};

use super::follows;
use crate::engine::protocol::Rule;

/// Schemas inside schemas, references counted.
const MAX_DEPTH: usize = 128;
/// Schemas that are held against values, repetitions counted: an answer has some thousand values.
const MAX_STEPS: u32 = 100_000;

/// Whether the schema lets the value through.
pub(super) fn lets_through(schema: &Value, value: &Value) -> bool {
    let steps = Cell::new(0);
    let whole = schema;
    Check { whole, steps }.passes(schema, value, 0)
}

struct Check<'a> {
    whole: &'a Value,
    steps: Cell<u32>,
}

impl Check<'_> {
    fn passes(&self, schema: &Value, value: &Value, depth: usize) -> bool {
        self.steps.set(self.steps.get() + 1);
        if depth > MAX_DEPTH || self.steps.get() > MAX_STEPS {
            return false;
        }
        let keywords = match schema {
            Value::Bool(all) => return *all,
            Value::Object(keywords) => keywords,
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => return false,
        };
        let mut all = keywords.iter();
        all.all(|(keyword, wanted)| self.keyword(keyword, wanted, keywords, value, depth + 1))
    }

    fn keyword(
        &self,
        keyword: &str,
        wanted: &Value,
        beside: &Map<String, Value>,
        value: &Value,
        depth: usize,
    ) -> bool {
        let passing = |list: &Value| {
            let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
            let passing = list.iter().filter(|it| self.passes(it, value, depth));
            (passing.count(), list.len())
        };
        match keyword {
            "$ref" => {
                let pointer = wanted.as_str().and_then(|it| it.strip_prefix('#'));
                let schema = pointer.and_then(|pointer| self.whole.pointer(pointer));
                schema.is_some_and(|schema| self.passes(schema, value, depth))
            }
            "anyOf" => passing(wanted).0 > 0,
            "oneOf" => passing(wanted).0 == 1,
            "allOf" => passing(wanted).0 == passing(wanted).1,
            "const" => is_same(wanted, value),
            "enum" => any(wanted, |it| is_same(it, value)),
            "type" => {
                let is = |kind: &Value| kind.as_str().is_some_and(|kind| is_kind(kind, value));
                is(wanted) || any(wanted, is)
            }
            _ => match value {
                Value::Object(members) => self.object(keyword, wanted, beside, members, depth),
                Value::Array(items) => self.array(keyword, wanted, beside, items, depth),
                Value::String(text) => string(keyword, wanted, text),
                Value::Number(number) => bound(keyword, wanted, number.as_f64()),
                Value::Null | Value::Bool(_) => true,
            },
        }
    }

    fn object(
        &self,
        keyword: &str,
        wanted: &Value,
        beside: &Map<String, Value>,
        members: &Map<String, Value>,
        depth: usize,
    ) -> bool {
        match keyword {
            "required" => every(wanted, |it| {
                it.as_str().is_some_and(|it| members.contains_key(it))
            }),
            "properties" => members.iter().all(|(name, value)| {
                let schema = wanted.get(name);
                schema.is_none_or(|schema| self.passes(schema, value, depth))
            }),
            "additionalProperties" => members.iter().all(|(name, value)| {
                let named = beside.get("properties").and_then(|it| it.get(name));
                named.is_some() || self.passes(wanted, value, depth)
            }),
            _ => true,
        }
    }

    fn array(
        &self,
        keyword: &str,
        wanted: &Value,
        beside: &Map<String, Value>,
        items: &[Value],
        depth: usize,
    ) -> bool {
        let first = |list: Option<&Value>| list.and_then(Value::as_array).map_or(0, Vec::len);
        match keyword {
            "minItems" => wanted.as_u64().is_some_and(|min| items.len() as u64 >= min),
            "maxItems" => wanted.as_u64().is_some_and(|max| items.len() as u64 <= max),
            "prefixItems" => {
                let schemas = wanted.as_array().map(Vec::as_slice).unwrap_or_default();
                let mut pairs = schemas.iter().zip(items);
                pairs.all(|(schema, item)| self.passes(schema, item, depth))
            }
            "items" => {
                let mut rest = items.iter().skip(first(beside.get("prefixItems")));
                rest.all(|item| self.passes(wanted, item, depth))
            }
            _ => true,
        }
    }
}

fn any(list: &Value, is: impl Fn(&Value) -> bool) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(is))
}

fn every(list: &Value, is: impl Fn(&Value) -> bool) -> bool {
    list.as_array().is_some_and(|list| list.iter().all(is))
}

fn is_kind(kind: &str, value: &Value) -> bool {
    match (kind, value) {
        ("null", Value::Null)
        | ("boolean", Value::Bool(_))
        | ("number", Value::Number(_))
        | ("string", Value::String(_))
        | ("array", Value::Array(_))
        | ("object", Value::Object(_)) => true,
        ("integer", Value::Number(number)) => {
            number.is_i64()
                || number.is_u64()
                || number.as_f64().is_some_and(|it| it.fract() == 0.0)
        }
        _ => false,
    }
}

/// Equal, where 1 and 1.0 are the same number.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn string(keyword: &str, wanted: &Value, text: &str) -> bool {
    let length = || text.chars().count() as u64;
    match keyword {
        "minLength" => wanted.as_u64().is_some_and(|min| length() >= min),
        "maxLength" => wanted.as_u64().is_some_and(|max| length() <= max),
        "pattern" => {
            let rule = Rule::Schema(json!({"type": "string", "pattern": wanted}).to_string());
            follows(&json!(text).to_string(), &rule)
        }
        _ => true,
    }
}

fn bound(keyword: &str, wanted: &Value, number: Option<f64>) -> bool {
    let holds = |is: fn(f64, f64) -> bool| {
        let pair = number.zip(wanted.as_f64());
        pair.is_some_and(|(number, wanted)| is(number, wanted))
    };
    match keyword {
        "minimum" => holds(|number, min| number >= min),
        "maximum" => holds(|number, max| number <= max),
        "exclusiveMinimum" => holds(|number, min| number > min),
        "exclusiveMaximum" => holds(|number, max| number < max),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::constraint::SCHEMA_KEYWORDS;

    /// For each keyword a schema, a value that it lets through, and one that it does not.
    const SAMPLES: [(&str, &str, &str, &str); SCHEMA_KEYWORDS.len()] = [
        ("type", r#"{"type": ["integer", "null"]}"#, "2.0", "2.5"),
        (
            "properties",
            r#"{"properties": {"a": {"type": "string"}}}"#,
            r#"{"a": "x", "b": 1}"#,
            r#"{"a": 1}"#,
        ),
        (
            "required",
            r#"{"required": ["a"]}"#,
            r#"{"a": 1}"#,
            r#"{"b": 1}"#,
        ),
        (
            "additionalProperties",
            r#"{"properties": {"a": true}, "additionalProperties": false}"#,
            r#"{"a": 1}"#,
            r#"{"a": 1, "b": 2}"#,
        ),
        (
            "items",
            r#"{"items": {"type": "null"}}"#,
            "[null]",
            "[null, 1]",
        ),
        (
            "prefixItems",
            r#"{"prefixItems": [{"const": 1}], "items": false}"#,
            "[1]",
            "[2]",
        ),
        ("minItems", r#"{"minItems": 1}"#, "[1]", "[]"),
        ("maxItems", r#"{"maxItems": 1}"#, "[1]", "[1, 2]"),
        ("minLength", r#"{"minLength": 2}"#, r#""äö""#, r#""ä""#),
        ("maxLength", r#"{"maxLength": 1}"#, r#""ä""#, r#""äö""#),
        (
            "pattern",
            r#"{"pattern": "^[A-Z]+-[0-9]$"}"#,
            r#""CNC-7""#,
            r#""CNC-77""#,
        ),
        ("minimum", r#"{"minimum": 2}"#, "2", "1.9"),
        ("maximum", r#"{"maximum": 2}"#, "2", "2.1"),
        ("exclusiveMinimum", r#"{"exclusiveMinimum": 2}"#, "3", "2"),
        ("exclusiveMaximum", r#"{"exclusiveMaximum": 2}"#, "1", "2"),
        ("enum", r#"{"enum": ["a", 1]}"#, "1.0", r#""b""#),
        ("const", r#"{"const": {"a": 1}}"#, r#"{"a": 1}"#, "{}"),
        (
            "anyOf",
            r#"{"anyOf": [{"const": 1}, {"const": 2}]}"#,
            "2",
            "3",
        ),
        (
            "oneOf",
            r#"{"oneOf": [{"minimum": 1}, {"minimum": 5}]}"#,
            "3",
            "6",
        ),
        (
            "allOf",
            r#"{"allOf": [{"minimum": 1}, {"maximum": 5}]}"#,
            "3",
            "6",
        ),
        (
            "$ref",
            r##"{"$ref": "#/$defs/a", "$defs": {"a": {"const": 1}}}"##,
            "1",
            "2",
        ),
    ];

    #[test]
    fn every_keyword_of_the_appliance_has_its_effect() {
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        for keyword in SCHEMA_KEYWORDS {
            let sample = SAMPLES.iter().find(|sample| sample.0 == *keyword);
            let (_, schema, good, bad) = sample.unwrap_or_else(|| panic!("no sample: {keyword}"));
            let schema = json(schema);
            assert!(lets_through(&schema, &json(good)), "{keyword}: {good}");
            assert!(!lets_through(&schema, &json(bad)), "{keyword}: {bad}");
        }
    }

    #[test]
    fn a_schema_that_calls_itself_ends() {
        let list = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        assert!(lets_through(&list, &json!({"next": {"next": {}}})));
        assert!(!lets_through(&list, &json!({"next": 1})));
        let empty = json!({"$ref": "#"});
        assert!(!lets_through(&empty, &json!(1)));
        let wide = json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]});
        assert!(!lets_through(&wide, &json!(1)));
    }
}
