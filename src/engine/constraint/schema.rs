//! JSON schemas as expressions.
//!
//! What is supported, keyword by keyword:
//!
//! - `type`: one of the seven, or a list of them. Without it, what the other keywords are about;
//!   without those, any JSON.
//! - Objects: `properties` in their order, `required`, `additionalProperties` as `false` or
//!   `true` (an answer never has any where `properties` are named). Without `properties`: any
//!   object.
//! - Arrays: `items`, `prefixItems` with `items` behind them, `minItems`, `maxItems`.
//! - Strings: `minLength`, `maxLength`, or `pattern` (not both): groups, classes and shorthands
//!   of ECMAScript; `^` and `$` at the ends only.
//! - Numbers: `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`; answers have at most
//!   15 digits before the point, 9 behind it, and no exponent.
//! - `enum` and `const`, beside `type` only, and byte for byte as the schema writes them.
//! - `anyOf`; `oneOf` where no value can fit two branches, as far as types, constants and
//!   required constant properties tell; `allOf` of one; `$ref` within the schema, recursive ones
//!   too. Beside these only annotations.
//! - Annotations (`title`, `description`, `default`, …) are read over.
//!
//! Everything else is refused by name and place: an answer that only seems to fit is worse than
//! a refusal.

mod apart;
mod json;
mod keywords;
mod number;
mod text;

use std::collections::HashMap;

use super::expr::{Expr, Member, Presence, Rules};
use super::{Excess, RuleFault};
use json::{Json, quoted};
use keywords::{alone, count, kinds, names, number, ordered, values};

/// Keywords of JSON Schema that have an effect here.
pub const SCHEMA_KEYWORDS: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
];
/// Keywords that say nothing about what is valid.
const ANNOTATIONS: &[&str] = &[
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
];
/// Schemas inside schemas: forms of people are three or four deep.
pub(super) const MAX_DEPTH: usize = 32;
/// Schemas in one, references counted once: a large form has hundreds.
pub(super) const MAX_SCHEMAS: usize = 2000;
/// Values of one enum.
pub(super) const MAX_VALUES: usize = 1024;
/// Items of an array that have a schema each.
pub(super) const MAX_PLACES: usize = 64;
/// Bound of a length or count.
pub(super) const MAX_COUNT: u32 = 2000;

/// The expressions of a schema.
pub(super) fn parse(text: &str) -> Result<Rules, RuleFault> {
    let schema: Json = serde_json::from_str(text).map_err(|error| RuleFault::Schema {
        path: "#".to_owned(),
        why: error.to_string(),
    })?;
    let mut rules = Rules::single(Expr::empty());
    let character = text::add_character_rule(&mut rules);
    let mut reader = Reader {
        whole: &schema,
        rules,
        character,
        anything: None,
        references: HashMap::new(),
        open: Vec::new(),
        schemas: 0,
    };
    let root = reader.reference("#", "#")?;
    // References are read one after the other, not inside each other: a chain of them is no depth.
    while let Some((rule, pointer, schema)) = reader.open.pop() {
        let path = Path {
            text: pointer.clone(),
            depth: 0,
        };
        reader.rules.list[rule] = (pointer, reader.schema(schema, &path)?);
    }
    reader.rules.list[0].1 = root;
    Ok(reader.rules)
}

struct Reader<'a> {
    whole: &'a Json,
    rules: Rules,
    /// One character of a string.
    character: Expr,
    /// Any JSON, once something asked for it.
    anything: Option<Expr>,
    references: HashMap<String, usize>,
    /// References that are still to be read.
    open: Vec<(usize, String, &'a Json)>,
    schemas: usize,
}

/// Where a schema stands.
struct Path {
    text: String,
    depth: usize,
}

impl Path {
    fn to(&self, step: &str) -> Self {
        Self {
            text: format!("{}/{step}", self.text),
            depth: self.depth + 1,
        }
    }

    fn fault(&self, why: impl Into<String>) -> RuleFault {
        RuleFault::Schema {
            path: self.text.clone(),
            why: why.into(),
        }
    }
}

impl<'a> Reader<'a> {
    fn schema(&mut self, schema: &'a Json, path: &Path) -> Result<Expr, RuleFault> {
        self.schemas += 1;
        if self.schemas > MAX_SCHEMAS {
            return Err(RuleFault::Excess(Excess::Schemas(MAX_SCHEMAS)));
        }
        if path.depth > 2 * MAX_DEPTH {
            return Err(RuleFault::Excess(Excess::Depth(MAX_DEPTH)));
        }
        let members = match schema {
            Json::Bool(true) => return self.anything(),
            Json::Bool(false) => return Err(path.fault("`false` lets nothing through")),
            Json::Object(members) => members,
            _ => return Err(path.fault("a schema is an object, `true` or `false`")),
        };
        let supported = |key: &str| SCHEMA_KEYWORDS.contains(&key) || ANNOTATIONS.contains(&key);
        if let Some((key, _)) = members.iter().find(|(key, _)| !supported(key)) {
            let list = SCHEMA_KEYWORDS.join(", ");
            return Err(path.fault(format!("`{key}` is not supported; supported are {list}")));
        }
        for whole in ["$ref", "anyOf", "oneOf", "allOf"] {
            if let Some(value) = schema.get(whole) {
                alone(members, &[whole], path)?;
                return self.combined(whole, value, &path.to(whole));
            }
        }
        if schema.get("enum").is_some() || schema.get("const").is_some() {
            alone(members, &["enum", "const", "type"], path)?;
            return values(schema, path);
        }
        let mut all = Vec::new();
        for kind in kinds(schema, path)? {
            all.push(match kind {
                "null" => Expr::text("null"),
                "boolean" => Expr::Alt(vec![Expr::text("true"), Expr::text("false")]),
                "integer" | "number" => number(schema, kind, path)?,
                "string" => self.string(schema, path)?,
                "array" => self.array(schema, path)?,
                "object" => self.object(schema, path)?,
                _ => return self.anything(),
            });
        }
        Ok(match all.len() {
            1 => all.swap_remove(0),
            _ => Expr::Alt(all),
        })
    }

    fn combined(&mut self, how: &str, value: &'a Json, path: &Path) -> Result<Expr, RuleFault> {
        let list = match (how, value) {
            ("$ref", Json::String(pointer)) => return self.reference(pointer, &path.text),
            ("$ref", _) => return Err(path.fault("a reference is a text")),
            (_, Json::Array(list)) if !list.is_empty() => list,
            _ => return Err(path.fault("it is a list of schemas")),
        };
        if how == "allOf" && list.len() > 1 {
            return Err(path.fault("of more than one is not supported: write it as one"));
        }
        if how == "oneOf" && !apart::all(self.whole, list) {
            let why = "nothing tells all branches apart: give each another type or a required \
                       constant property, or use anyOf";
            return Err(path.fault(why));
        }
        let all = list.iter().enumerate();
        let all = all.map(|(place, schema)| self.schema(schema, &path.to(&place.to_string())));
        Ok(Expr::Alt(all.collect::<Result<_, _>>()?))
    }

    /// A call of what the pointer leads to.
    fn reference(&mut self, pointer: &str, path: &str) -> Result<Expr, RuleFault> {
        if let Some(&rule) = self.references.get(pointer) {
            return Ok(Expr::Call(rule));
        }
        let steps = match pointer.strip_prefix('#') {
            Some("") => Some(None),
            Some(steps) => steps.strip_prefix('/').map(Some),
            None => None,
        };
        let steps = steps.filter(|_| !pointer.contains('%'));
        let found = steps.and_then(|steps| {
            let steps = steps.into_iter().flat_map(|steps| steps.split('/'));
            self.whole.at(steps)
        });
        let Some(schema) = found else {
            return Err(RuleFault::Schema {
                path: path.to_owned(),
                why: format!("`{pointer}` leads to nothing in this schema"),
            });
        };
        let rule = self.rules.list.len();
        self.rules.list.push((pointer.to_owned(), Expr::empty()));
        self.references.insert(pointer.to_owned(), rule);
        self.open.push((rule, pointer.to_owned(), schema));
        Ok(Expr::Call(rule))
    }

    fn string(&mut self, schema: &Json, path: &Path) -> Result<Expr, RuleFault> {
        let min = count(schema, "minLength", path)?;
        let max = count(schema, "maxLength", path)?;
        let Some(pattern) = schema.get("pattern") else {
            let body = self.character.clone().times(min.unwrap_or(0), max);
            ordered(min, max, path)?;
            return Ok(Expr::Seq(vec![Expr::text("\""), body, Expr::text("\"")]));
        };
        if min.is_some() || max.is_some() {
            return Err(path.fault("`pattern` together with a length is not supported"));
        }
        let Json::String(pattern) = pattern else {
            return Err(path.to("pattern").fault("a pattern is a text"));
        };
        text::matching(pattern, &self.character).map_err(|fault| match fault {
            RuleFault::Regex(why) => path.to("pattern").fault(why),
            other => other,
        })
    }

    fn array(&mut self, schema: &'a Json, path: &Path) -> Result<Expr, RuleFault> {
        let min = count(schema, "minItems", path)?;
        let max = count(schema, "maxItems", path)?;
        ordered(min, max, path)?;
        let none = &[][..];
        let first = match schema.get("prefixItems") {
            None => none,
            Some(Json::Array(first)) if first.len() <= MAX_PLACES => first,
            Some(_) => {
                let why = format!("`prefixItems` is a list of schemas, {MAX_PLACES} at most");
                return Err(path.fault(why));
            }
        };
        let mut members = Vec::new();
        for (place, item) in first.iter().enumerate() {
            let path = path.to("prefixItems").to(&place.to_string());
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            if max.is_none_or(|max| place < max) {
                members.push(self.schema(item, &path)?);
            }
        }
        let there = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let rest = match schema.get("items") {
            Some(Json::Bool(false)) => None,
            // What is not named never comes, unless nothing is named at all.
            None if !first.is_empty() && min.unwrap_or(0) <= there => None,
            None => Some(self.anything()?),
            Some(items) => Some(self.schema(items, &path.to("items"))?),
        };
        let rest_min = min.unwrap_or(0).saturating_sub(there);
        if rest.is_none() && rest_min > 0 {
            return Err(path.fault("more `minItems` than there are items"));
        }
        let rest = rest.map(|of| Expr::Repeat {
            of: Box::new(of),
            between: b",".to_vec(),
            min: rest_min.max(1),
            max: max.map(|max| max.saturating_sub(there)),
        });
        let body = sequence(members, rest, min.unwrap_or(0), rest_min > 0);
        Ok(Expr::Seq(vec![Expr::text("["), body, Expr::text("]")]))
    }

    fn object(&mut self, schema: &'a Json, path: &Path) -> Result<Expr, RuleFault> {
        let closed = match schema.get("additionalProperties") {
            None | Some(Json::Bool(true)) => false,
            Some(Json::Bool(false)) => true,
            Some(_) => {
                return Err(path.fault("`additionalProperties` can only be true or false"));
            }
        };
        let properties = match schema.get("properties") {
            None => &[][..],
            Some(Json::Object(properties)) => properties,
            Some(_) => return Err(path.fault("`properties` is an object")),
        };
        let required = names(schema.get("required"), path)?;
        let is_named = |name: &&str| properties.iter().any(|(key, _)| key == name);
        if let Some(name) = required.iter().find(|name| !is_named(name)) {
            return Err(path.fault(format!("`{name}` is required but not in `properties`")));
        }
        if properties.is_empty() && !closed {
            return self.any_object();
        }
        let mut members = Vec::new();
        for (name, schema) in properties {
            let value = self.schema(schema, &path.to("properties").to(name))?;
            members.push(Member {
                expr: Expr::Seq(vec![Expr::text(&format!("{}:", quoted(name))), value]),
                presence: match required.contains(&name.as_str()) {
                    true => Presence::Required,
                    false => Presence::Optional,
                },
            });
        }
        let members = Expr::Members(members, b",".to_vec());
        Ok(Expr::Seq(vec![Expr::text("{"), members, Expr::text("}")]))
    }

    fn any_object(&mut self) -> Result<Expr, RuleFault> {
        let value = self.anything()?;
        Ok(any_object(&self.character, value))
    }

    /// Any JSON: a rule of its own, which calls itself.
    fn anything(&mut self) -> Result<Expr, RuleFault> {
        if let Some(call) = &self.anything {
            return Ok(call.clone());
        }
        let call = Expr::Call(self.rules.list.len());
        self.rules.list.push(("anything".to_owned(), Expr::empty()));
        self.anything = Some(call.clone());
        let items = list(call.clone());
        let body = Expr::Alt(vec![
            Expr::text("null"),
            Expr::text("true"),
            Expr::text("false"),
            number::numbers(None, None),
            any_string(&self.character),
            Expr::Seq(vec![Expr::text("["), items, Expr::text("]")]),
            any_object(&self.character, call.clone()),
        ]);
        if let Expr::Call(rule) = call {
            self.rules.list[rule].1 = body;
        }
        Ok(call)
    }
}

fn any_string(character: &Expr) -> Expr {
    let body = character.clone().times(0, None);
    Expr::Seq(vec![Expr::text("\""), body, Expr::text("\"")])
}

fn any_object(character: &Expr, value: Expr) -> Expr {
    let member = Expr::Seq(vec![any_string(character), Expr::text(":"), value]);
    Expr::Seq(vec![Expr::text("{"), list(member), Expr::text("}")])
}

/// Any number of these, with commas.
fn list(of: Expr) -> Expr {
    Expr::Repeat {
        of: Box::new(of),
        between: b",".to_vec(),
        min: 0,
        max: None,
    }
}

/// The first items by place, then the rest; each item after the first `min` may be the last.
fn sequence(first: Vec<Expr>, rest: Option<Expr>, min: u32, rest_required: bool) -> Expr {
    let rest_fits = |rest: &Expr| !matches!(rest, Expr::Repeat { max: Some(0), .. });
    let mut after = rest.filter(rest_fits).map(|rest| (rest, rest_required));
    for (place, item) in first.into_iter().enumerate().rev() {
        let tail = match after {
            None => Expr::empty(),
            Some((rest, required)) => {
                let tail = Expr::Seq(vec![Expr::text(","), rest]);
                if required { tail } else { tail.optional() }
            }
        };
        let is_required = u32::try_from(place).is_ok_and(|place| place < min);
        after = Some((Expr::Seq(vec![item, tail]), is_required));
    }
    match after {
        None => Expr::empty(),
        Some((all, true)) => all,
        Some((all, false)) => all.optional(),
    }
}
