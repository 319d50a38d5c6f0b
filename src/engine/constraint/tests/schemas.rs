//! Schemas: every answer is valid, by a validator that knows nothing of expressions.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn schema(schema: &Value) -> Rule {
    Rule::Schema(schema.to_string())
}

/// Whether a document is valid, by the letter of JSON Schema as far as it is supported.
fn valid(whole: &Value, schema: &Value, value: &Value) -> bool {
    let Some(schema) = schema.as_object() else {
        return schema.as_bool().unwrap();
    };
    schema
        .iter()
        .all(|(key, wanted)| holds(whole, schema, key, wanted, value))
}

fn holds(
    whole: &Value,
    schema: &serde_json::Map<String, Value>,
    key: &str,
    wanted: &Value,
    value: &Value,
) -> bool {
    let all = || wanted.as_array().unwrap().iter();
    let fits = |wanted: &Value, value: &Value| valid(whole, wanted, value);
    let (number, bound) = (value.as_f64(), wanted.as_f64());
    let length = value.as_str().map(|text| text.chars().count() as u64);
    let items = value.as_array().map(Vec::as_slice);
    let first = schema
        .get("prefixItems")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    match key {
        "type" if wanted.is_array() => all().any(|kind| is_of_type(value, kind)),
        "type" => is_of_type(value, wanted),
        "enum" => all().any(|it| same(it, value)),
        "const" => same(wanted, value),
        "anyOf" => all().any(|it| fits(it, value)),
        "oneOf" => all().filter(|it| fits(it, value)).count() == 1,
        "allOf" => all().all(|it| fits(it, value)),
        "$ref" => {
            let pointer = wanted.as_str().unwrap().strip_prefix('#').unwrap();
            fits(whole.pointer(pointer).unwrap(), value)
        }
        "minimum" => number.is_none_or(|it| it >= bound.unwrap()),
        "maximum" => number.is_none_or(|it| it <= bound.unwrap()),
        "exclusiveMinimum" => number.is_none_or(|it| it > bound.unwrap()),
        "exclusiveMaximum" => number.is_none_or(|it| it < bound.unwrap()),
        "minLength" => length.is_none_or(|it| it >= wanted.as_u64().unwrap()),
        "maxLength" => length.is_none_or(|it| it <= wanted.as_u64().unwrap()),
        "minItems" => items.is_none_or(|it| it.len() as u64 >= wanted.as_u64().unwrap()),
        "maxItems" => items.is_none_or(|it| it.len() as u64 <= wanted.as_u64().unwrap()),
        "prefixItems" => items.is_none_or(|items| all().zip(items).all(|(a, b)| fits(a, b))),
        "items" => items.is_none_or(|items| items.iter().skip(first).all(|it| fits(wanted, it))),
        "required" => value
            .as_object()
            .is_none_or(|object| all().all(|name| object.contains_key(name.as_str().unwrap()))),
        "properties" => value.as_object().is_none_or(|object| {
            let properties = wanted.as_object().unwrap();
            object
                .iter()
                .all(|(name, value)| properties.get(name).is_none_or(|it| fits(it, value)))
        }),
        "additionalProperties" if *wanted == json!(false) => {
            let named = |name: &String| {
                schema
                    .get("properties")
                    .is_some_and(|it| it.get(name).is_some())
            };
            value
                .as_object()
                .is_none_or(|object| object.keys().all(named))
        }
        _ => true,
    }
}

fn is_of_type(value: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|it| it.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        _ => value.is_object(),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// Goes random ways; every one that ends is valid and has no spaces. Gives how many ended.
fn walks(rule: &Value, seeds: u64) -> usize {
    let vocabulary = vocabulary();
    let constraint = under(&vocabulary, &schema(rule));
    let ended = (0..seeds)
        .filter_map(|seed| walk(&constraint, seed, 200))
        .map(|tokens| {
            let text = String::from_utf8(text_of(&vocabulary, &tokens)).unwrap();
            let value: Value = match serde_json::from_str(&text) {
                Ok(value) => value,
                Err(error) => panic!("{error}: {text} by {rule}"),
            };
            assert!(valid(rule, rule, &value), "{text} by {rule}");
            let outside: Vec<&str> = text.split('"').step_by(2).collect();
            assert!(
                text.contains('\\') || !outside.concat().contains(' '),
                "{text}"
            );
        });
    ended.count()
}

#[test]
fn every_answer_is_valid() {
    let schemas = [
        json!({"type": "object", "properties": {
            "severity": {"enum": ["low", "medium", "high"]}, "machine": {"type": ["string", "null"], "maxLength": 8},
            "needs_human": {"type": "boolean"}, "value": {"type": "number", "minimum": -3.5, "exclusiveMaximum": 12}},
            "required": ["severity", "needs_human"], "additionalProperties": false}),
        json!({"type": "array", "items": {"type": "integer", "minimum": -20, "maximum": 117}, "minItems": 2, "maxItems": 4}),
        json!({"type": "array", "prefixItems": [{"const": 1}, {"type": "boolean"}], "items": {"type": "null"}, "minItems": 1, "maxItems": 5}),
        json!({"type": "array", "prefixItems": [{"const": 1}, {"type": "boolean"}], "items": false}),
        json!({"type": "array", "prefixItems": [{"const": 1}], "minItems": 3, "maxItems": 3}),
        json!({"oneOf": [
            {"type": "object", "properties": {"kind": {"const": "a"}, "n": {"type": "integer"}}, "required": ["kind", "n"]},
            {"type": "object", "properties": {"kind": {"enum": ["b", "c"]}}, "required": ["kind"]},
            {"type": "null"}, {"const": "x"}]}),
        json!({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 3},
            "left": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}}, "required": ["name", "left"]}}}),
        json!({"type": "object", "properties": {"a": {"allOf": [{"type": "null"}]}, "b": true, "c": {}}}),
        json!({}),
        json!(true),
        json!({"type": "object"}),
        json!({"type": ["array", "object"]}),
        json!({"minLength": 1, "maxLength": 4}),
        json!({"type": ["string", "integer"], "enum": ["a", 1, 1.5, null, "ä\"\n"]}),
        json!({"const": {"a": [1, "x", null, {}], "b": -0.5}}),
        json!({"type": "object", "properties": {"": {"type": "null"}, "a\"b": {"const": 1}, "ä": {"const": 2}}}),
    ];
    for schema in schemas {
        let ended = walks(&schema, 60);
        assert!(ended >= 10, "{ended} by {schema}");
    }
}

#[test]
fn what_a_schema_means_can_be_said() {
    let cases = [
        (
            json!({"type": "string"}),
            vec![r#""""#, r#""ä\"\\\n\u0000😀/""#],
            vec![r#""a"#, "\"\n\"", r#""\q""#, "1"],
        ),
        (
            json!({"type": "string", "minLength": 2, "maxLength": 3}),
            vec![r#""ä😀""#, r#""\n\"a""#],
            vec![r#""a""#, r#""abcd""#],
        ),
        (
            json!({"type": "integer"}),
            vec!["0", "-1", "999999999999999"],
            vec!["-0", "01", "1.0", "1e3", "1000000000000000", "-"],
        ),
        (
            json!({"type": "number"}),
            vec!["0", "-0.5", "1.250", "0.000000001"],
            vec!["-0", "-0.0", "1.", ".5", "1e3", "0.0000000001"],
        ),
        (
            json!({"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}}, "required": ["b"]}),
            vec![
                r#"{"b":2}"#,
                r#"{"a":1,"b":2}"#,
                r#"{"b":2,"c":3}"#,
                r#"{"a":1,"b":2,"c":3}"#,
            ],
            vec![
                "{}",
                r#"{"a":1}"#,
                r#"{"b":2,"a":1}"#,
                r#"{"b":2,}"#,
                r#"{"a":1,"c":3}"#,
                r#"{,"b":2}"#,
                r#"{"b": 2}"#,
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}}}),
            vec!["{}", r#"{"b":2}"#, r#"{"a":1,"b":2}"#],
            vec![r#"{"a":1,}"#],
        ),
        (
            json!({"type": "object", "additionalProperties": false}),
            vec!["{}"],
            vec![r#"{"a":1}"#],
        ),
        (
            json!({"type": "array", "items": {"const": 1}, "maxItems": 0}),
            vec!["[]"],
            vec!["[1]"],
        ),
        (
            json!({"type": "array", "items": {"const": 1}, "minItems": 1}),
            vec!["[1]", "[1,1,1]"],
            vec!["[]", "[1,]", "[1 ,1]"],
        ),
        (
            json!({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": {"const": 3}, "minItems": 1, "maxItems": 3}),
            vec!["[1]", "[1,2]", "[1,2,3]"],
            vec!["[]", "[2]", "[1,3]", "[1,2,3,3]"],
        ),
        (
            json!({"type": "string", "pattern": "^[A-Z]{2}-\\d+$"}),
            vec![r#""AB-1""#, r#""XY-007""#],
            vec![r#""AB-""#, r#""AB-١""#, r#""xAB-1""#],
        ),
        (
            json!({"type": "string", "pattern": "b\\.\\s"}),
            vec![r#""ab. c""#, r#""b.\t""#],
            vec![r#""b.""#, r#""bx ""#],
        ),
        (
            json!({"type": "string", "pattern": "^[\"\\\\\\n[&&]$"}),
            vec![r#""\"""#, r#""\\""#, r#""\n""#, r#""[""#, r#""&""#],
            vec![r#"""""#, r#""a""#],
        ),
        (
            json!({"type": "string", "pattern": "^(?:a|\\u00e4|\\/|[\\w-]x){2}$"}),
            vec![r#""aä""#, r#""//""#, r#""-x9x""#],
            vec![r#""a""#, r#""ax""#],
        ),
        (
            json!({"type": "string", "pattern": "^.\\W$"}),
            vec![r#""aä""#, r#""\" ""#],
            vec![r#""\n ""#, r#""aa""#],
        ),
    ];
    for (rule, right, wrong) in cases {
        let constraint = under(&byte_vocabulary(), &schema(&rule));
        for answer in right {
            assert!(accepts(&constraint, answer), "{answer} by {rule}");
        }
        for answer in wrong {
            assert!(!accepts(&constraint, answer), "{answer} by {rule}");
        }
    }
}

#[test]
fn properties_come_in_the_order_of_the_schema() {
    let text = r#"{"properties":{"z":{"const":1},"a":{"const":2},"m":{"const":3}},"required":["m","a","z"]}"#;
    let constraint = under(&byte_vocabulary(), &Rule::Schema(text.to_owned()));
    assert!(accepts(&constraint, r#"{"z":1,"a":2,"m":3}"#));
    assert!(!accepts(&constraint, r#"{"a":2,"m":3,"z":1}"#));
}

#[test]
fn what_is_not_supported_is_refused_by_keyword_and_place() {
    let cases = [
        (
            json!({"properties": {"a": {"format": "date"}}}),
            "/properties/a",
            "`format`",
        ),
        (json!({"multipleOf": 2}), "#", "`multipleOf`"),
        (json!({"items": {"not": {}}}), "/items", "`not`"),
        (json!({"uniqueItems": true}), "#", "`uniqueItems`"),
        (json!({"patternProperties": {}}), "#", "`patternProperties`"),
        (
            json!({"additionalProperties": {"type": "string"}}),
            "#",
            "true or false",
        ),
        (json!({"required": ["a"]}), "#", "`a` is required"),
        (json!({"type": "strong"}), "#", "`strong` is no type"),
        (json!({"type": 1}), "#", "list of texts"),
        (json!({"anyOf": []}), "/anyOf", "list of schemas"),
        (
            json!({"anyOf": [{}], "type": "null"}),
            "#",
            "`type` beside `anyOf`",
        ),
        (json!({"allOf": [{}, {}]}), "/allOf", "more than one"),
        (
            json!({"oneOf": [{"type": "string"}, {"maxLength": 3}]}),
            "/oneOf",
            "apart",
        ),
        (
            json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}),
            "/oneOf",
            "apart",
        ),
        (
            json!({"oneOf": [{"const": 1}, {"enum": [1.0]}]}),
            "/oneOf",
            "apart",
        ),
        (
            json!({"oneOf": [{"type": "object", "properties": {"k": {"const": 1}}, "required": ["k"]},
                          {"type": "object", "properties": {"k": {"const": 2}}}]}),
            "/oneOf",
            "apart",
        ),
        (json!({"enum": []}), "#", "none of the values"),
        (
            json!({"enum": ["a"], "type": "null"}),
            "#",
            "none of the values",
        ),
        (
            json!({"enum": ["a"], "minLength": 1}),
            "#",
            "`minLength` beside",
        ),
        (
            json!({"pattern": "a", "maxLength": 1}),
            "#",
            "together with a length",
        ),
        (json!({"pattern": "a\\b"}), "/pattern", "not supported"),
        (json!({"pattern": "(?i)a"}), "/pattern", "only `(?:`"),
        (json!({"pattern": "^a|b$"}), "/pattern", "at the end"),
        (json!({"pattern": "("}), "/pattern", "unclosed"),
        (json!({"pattern": "[a--b]"}), "/pattern", "two `-`"),
        (json!({"minLength": -1}), "#", "whole number"),
        (
            json!({"minLength": 3, "maxLength": 2}),
            "#",
            "at least than at most",
        ),
        (json!({"minimum": 1e40}), "#", "too many digits"),
        (json!({"minimum": 0.0000000001}), "#", "too many digits"),
        (
            json!({"minimum": 1, "exclusiveMinimum": 1}),
            "#",
            "two bounds",
        ),
        (
            json!({"prefixItems": [{}], "items": false, "minItems": 2}),
            "#",
            "more `minItems`",
        ),
        (json!({"$ref": "#/nowhere"}), "#/$ref", "leads to nothing"),
        (json!({"$ref": "other.json"}), "#/$ref", "leads to nothing"),
        (
            json!({"properties": {"a": false}}),
            "/properties/a",
            "nothing through",
        ),
        (json!(7), "#", "a schema is"),
    ];
    for (rule, wanted, why) in cases {
        match refusal(&schema(&rule)) {
            RuleFault::Schema { path, why: told } => {
                assert!(
                    path.ends_with(wanted) && told.contains(why),
                    "{rule}: {path} {told}"
                );
            }
            other => panic!("{rule}: {other}"),
        }
    }
    let twice = RuleFault::to_string(&refusal(&Rule::Schema(
        r#"{"type":"null","type":"null"}"#.to_owned(),
    )));
    assert!(twice.contains("`type` stands twice"), "{twice}");
    assert!(matches!(
        refusal(&schema(&json!({"minimum": 3, "maximum": 2}))),
        RuleFault::Endless(_)
    ));
}

fn bounded() -> impl Strategy<Value = Value> {
    let bound = prop_oneof![
        (-30..30_i64).prop_map(|it| json!(it)),
        (-3000..3000_i64).prop_map(|it| json!(it)),
        (-300..300_i32).prop_map(|it| json!(f64::from(it) / 100.0)),
        (-300..300_i32).prop_map(|it| json!(f64::from(it) / 10.0)),
    ];
    let side = |keys: [&'static str; 2]| {
        let key = proptest::sample::select(keys.to_vec());
        proptest::option::of((key, bound.clone()))
    };
    let kind = proptest::sample::select(vec!["integer", "number"]);
    (
        kind,
        side(["minimum", "exclusiveMinimum"]),
        side(["maximum", "exclusiveMaximum"]),
    )
        .prop_map(|(kind, lo, hi)| {
            let mut schema = json!({"type": kind});
            for (key, bound) in [lo, hi].into_iter().flatten() {
                schema[key] = bound;
            }
            schema
        })
}

fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "null"})),
        Just(json!({"type": "boolean"})),
        Just(json!({"enum": ["a", 1, null]})),
        (0..3_u32, 0..4_u32).prop_map(
            |(min, more)| json!({"type": "string", "minLength": min, "maxLength": min + more})
        ),
        bounded(),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let members = proptest::collection::vec((inner.clone(), any::<bool>()), 0..5);
        prop_oneof![
            members.prop_map(|members| {
                let mut schema = json!({"type": "object", "properties": {}, "required": [], "additionalProperties": false});
                for (place, (member, required)) in members.into_iter().enumerate() {
                    let name = format!("p{place}");
                    schema["properties"][&name] = member;
                    if required {
                        schema["required"].as_array_mut().unwrap().push(json!(name));
                    }
                }
                schema
            }),
            (inner.clone(), 0..3_u32, proptest::option::of(0..3_u32)).prop_map(|(items, min, more)| {
                let mut schema = json!({"type": "array", "items": items, "minItems": min});
                if let Some(more) = more {
                    schema["maxItems"] = json!(min + more);
                }
                schema
            }),
            (proptest::collection::vec(inner.clone(), 0..3), inner.clone(), 0..3_u32).prop_map(
                |(first, rest, min)| json!({"type": "array", "prefixItems": first, "items": rest, "minItems": min, "maxItems": min + 2}),
            ),
            proptest::collection::vec(inner, 1..3).prop_map(|all| json!({"anyOf": all})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What the bounds let through can be said, and nothing else.
    #[test]
    fn bounds_of_numbers_are_exact(rule in bounded(), numbers in proptest::collection::vec(-3100..3100_i32, 60)) {
        let constraint = match Compiler::new(byte_vocabulary()).compile(&schema(&rule)) {
            Ok(constraint) => Some(constraint),
            Err(RuleFault::Endless(_)) => None,
            Err(fault) => panic!("{fault}: {rule}"),
        };
        let near = rule.as_object().unwrap().values().filter_map(Value::as_f64);
        let near = near.flat_map(|it| [it, it - 1.0, it + 1.0, it.floor(), it.ceil(), it - 0.01, it + 0.01]);
        let more = numbers.iter().flat_map(|&it| {
            let it = f64::from(it);
            [it, it / 10.0, it / 100.0]
        });
        for number in near.chain(more).chain([0.0]) {
            // Two digits, so that what is computed above is what is written.
            let short = format!("{number:.2}");
            let trimmed = short.trim_end_matches('0').trim_end_matches('.');
            for text in [short.as_str(), trimmed, &format!("{short}0")] {
                let value: Value = serde_json::from_str(text).unwrap();
                let is_said_so = !text.starts_with("-0") || text.bytes().any(|b| (b'1'..=b'9').contains(&b));
                let whole_form = rule["type"] != "integer" || !text.contains('.');
                let wanted = valid(&rule, &rule, &value) && is_said_so && whole_form;
                let taken = constraint.as_ref().is_some_and(|it| accepts(it, text));
                prop_assert_eq!(taken, wanted, "{} by {}", text, rule);
            }
        }
    }

    #[test]
    fn answers_to_schemas_that_are_made_up_are_valid(rule in any_schema()) {
        match Compiler::new(vocabulary()).compile(&schema(&rule)) {
            Ok(_) => {
                walks(&rule, 12);
            }
            Err(RuleFault::Endless(_)) => {}
            Err(fault) => prop_assert!(false, "{fault}: {rule}"),
        }
    }
}
