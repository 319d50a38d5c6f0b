//! Keywords, one at a time: what they hold, and what is wrong if they do not.

use super::super::expr::Expr;
use super::super::{Excess, RuleFault};
use super::json::Json;
use super::number::{self, Bound};
use super::{ANNOTATIONS, MAX_COUNT, MAX_VALUES, Path, apart};

/// Beside these keywords only annotations may stand.
pub(super) fn alone(
    members: &[(String, Json)],
    these: &[&str],
    path: &Path,
) -> Result<(), RuleFault> {
    let foreign = |key: &str| !these.contains(&key) && !ANNOTATIONS.contains(&key);
    match members.iter().find(|(key, _)| foreign(key)) {
        None => Ok(()),
        Some((key, _)) => {
            let why = format!("`{key}` beside `{}` is not supported", these[0]);
            Err(path.fault(why))
        }
    }
}

/// The types that a schema lets through, by `type` or by what its keywords are about.
pub(super) fn kinds<'a>(schema: &'a Json, path: &Path) -> Result<Vec<&'a str>, RuleFault> {
    if let Some(kinds) = schema.get("type") {
        let kinds = match kinds {
            Json::String(kind) => vec![kind.as_str()],
            list => names(Some(list), path)?,
        };
        let unknown = kinds.iter().find(|kind| !apart::KINDS.contains(kind));
        if let Some(kind) = unknown {
            return Err(path.fault(format!("`{kind}` is no type")));
        }
        return Ok(kinds);
    }
    let about: [(&str, &[&str]); 4] = [
        (
            "object",
            &["properties", "required", "additionalProperties"],
        ),
        ("array", &["items", "prefixItems", "minItems", "maxItems"]),
        ("string", &["minLength", "maxLength", "pattern"]),
        (
            "number",
            &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
        ),
    ];
    let kinds = about
        .into_iter()
        .filter(|(_, keys)| keys.iter().any(|key| schema.get(key).is_some()));
    let kinds: Vec<_> = kinds.map(|(kind, _)| kind).collect();
    Ok(match kinds.is_empty() {
        true => vec!["anything"],
        false => kinds,
    })
}

/// The values of an enum or constant that fit the type beside them.
pub(super) fn values(schema: &Json, path: &Path) -> Result<Expr, RuleFault> {
    let constant = schema.get("const");
    let list = match schema.get("enum") {
        None => constant.into_iter().collect(),
        Some(Json::Array(list)) if list.len() <= MAX_VALUES => list.iter().collect::<Vec<_>>(),
        Some(Json::Array(_)) => return Err(RuleFault::Excess(Excess::Values(MAX_VALUES))),
        Some(_) => return Err(path.fault("`enum` is a list")),
    };
    let kinds = kinds(schema, path)?;
    let fits = |value: &&Json| {
        kinds.iter().any(|kind| apart::is_of_kind(value, kind))
            && constant.is_none_or(|constant| constant.means(value))
    };
    let all = list.into_iter().filter(fits).map(|value| {
        let mut text = String::new();
        value.write(&mut text);
        Expr::text(&text)
    });
    let all: Vec<_> = all.collect();
    match all.is_empty() {
        true => Err(path.fault("none of the values fits")),
        false => Ok(Expr::Alt(all)),
    }
}

pub(super) fn number(schema: &Json, kind: &str, path: &Path) -> Result<Expr, RuleFault> {
    let bound = |key: &str, strict: bool| match schema.get(key) {
        None => Ok(None),
        Some(Json::Number(value)) => match Bound::new(value, strict) {
            Some(bound) => Ok(Some(bound)),
            None => Err(path.fault(format!("`{key}` has too many digits"))),
        },
        Some(_) => Err(path.fault(format!("`{key}` is a number"))),
    };
    let one = |loose: Option<Bound>, strict: Option<Bound>| match (loose, strict) {
        (Some(_), Some(_)) => Err(path.fault("two bounds on one side are not supported")),
        (loose, strict) => Ok(loose.or(strict)),
    };
    let lo = one(bound("minimum", false)?, bound("exclusiveMinimum", true)?)?;
    let hi = one(bound("maximum", false)?, bound("exclusiveMaximum", true)?)?;
    Ok(match kind {
        "integer" => number::integers(lo.as_ref(), hi.as_ref()),
        _ => number::numbers(lo.as_ref(), hi.as_ref()),
    })
}

pub(super) fn count(schema: &Json, key: &str, path: &Path) -> Result<Option<u32>, RuleFault> {
    match schema.get(key) {
        None => Ok(None),
        Some(Json::Number(count)) => match count.as_u64().and_then(|it| u32::try_from(it).ok()) {
            Some(count) if count <= MAX_COUNT => Ok(Some(count)),
            _ => Err(path.fault(format!("`{key}` is a whole number, {MAX_COUNT} at most"))),
        },
        Some(_) => Err(path.fault(format!("`{key}` is a number"))),
    }
}

pub(super) fn ordered(min: Option<u32>, max: Option<u32>, path: &Path) -> Result<(), RuleFault> {
    match (min, max) {
        (Some(min), Some(max)) if min > max => Err(path.fault("more at least than at most")),
        _ => Ok(()),
    }
}

/// A list of texts.
pub(super) fn names<'a>(list: Option<&'a Json>, path: &Path) -> Result<Vec<&'a str>, RuleFault> {
    let items = match list {
        None => return Ok(Vec::new()),
        Some(Json::Array(items)) => items,
        Some(_) => return Err(path.fault("expected a list of texts")),
    };
    let texts = items.iter().map(|item| match item {
        Json::String(text) => Ok(text.as_str()),
        _ => Err(path.fault("expected a list of texts")),
    });
    texts.collect()
}
