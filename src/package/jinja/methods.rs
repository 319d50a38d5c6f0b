//! The filters, tests and methods of Python's texts that chat templates use, with the meter
//! running.

use std::fmt::Write as _;
use std::sync::Arc;

use minijinja::value::{Kwargs, Rest};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters, tests};

use super::operators::{Meter, Outcome, Shape, error};

/// Lists in lists of a value that is written as JSON.
const MAX_JSON_NESTING: usize = 8;

/// Filters that are a method under the same or another name.
const AS_METHODS: [(&str, &str); 11] = [
    ("trim", "strip"),
    ("lower", "lower"),
    ("upper", "upper"),
    ("title", "title"),
    ("capitalize", "capitalize"),
    ("replace", "replace"),
    ("split", "split"),
    ("items", "items"),
    ("safe", "itself"),
    ("string", "itself"),
    ("lines", "splitlines"),
];

/// All of them.
pub(super) fn add(environment: &mut Environment<'_>, meter: &Arc<Meter>) {
    for (name, method) in AS_METHODS {
        let it = Arc::clone(meter);
        environment.add_filter(name, move |value: Value, args: Rest<Value>| {
            call(&it, &value, method, &args)
        });
    }
    let it = Arc::clone(meter);
    environment
        .set_unknown_method_callback(move |_, value, method, args| call(&it, value, method, args));
    for name in ["length", "count"] {
        environment.add_filter(name, |value: Value| {
            let count = value.len();
            count.ok_or_else(|| error(format!("a {} has no length", value.kind())))
        });
    }
    for name in ["default", "d"] {
        environment.add_filter(name, default);
    }
    let it = Arc::clone(meter);
    environment.add_filter("first", move |value: Value| {
        Ok::<_, Error>(it.items(&value)?.first().cloned())
    });
    let it = Arc::clone(meter);
    environment.add_filter("last", move |value: Value| {
        Ok::<_, Error>(it.items(&value)?.last().cloned())
    });
    let it = Arc::clone(meter);
    environment.add_filter("list", move |value: Value| it.items(&value));
    let it = Arc::clone(meter);
    environment.add_filter("join", move |value: Value, between: Option<Value>| {
        join(&it, &value, &between.unwrap_or_else(|| Value::from("")))
    });
    let it = Arc::clone(meter);
    environment.add_filter("tojson", move |value: Value, _: Kwargs| {
        let mut text = String::new();
        json(&it, &value, 0, &mut text)?;
        Ok::<_, Error>(text)
    });
    environment.add_filter("int", |value: Value| match value.as_str() {
        Some(text) => text.trim().parse().unwrap_or(0),
        None => value.as_i64().unwrap_or(0),
    });
    select(environment, meter);
    add_tests(environment, meter);
}

fn select(environment: &mut Environment<'_>, meter: &Arc<Meter>) {
    let it = Arc::clone(meter);
    environment.add_filter(
        "selectattr",
        move |state: &State<'_, '_>,
              value: Value,
              name: String,
              test: Option<String>,
              args: Rest<Value>| {
            let items = Value::from(it.items(&value)?);
            filters::selectattr(state, items, name.into(), test.map(Into::into), args)
        },
    );
    let it = Arc::clone(meter);
    environment.add_filter(
        "rejectattr",
        move |state: &State<'_, '_>,
              value: Value,
              name: String,
              test: Option<String>,
              args: Rest<Value>| {
            let items = Value::from(it.items(&value)?);
            filters::rejectattr(state, items, name.into(), test.map(Into::into), args)
        },
    );
}

fn add_tests(environment: &mut Environment<'_>, meter: &Arc<Meter>) {
    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("none", tests::is_none);
    environment.add_test("string", tests::is_string);
    environment.add_test("number", tests::is_number);
    environment.add_test("integer", tests::is_integer);
    environment.add_test("float", tests::is_float);
    environment.add_test("boolean", tests::is_boolean);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("sequence", tests::is_sequence);
    environment.add_test("iterable", tests::is_iterable);
    environment.add_test("true", tests::is_true);
    environment.add_test("false", tests::is_false);
    environment.add_test("odd", tests::is_odd);
    environment.add_test("even", tests::is_even);
    for name in ["eq", "equalto", "==", "in"] {
        let it = Arc::clone(meter);
        environment.add_test(name, move |value: Value, other: Value| {
            if name == "in" {
                it.contains(&value, &other)
            } else {
                it.is_same(&value, &other)
            }
        });
    }
}

fn default(value: Value, other: Option<Value>, also_false: Option<bool>) -> Value {
    let keep = if also_false == Some(true) {
        value.is_true()
    } else {
        !value.is_undefined()
    };
    if keep {
        value
    } else {
        other.unwrap_or_else(|| Value::from(""))
    }
}

/// A method of a text or a map, as Python has it.
fn call(meter: &Meter, value: &Value, method: &str, args: &[Value]) -> Outcome {
    match Shape::of(value) {
        Shape::Map => map_method(meter, value, method, args),
        Shape::List | Shape::Other => Err(unknown(value, method)),
        Shape::Nothing | Shape::Truth | Shape::Number | Shape::Text => {
            text_method(meter, value, method, args)
        }
    }
}

fn unknown(value: &Value, method: &str) -> Error {
    let what = format!("a {} has no method {method}", value.kind());
    Error::new(ErrorKind::UnknownMethod, what)
}

fn map_method(meter: &Meter, value: &Value, method: &str, args: &[Value]) -> Outcome {
    match (method, args) {
        ("get", [key, rest @ ..]) => {
            let found = value.get_item(key)?;
            let none = || rest.first().cloned().unwrap_or_else(|| Value::from(()));
            Ok(if found.is_undefined() { none() } else { found })
        }
        ("keys", []) => Ok(Value::from(meter.items(value)?)),
        ("values", []) => {
            let keys = meter.items(value)?;
            let values = keys.iter().map(|key| value.get_item(key));
            Ok(Value::from(values.collect::<Outcome<Vec<_>>>()?))
        }
        ("items", []) => {
            let pair = |key: Value| {
                let item = value.get_item(&key)?;
                Ok(Value::from(vec![key, item]))
            };
            let keys = meter.items(value)?;
            let pairs: Outcome<Vec<_>> = keys.into_iter().map(pair).collect();
            Ok(Value::from(pairs?))
        }
        _ => Err(unknown(value, method)),
    }
}

fn text_method(meter: &Meter, value: &Value, method: &str, args: &[Value]) -> Outcome {
    if let ("join", [list]) = (method, args) {
        return join(meter, list, value);
    }
    let text = meter.text(value)?;
    let text = text.as_ref();
    // A letter may become three when its case changes; nothing else here grows but `replace`.
    meter.charge(text.len().saturating_mul(3))?;
    let first = args.first().filter(|it| !it.is_none());
    let first = first.map(|it| meter.text(it)).transpose()?;
    let first = first.as_deref();
    Ok(match (method, first) {
        ("itself", None) => Value::from(text),
        ("strip", None) => Value::from(text.trim()),
        ("lstrip", None) => Value::from(text.trim_start()),
        ("rstrip", None) => Value::from(text.trim_end()),
        ("strip", Some(set)) => Value::from(text.trim_matches(|c| set.contains(c))),
        ("lstrip", Some(set)) => Value::from(text.trim_start_matches(|c| set.contains(c))),
        ("rstrip", Some(set)) => Value::from(text.trim_end_matches(|c| set.contains(c))),
        ("lower", None) => Value::from(text.to_lowercase()),
        ("upper", None) => Value::from(text.to_uppercase()),
        ("capitalize", None) => Value::from(capitalized(text)),
        ("title", None) => {
            let words = text.split(' ').map(capitalized);
            Value::from(words.collect::<Vec<_>>().join(" "))
        }
        ("startswith", Some(part)) => Value::from(text.starts_with(part)),
        ("endswith", Some(part)) => Value::from(text.ends_with(part)),
        ("removeprefix", Some(part)) => Value::from(text.strip_prefix(part).unwrap_or(text)),
        ("removesuffix", Some(part)) => Value::from(text.strip_suffix(part).unwrap_or(text)),
        ("find", Some(part)) => {
            let at = text.find(part).map(|at| text[..at].chars().count());
            Value::from(at.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1))
        }
        ("count", Some(part)) if !part.is_empty() => Value::from(text.matches(part).count()),
        ("splitlines", None) => pieces(meter, text.lines())?,
        ("split", None) => pieces(meter, text.split_whitespace())?,
        ("split", Some(by)) if !by.is_empty() => match args.get(1).and_then(Value::as_usize) {
            Some(most) => pieces(meter, text.splitn(most.saturating_add(1), by))?,
            None => pieces(meter, text.split(by))?,
        },
        ("rsplit", Some(by)) if !by.is_empty() => {
            let most = args.get(1).and_then(Value::as_usize).unwrap_or(usize::MAX);
            let parts: Vec<_> = text.rsplitn(most.saturating_add(1), by).collect();
            pieces(meter, parts.into_iter().rev())?
        }
        ("replace", Some(from)) if !from.is_empty() => {
            let to = args.get(1).ok_or_else(|| unknown(value, method))?;
            let to = meter.text(to)?;
            let hits = text.matches(from).count();
            meter.charge(hits.saturating_mul(to.len()))?;
            Value::from(text.replace(from, &to))
        }
        _ => return Err(unknown(value, method)),
    })
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters.flat_map(char::to_lowercase)).collect()
}

fn pieces<'t>(meter: &Meter, pieces: impl Iterator<Item = &'t str>) -> Outcome {
    let mut list = Vec::new();
    for piece in pieces {
        meter.charge(size_of::<Value>() + piece.len())?;
        list.push(Value::from(piece));
    }
    Ok(Value::from(list))
}

fn join(meter: &Meter, list: &Value, between: &Value) -> Outcome {
    let mut text = String::new();
    for (index, item) in meter.items(list)?.iter().enumerate() {
        if index > 0 {
            text.push_str(&meter.text(between)?);
        }
        text.push_str(&meter.text(item)?);
    }
    Ok(Value::from(text))
}

/// Writes JSON with the spaces that Python puts.
fn json(meter: &Meter, value: &Value, nesting: usize, text: &mut String) -> Outcome<()> {
    if nesting > MAX_JSON_NESTING {
        return Err(error("lists or maps in each other, too deep for JSON"));
    }
    meter.charge(size_of::<Value>())?;
    match Shape::of(value) {
        Shape::Nothing => text.push_str("null"),
        Shape::Truth => text.push_str(if value.is_true() { "true" } else { "false" }),
        Shape::Number => text.push_str(&meter.text(value)?),
        Shape::Text => {
            let plain = meter.text(value)?;
            let quoted = serde_json::Value::from(plain.as_ref());
            let _ = write!(text, "{quoted}"); // a String takes all
        }
        Shape::List => {
            text.push('[');
            for (index, item) in meter.items(value)?.iter().enumerate() {
                text.push_str(if index > 0 { ", " } else { "" });
                json(meter, item, nesting + 1, text)?;
            }
            text.push(']');
        }
        Shape::Map => {
            text.push('{');
            for (index, key) in meter.items(value)?.iter().enumerate() {
                text.push_str(if index > 0 { ", " } else { "" });
                json(meter, key, nesting + 1, text)?;
                text.push_str(": ");
                json(meter, &value.get_item(key)?, nesting + 1, text)?;
            }
            text.push('}');
        }
        Shape::Other => return Err(error("a function is no JSON")),
    }
    Ok(())
}
