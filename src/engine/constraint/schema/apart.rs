//! Whether no value can fit two schemas: what `oneOf` asks, as far as one can see it.

use super::json::Json;

/// The types of JSON Schema.
pub(super) const KINDS: [&str; 7] = [
    "null", "boolean", "integer", "number", "string", "array", "object",
];
/// References that are followed to see what stands behind them.
const MAX_STEPS: usize = 8;

/// Whether a value is of this type; of any, if it is none of them.
pub(super) fn is_of_kind(value: &Json, kind: &str) -> bool {
    if let Json::Number(number) = value
        && kind == "integer"
    {
        return number.as_f64().is_some_and(|value| value.fract() == 0.0);
    }
    kind_of(value) == kind || !KINDS.contains(&kind)
}

fn kind_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

/// Whether no value fits two of these schemas.
pub(super) fn all(whole: &Json, schemas: &[Json]) -> bool {
    let resolved: Option<Vec<&Json>> = schemas.iter().map(|it| resolve(whole, it)).collect();
    let Some(schemas) = resolved else {
        return schemas.len() == 1;
    };
    let mut pairs = schemas.iter().enumerate();
    pairs.all(|(place, a)| schemas[..place].iter().all(|b| two(whole, a, b)))
}

fn two(whole: &Json, a: &Json, b: &Json) -> bool {
    let (kinds_a, kinds_b) = (kinds(a), kinds(b));
    let common = |kind: &&str| kinds_b.iter().any(|other| meet(kind, other));
    let common: Vec<_> = kinds_a.iter().filter(|kind| common(kind)).collect();
    if common.is_empty() {
        return true;
    }
    if let (Some(a), Some(b)) = (constants(a), constants(b)) {
        return !a.iter().any(|a| b.iter().any(|b| a.means(b)));
    }
    // Both may be objects: a property that both must have, and that never is the same in both.
    let only_objects = common.iter().all(|kind| **kind == "object");
    only_objects
        && required(a).any(|name| {
            let property = |of: &'_ Json| {
                let schema = of.get("properties")?.get(name)?.clone();
                let schema = resolve(whole, &schema)?.clone();
                constants(&schema).map(|all| all.into_iter().cloned().collect::<Vec<_>>())
            };
            let both = required(b).any(|other| other == name);
            match (property(a), property(b)) {
                (Some(a), Some(b)) if both => !a.iter().any(|a| b.iter().any(|b| a.means(b))),
                _ => false,
            }
        })
}

fn resolve<'a>(whole: &'a Json, mut schema: &'a Json) -> Option<&'a Json> {
    for _ in 0..MAX_STEPS {
        match schema.get("$ref") {
            None => return Some(schema),
            Some(Json::String(pointer)) => {
                schema = whole.at(pointer.strip_prefix("#/")?.split('/'))?;
            }
            Some(_) => return None,
        }
    }
    None
}

fn kinds(schema: &Json) -> Vec<&str> {
    if let Some(kinds) = schema.get("type") {
        let list = kinds.list().unwrap_or(std::slice::from_ref(kinds));
        let kinds: Option<Vec<&str>> = list.iter().map(Json::text).collect();
        return kinds.unwrap_or_else(|| KINDS.to_vec());
    }
    // What a schema without type lets through is anything.
    let constants = constants(schema).map(|all| all.into_iter().map(kind_of).collect());
    constants.unwrap_or_else(|| KINDS.to_vec())
}

fn meet(a: &str, b: &str) -> bool {
    let numbers = ["integer", "number"];
    a == b || (numbers.contains(&a) && numbers.contains(&b))
}

fn constants(schema: &Json) -> Option<Vec<&Json>> {
    if let Some(constant) = schema.get("const") {
        return Some(vec![constant]);
    }
    Some(schema.get("enum")?.list()?.iter().collect())
}

fn required(schema: &Json) -> impl Iterator<Item = &str> {
    let list = schema.get("required").and_then(Json::list);
    list.unwrap_or(&[]).iter().filter_map(Json::text)
}
