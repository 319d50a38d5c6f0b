//! As much of JSON Schema as the console's schema uses.

use serde_json::Value;

const KNOWN: [&str; 15] = [
    "$schema",
    "title",
    "$defs",
    "$ref",
    "oneOf",
    "type",
    "required",
    "properties",
    "additionalProperties",
    "items",
    "prefixItems",
    "enum",
    "const",
    "minimum",
    "data",
];

/// The schema in the repository.
pub struct Schema(Value);

impl Schema {
    pub fn read() -> Self {
        let text = include_str!("../../src/console/schema.json");
        Self(serde_json::from_str(text).unwrap())
    }

    /// Another one.
    #[allow(dead_code, reason = "not every test that includes this has one")]
    pub fn of(schema: Value) -> Self {
        Self(schema)
    }

    /// Whether a value is of it.
    #[allow(dead_code, reason = "as above")]
    pub fn holds(&self, value: &Value) -> Result<(), String> {
        self.fits(&self.0, value)
    }

    /// Whether a command has a form for its data.
    pub fn knows(&self, command: &str) -> bool {
        self.0["$defs"].get(command).is_some()
    }

    /// Holds a line against the schema, and its data against that of the command.
    pub fn check(&self, command: &str, line: &Value) {
        self.fits(&self.0, line)
            .unwrap_or_else(|why| panic!("{command}: {why}: {line}"));
        if line["ok"] == true {
            let form = &self.0["$defs"][command];
            assert!(form.is_object(), "{command} has no form");
            let fits = self.fits(form, &line["data"]);
            fits.unwrap_or_else(|why| panic!("{command}: {why}: {line}"));
        }
    }

    fn fits(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let rules = schema.as_object().unwrap();
        for (rule, wanted) in rules {
            assert!(KNOWN.contains(&rule.as_str()), "{rule} is not checked");
            let holds = match rule.as_str() {
                "$ref" => {
                    let name = wanted.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                    self.fits(&self.0["$defs"][name], value)?;
                    true
                }
                "oneOf" => {
                    let forms = wanted.as_array().unwrap().iter();
                    forms.filter(|form| self.fits(form, value).is_ok()).count() == 1
                }
                "type" => match wanted.as_array() {
                    Some(kinds) => kinds.iter().any(|kind| is(kind, value)),
                    None => is(wanted, value),
                },
                "required" => wanted
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|key| value.get(key.as_str().unwrap()).is_some()),
                "properties" => {
                    for (key, form) in wanted.as_object().unwrap() {
                        if let Some(value) = value.get(key) {
                            self.fits(form, value)
                                .map_err(|why| format!("{key}: {why}"))?;
                        }
                    }
                    true
                }
                "additionalProperties" => {
                    let own = schema["properties"].as_object().unwrap();
                    let keys = value.as_object();
                    keys.is_none_or(|it| it.keys().all(|key| own.contains_key(key)))
                }
                "items" => {
                    for item in value.as_array().into_iter().flatten() {
                        self.fits(wanted, item)?;
                    }
                    true
                }
                "prefixItems" => {
                    let forms = wanted.as_array().unwrap();
                    for (form, item) in forms.iter().zip(value.as_array().into_iter().flatten()) {
                        self.fits(form, item)?;
                    }
                    value
                        .as_array()
                        .is_none_or(|items| items.len() == forms.len())
                }
                "enum" => wanted.as_array().unwrap().contains(value),
                "const" => wanted == value,
                "minimum" => value.as_f64() >= wanted.as_f64(),
                _ => true,
            };
            if !holds {
                return Err(format!("{rule} {wanted} does not hold"));
            }
        }
        Ok(())
    }
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        kind => panic!("{kind} is not checked"),
    }
}

#[test]
fn a_line_that_is_none_is_a_fault() {
    let schema = Schema::read();
    let fits = |line: Value| schema.fits(&schema.0, &line).is_ok();
    assert!(fits(serde_json::json!({"ok": true, "data": {}})));
    assert!(fits(
        serde_json::json!({"ok": false, "error": {"code": "syntax", "message": "x"}})
    ));
    assert!(!fits(serde_json::json!({"ok": true})));
    assert!(!fits(
        serde_json::json!({"ok": false, "error": {"code": "new", "message": "x"}})
    ));
    assert!(!fits(
        serde_json::json!({"ok": true, "data": {}, "more": 1})
    ));
    let requests = &schema.0["$defs"]["requests"];
    let bad = serde_json::json!({"requests": [{"id": 7}], "looked_at": 1});
    assert!(schema.fits(requests, &bad).is_err());
}
