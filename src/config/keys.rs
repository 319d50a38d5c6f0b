//! A document held against the table of keys.
//!
//! Every deviation becomes a fault of its own, with the nearest known key where a slip of the
//! fingers explains it. The value of an unknown key is never shown: it may be a misspelt secret.

use std::ops::RangeInclusive;

use toml::Value;
use toml::de::{DeArray, DeTable, DeValue};

use crate::fault::{self, Fault, Lines, NOT_SET, Place, did_you_mean, nearest, shortened};

use super::entries;
use super::fault::{Faults, HIDDEN};
use super::file::{CELSIUS, CLASSIFICATIONS, EXCEPTION_KEYS, KEYS, Key, Kind};

/// A document's value for a key, within the key's kind.
pub(super) struct Found {
    pub(super) key: &'static str,
    pub(super) value: Value,
    pub(super) place: Place,
    /// Where each entry of a list stands.
    pub(super) entries: Vec<Place>,
}

/// Returns what fits and notes what does not.
pub(super) fn hold_against_table(
    document: &DeTable<'_>,
    lines: &Lines<'_>,
    faults: &mut Faults,
) -> Vec<Found> {
    let mut found = Vec::new();
    for (section, body) in document {
        let place = lines.place(section.span().start);
        let section = section.get_ref();
        // A list of tables at the top is a key by itself.
        if let Some(key) = find_whole(section) {
            take(key, body.get_ref(), &place, lines, faults, &mut found);
            continue;
        }
        if !sections().any(|known| known == section) {
            faults.add(unknown_section(section, body.get_ref(), place));
            continue;
        }
        let DeValue::Table(body) = body.get_ref() else {
            faults.add(Fault {
                key: section.to_string(),
                value: HIDDEN.into(),
                wanted: format!("a section: [{section}]"),
                place: Some(place),
            });
            continue;
        };
        for (name, value) in body {
            let place = lines.place(name.span().start);
            let name = name.get_ref();
            let Some(key) = find(section, name) else {
                faults.add(unknown_key(section, name, place));
                continue;
            };
            take(key, value.get_ref(), &place, lines, faults, &mut found);
        }
    }
    found
}

/// Takes the value of a key if it fits, or notes why not.
fn take(
    key: &Key,
    value: &DeValue<'_>,
    place: &Place,
    lines: &Lines<'_>,
    faults: &mut Faults,
    found: &mut Vec<Found>,
) {
    let items = value.as_array().into_iter().flatten();
    let entries = items.map(|item| lines.place(item.span().start)).collect();
    match fit(key.kind, value, lines) {
        Ok(value) => found.push(Found {
            key: key.name,
            value,
            place: place.clone(),
            entries,
        }),
        Err(misfits) => misfits.into_iter().for_each(|misfit| {
            faults.add(Fault {
                key: format!("{}{}", key.name, misfit.below),
                value: misfit.value,
                wanted: misfit.wanted,
                place: Some(misfit.place.unwrap_or_else(|| place.clone())),
            });
        }),
    }
}

/// A value that is not of its key's kind.
pub(super) struct Misfit {
    /// Where below the key; empty for the key itself.
    pub(super) below: String,
    pub(super) value: String,
    pub(super) wanted: String,
    pub(super) place: Option<Place>,
}

/// A key's value, if it is of the key's kind.
pub(super) fn fit(
    kind: Kind,
    value: &DeValue<'_>,
    lines: &Lines<'_>,
) -> Result<Value, Vec<Misfit>> {
    let misfit = |shown: String| {
        Err(vec![Misfit {
            below: String::new(),
            value: shown,
            wanted: wanted(kind, value),
            place: None,
        }])
    };
    match (kind, value) {
        (Kind::Text | Kind::Path | Kind::SecretPath, DeValue::String(text))
            if !text.is_empty() && !text.contains('\0') =>
        {
            Ok(Value::String(text.to_string()))
        }
        (Kind::Word(words), DeValue::String(word)) if words.contains(&word.as_ref()) => {
            Ok(Value::String(word.to_string()))
        }
        (Kind::NumberOr { word, .. }, DeValue::String(given)) if given == word => {
            Ok(Value::String(word.to_owned()))
        }
        (
            Kind::Number { min, max, .. } | Kind::NumberOr { min, max, .. },
            DeValue::Integer(number),
        ) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
            Ok(_) | Err(_) => misfit(number.to_string()),
        },
        (Kind::Texts, DeValue::Array(items)) => match texts(items) {
            Some(texts) => Ok(Value::Array(texts)),
            None => misfit(shown_raw(value)),
        },
        (Kind::OneOrMore, DeValue::String(text)) if !text.is_empty() => {
            Ok(Value::String(text.to_string()))
        }
        (Kind::OneOrMore, DeValue::Array(items)) if !items.is_empty() => match texts(items) {
            Some(texts) => Ok(Value::Array(texts)),
            None => misfit(shown_raw(value)),
        },
        (Kind::Words(words), DeValue::String(word)) if words.contains(&word.as_ref()) => {
            Ok(Value::String(word.to_string()))
        }
        (Kind::Words(words), DeValue::Array(items)) if !items.is_empty() => match texts(items) {
            Some(texts) if all_among(&texts, words) => Ok(Value::Array(texts)),
            Some(texts) => misfit(short(&Value::Array(texts))),
            None => misfit(shown_raw(value)),
        },
        (Kind::Truth, DeValue::Boolean(yes)) => Ok(Value::Boolean(*yes)),
        (Kind::Share, DeValue::Float(_) | DeValue::Integer(_)) => match decimal(value, 0.0..=1.0) {
            Some(share) => Ok(Value::Float(share)),
            None => misfit(shown_raw(value)),
        },
        (Kind::Celsius, DeValue::Float(_) | DeValue::Integer(_)) => match decimal(value, CELSIUS) {
            Some(celsius) => Ok(Value::Float(celsius)),
            None => misfit(shown_raw(value)),
        },
        (Kind::Exceptions, DeValue::Array(items)) => exceptions(items, lines),
        (Kind::Table(keys), DeValue::Table(found)) => entries::table(found, keys, lines),
        (Kind::Entries(entry), DeValue::Array(items)) => entries::list(items, entry, lines),
        (Kind::SecretPath, _) => misfit(HIDDEN.into()),
        (
            Kind::Text
            | Kind::Path
            | Kind::Word(_)
            | Kind::Number { .. }
            | Kind::NumberOr { .. }
            | Kind::Texts
            | Kind::OneOrMore
            | Kind::Words(_)
            | Kind::Truth
            | Kind::Share
            | Kind::Celsius
            | Kind::Exceptions
            | Kind::Table(_)
            | Kind::Entries(_),
            other,
        ) => misfit(shown_raw(other)),
    }
}

/// What a kind wants, in words.
fn wanted(kind: Kind, value: &DeValue<'_>) -> String {
    match kind {
        Kind::Text => "a text in quotes, not empty".into(),
        Kind::Path => "a path in quotes, not empty".into(),
        Kind::SecretPath => "a path in quotes, not empty, or \"credential:NAME\"".into(),
        Kind::Word(words) => {
            let meant = value
                .as_str()
                .and_then(|word| nearest(word, words.iter().copied()))
                .map(|word| format!("; did you mean \"{word}\"?"));
            format!("one of {}{}", quoted(words), meant.unwrap_or_default())
        }
        Kind::Number { min, max, why } => {
            format!("a whole number from {min} to {max} ({why})")
        }
        Kind::NumberOr {
            word,
            min,
            max,
            why,
        } => format!("\"{word}\", or a whole number from {min} to {max} ({why})"),
        Kind::Texts => "a list of texts: [\"…\", \"…\"]".into(),
        Kind::OneOrMore => "a text in quotes, or a list of texts: [\"…\", \"…\"]".into(),
        Kind::Words(words) => {
            let meant = value
                .as_str()
                .and_then(|word| nearest(word, words.iter().copied()));
            let meant = meant.map(|word| format!("; did you mean \"{word}\"?"));
            let meant = meant.unwrap_or_default();
            format!("one of {}, or a list of them{meant}", quoted(words))
        }
        Kind::Truth => "true or false".into(),
        Kind::Share => "a number from 0 to 1".into(),
        Kind::Celsius => format!("degrees from {} to {}", CELSIUS.start(), CELSIUS.end()),
        Kind::Table(keys) => {
            let keys = keys.iter().map(|key| key.name).collect::<Vec<_>>();
            format!("a table: {{ … }} with any of {}", keys.join(", "))
        }
        Kind::Entries(entry) => entry.wanted.into(),
        Kind::Exceptions => "[[intake.classification]] with a topic and a classification".into(),
    }
}

fn texts(items: &DeArray<'_>) -> Option<Vec<Value>> {
    items
        .iter()
        .map(|item| Some(Value::String(item.get_ref().as_str()?.to_owned())))
        .collect()
}

fn all_among(texts: &[Value], words: &[&str]) -> bool {
    let known = |text: &Value| text.as_str().is_some_and(|text| words.contains(&text));
    texts.iter().all(known)
}

/// A number from 0 to 1, with or without a point.
fn decimal(value: &DeValue<'_>, range: RangeInclusive<f64>) -> Option<f64> {
    let number = match value {
        DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
        DeValue::Integer(_)
        | DeValue::String(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => None,
    };
    number.filter(|number| range.contains(number))
}

/// The list of classifications by topic; each entry is looked at by itself.
fn exceptions(items: &DeArray<'_>, lines: &Lines<'_>) -> Result<Value, Vec<Misfit>> {
    let mut misfits = Vec::new();
    let mut good = Vec::new();
    for item in items {
        let place = lines.place(item.span().start);
        let mut note = |below: String, value: &str, wanted: String, place: &Place| {
            misfits.push(Misfit {
                below,
                value: value.to_owned(),
                wanted,
                place: Some(place.clone()),
            });
        };
        let DeValue::Table(entry) = item.get_ref() else {
            let whole = wanted(Kind::Exceptions, item.get_ref());
            note(String::new(), &shown_raw(item.get_ref()), whole, &place);
            continue;
        };
        for (name, _) in entry {
            let place = lines.place(name.span().start);
            let name = name.get_ref();
            if !EXCEPTION_KEYS.contains(&name.as_ref()) {
                let below = format!(".{}", shown_key(name));
                let meant = did_you_mean(nearest(name, EXCEPTION_KEYS.iter().copied()));
                let wanted = format!("only topic and classification here{meant}");
                note(below, HIDDEN, wanted, &place);
            }
        }
        let mut kept = toml::Table::new();
        for (name, kind) in [
            ("topic", Kind::Text),
            ("classification", Kind::Word(CLASSIFICATIONS)),
        ] {
            let missing = DeValue::Boolean(false);
            let value = entry.get(name).map(toml::Spanned::get_ref);
            match (kind, value.and_then(DeValue::as_str)) {
                (Kind::Word(words), Some(word)) if !words.contains(&word) => note(
                    format!(".{name}"),
                    &short(&Value::String(word.to_owned())),
                    wanted(kind, value.unwrap_or(&missing)),
                    &place,
                ),
                (_, Some(text)) => {
                    kept.insert(name.to_owned(), Value::String(text.to_owned()));
                }
                (_, None) => note(
                    format!(".{name}"),
                    &value.map_or_else(|| NOT_SET.to_owned(), shown_raw),
                    wanted(kind, value.unwrap_or(&missing)),
                    &place,
                ),
            }
        }
        good.push(Value::Table(kept));
    }
    if misfits.is_empty() {
        Ok(Value::Array(good))
    } else {
        Err(misfits)
    }
}

fn unknown_section(section: &str, body: &DeValue<'_>, place: Place) -> Fault {
    let is_section = body.is_table() || body.is_array();
    let home = KEYS
        .iter()
        .find(|key| key.name.split_once('.').is_some_and(|(_, k)| k == section));
    let known = sections()
        .map(|known| match find_whole(known) {
            Some(_) => format!("[[{known}]]"),
            None => format!("[{known}]"),
        })
        .collect::<Vec<_>>()
        .join(" ");
    let wanted = if let (false, Some(key)) = (is_section, home) {
        format!("this key in its section; did you mean {}?", key.name)
    } else {
        let meant = nearest(section, sections()).map(|near| format!("[{near}]"));
        let meant = did_you_mean(meant.as_deref());
        format!("a section that this version knows: {known}{meant}")
    };
    Fault {
        key: shown_key(section),
        value: if is_section {
            "(a section)".into()
        } else {
            HIDDEN.into()
        },
        wanted,
        place: Some(place),
    }
}

fn unknown_key(section: &str, name: &str, place: Place) -> Fault {
    let own = || {
        KEYS.iter()
            .filter_map(|key| Some((key, key.name.strip_prefix(section)?.strip_prefix('.')?)))
    };
    let wanted = if find(section, &format!("{name}_file")).is_some() {
        format!(
            "{name}_file with a path or \"credential:NAME\" (a systemd credential): \
             a secret never stands in the configuration itself"
        )
    } else if let Some(near) = nearest(name, own().map(|(_, own)| own)) {
        format!("a key that this version knows; did you mean {section}.{near}?")
    } else if let Some(key) = KEYS.iter().find(|key| {
        key.name
            .split_once('.')
            .is_some_and(|(_, other)| other == name)
    }) {
        format!("this key in its section; did you mean {}?", key.name)
    } else {
        let all = own().map(|(_, own)| own).collect::<Vec<_>>().join(", ");
        format!("a key that this version knows: {all}")
    };
    Fault {
        key: format!("{section}.{}", shown_key(name)),
        value: HIDDEN.into(),
        wanted,
        place: Some(place),
    }
}

/// The sections, each once, in the order of the reference.
fn sections() -> impl Iterator<Item = &'static str> + Clone {
    let mut last = "";
    KEYS.iter().filter_map(move |key| {
        let section = key.name.split_once('.').map_or(key.name, |(it, _)| it);
        (section != std::mem::replace(&mut last, section)).then_some(section)
    })
}

/// A key that stands in no section.
fn find_whole(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter()
        .find(|key| key.name.split_once('.') == Some((section, name)))
}

fn quoted(words: &[&str]) -> String {
    let quoted = words.iter().map(|word| format!("\"{word}\""));
    quoted.collect::<Vec<_>>().join(", ")
}

/// A foreign key, safe to print and not too long.
pub(super) fn shown_key(name: &str) -> String {
    let shown = name.escape_debug().to_string();
    shortened(&shown)
}

/// What a foreign value looks like in a fault, where it is of a wrong kind.
pub(super) fn shown_raw(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => short(&Value::String(text.to_string())),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "(a list)".into(),
        DeValue::Table(_) => "(a table)".into(),
    }
}

/// A list of texts, safe to print and not too long.
pub(super) fn short_list(texts: &[String]) -> String {
    short(&Value::Array(
        texts.iter().cloned().map(Value::String).collect(),
    ))
}

/// A value, safe to print and not too long.
pub(super) fn short(value: &Value) -> String {
    match value {
        Value::String(text) => fault::quoted(text),
        Value::Array(items) => {
            let items = items.iter().map(short).collect::<Vec<_>>().join(", ");
            shortened(&format!("[{items}]"))
        }
        Value::Table(_) => "(a table)".into(),
        other @ (Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_)) => {
            other.to_string()
        }
    }
}
