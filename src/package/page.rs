//! A TOML document read key by key.
//!
//! What fits is handed out; whatever does not fit becomes a fault with its line, and the reader
//! goes on, because serde stops at the first thing it dislikes and an author wants all of them.
//! A table that was read ends with [`Page::close`], which finds the keys that nobody asked for.
//!
//! Invariant: nothing is skipped silently; a list is not read beyond its limit.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::faults::Faults;
use super::features::{Blend, TERM_NAMES, TERMS};
use super::form::Datum;
use crate::fault::{Fault, Lines, NOT_SET, Place, did_you_mean, nearest, quoted, shortened};

/// A document and what was found wrong with it.
pub(super) struct Page<'d> {
    lines: Lines<'d>,
    pub(super) faults: Faults,
    /// Where each key stood that was asked for.
    pub(super) places: BTreeMap<String, Place>,
}

/// A table of the document.
pub(super) struct Part<'d> {
    /// What stands before its keys in a fault.
    pub(super) key: String,
    table: &'d DeTable<'d>,
    asked: Vec<&'static str>,
    at: Option<usize>,
}

/// A range of whole numbers, and why not less and not more.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) min: u64,
    pub(super) max: u64,
    pub(super) why: &'static str,
}

/// Parses a document and hands it to `read`; without a document there are only faults.
pub(super) fn read<'f, T>(
    text: &str,
    file: &'f Path,
    read: impl FnOnce(&mut Page<'f>, Part<'_>) -> Option<T>,
) -> (Option<T>, Faults, BTreeMap<String, Place>) {
    let mut page = Page {
        lines: Lines::of(text, file),
        faults: Faults::default(),
        places: BTreeMap::new(),
    };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        page.faults.add(Fault {
            key: String::new(),
            value: format!("this is no TOML: {}", error.message()),
            wanted: "a document in TOML 1.0".into(),
            place: Some(page.lines.place(error.span().map_or(0, |span| span.start))),
        });
    }
    // What a half-read file says about its keys would only mislead.
    let read = if errors.is_empty() {
        let root = Part {
            key: String::new(),
            table: document.get_ref(),
            asked: Vec::new(),
            at: None,
        };
        read(&mut page, root)
    } else {
        None
    };
    (read, page.faults, page.places)
}

impl<'d> Part<'d> {
    /// The full name of a key.
    pub(super) fn name(&self, key: &str) -> String {
        if self.key.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.key)
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The text of a key, whatever else is wrong around it.
    pub(super) fn text_of(&self, key: &str) -> Option<&str> {
        self.table.get(key)?.get_ref().as_str()
    }

    /// Notes a key as known where it is missing and may be.
    pub(super) fn may_ask(&mut self, key: &'static str) {
        self.asked.push(key);
    }

    fn value(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.asked.push(key);
        self.table.get(key)
    }
}

impl Page<'_> {
    /// Notes what is wrong with a key of a part.
    pub(super) fn fault(&mut self, part: &Part<'_>, key: &str, wanted: impl Into<String>) {
        let value = part.table.get(key);
        let at = value.map(|value| value.span().start).or(part.at);
        self.faults.add(Fault {
            key: part.name(key),
            value: value.map_or_else(|| NOT_SET.to_owned(), |value| shown(value.get_ref())),
            wanted: wanted.into(),
            place: Some(self.place(at)),
        });
    }

    /// A place in the document; its beginning, where nothing nearer is known.
    fn place(&self, at: Option<usize>) -> Place {
        self.lines.place(at.unwrap_or(0))
    }

    /// The value of a key that must be there.
    fn needed<'d>(
        &mut self,
        part: &mut Part<'d>,
        key: &'static str,
        wanted: &str,
    ) -> Option<&'d DeValue<'d>> {
        let Some(value) = part.value(key) else {
            self.fault(part, key, wanted);
            return None;
        };
        let place = self.place(Some(value.span().start));
        self.places.insert(part.name(key), place);
        Some(value.get_ref())
    }

    /// A key that may be missing.
    pub(super) fn optional<'d, T>(
        &mut self,
        part: &mut Part<'d>,
        key: &'static str,
        read: impl FnOnce(&mut Self, &mut Part<'d>) -> Option<T>,
    ) -> Option<T> {
        if part.has(key) {
            read(self, part)
        } else {
            part.may_ask(key);
            None
        }
    }

    /// A text of 1 to `max` bytes.
    pub(super) fn text(
        &mut self,
        part: &mut Part<'_>,
        key: &'static str,
        max: usize,
    ) -> Option<String> {
        let wanted = format!("a text in quotes of 1 to {max} bytes, without control characters");
        let text = self.needed(part, key, &wanted)?.as_str();
        let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        let good = text.filter(|text| (1..=max).contains(&text.len()) && !text.contains(odd));
        if good.is_none() {
            self.fault(part, key, wanted);
        }
        good.map(str::to_owned)
    }

    /// A text that `parse` makes something of.
    pub(super) fn parsed<T>(
        &mut self,
        part: &mut Part<'_>,
        key: &'static str,
        wanted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let found = self.needed(part, key, wanted)?.as_str().and_then(parse);
        if found.is_none() {
            self.fault(part, key, wanted);
        }
        found
    }

    /// A whole number within its range.
    pub(super) fn number(
        &mut self,
        part: &mut Part<'_>,
        key: &'static str,
        range: Range,
    ) -> Option<u64> {
        let Range { min, max, why } = range;
        let wanted = format!("a whole number from {min} to {max} ({why})");
        let value = self.needed(part, key, &wanted)?.as_integer();
        let number = value.and_then(|it| u64::from_str_radix(it.as_str(), it.radix()).ok());
        let good = number.filter(|number| (min..=max).contains(number));
        if good.is_none() {
            self.fault(part, key, wanted);
        }
        good
    }

    /// A number from 0 to 1.
    pub(super) fn share(&mut self, part: &mut Part<'_>, key: &'static str) -> Option<f64> {
        let wanted = "a number from 0 to 1";
        let value = self.needed(part, key, wanted)?;
        let good = fraction(value).filter(|share| (0.0..=1.0).contains(share));
        if good.is_none() {
            self.fault(part, key, wanted);
        }
        good
    }

    /// A number of either sign, with or without a point.
    pub(super) fn real(&mut self, part: &mut Part<'_>, key: &'static str) -> Option<f64> {
        let wanted = "a number";
        let value = self.needed(part, key, wanted)?;
        let good = fraction(value).filter(|number| number.is_finite());
        if good.is_none() {
            self.fault(part, key, wanted);
        }
        good
    }

    /// A whole number of either sign.
    pub(super) fn whole(&mut self, part: &mut Part<'_>, key: &'static str) -> Option<i64> {
        let wanted = "a whole number";
        let good = signed(self.needed(part, key, wanted)?);
        if good.is_none() {
            self.fault(part, key, wanted);
        }
        good
    }

    /// A text, a number or a truth value that `good` makes something of.
    pub(super) fn datum<T>(
        &mut self,
        part: &mut Part<'_>,
        key: &'static str,
        wanted: &str,
        good: impl FnOnce(Datum) -> Option<T>,
    ) -> Option<T> {
        let value = self.needed(part, key, wanted)?;
        let datum = (value.as_str().map(|text| Datum::Text(text.to_owned())))
            .or_else(|| value.as_bool().map(Datum::Boolean))
            .or_else(|| signed(value).map(Datum::Integer))
            .or_else(|| fraction(value).map(Datum::Number));
        let good = datum.and_then(good);
        if good.is_none() {
            self.fault(part, key, wanted);
        }
        good
    }

    /// A list of at least one and at most `max` texts, each of which `good` lets through.
    pub(super) fn texts(
        &mut self,
        part: &mut Part<'_>,
        key: &'static str,
        max: usize,
        wanted: &str,
        good: impl Fn(&str) -> bool,
    ) -> Option<Vec<String>> {
        let wanted = format!("a list of 1 to {max}, each once: {wanted}");
        let list = self.needed(part, key, &wanted)?.as_array();
        let texts = list
            .filter(|list| (1..=max).contains(&list.len()))
            .and_then(|list| all_texts(list))
            .filter(|texts| texts.iter().all(|text| good(text)))
            .filter(|texts| {
                let distinct: std::collections::BTreeSet<_> = texts.iter().collect();
                distinct.len() == texts.len()
            });
        if texts.is_none() {
            self.fault(part, key, wanted);
        }
        texts
    }

    /// A list of pairs of numbers; what they mean is for the caller to judge.
    pub(super) fn points(
        &mut self,
        part: &mut Part<'_>,
        key: &'static str,
        max: usize,
    ) -> Option<Vec<(f64, f64)>> {
        let wanted = format!("a list of up to {max} points: [[0.0, 0.1], …]");
        let list = self.needed(part, key, &wanted)?.as_array();
        let pair = |value: &Spanned<DeValue<'_>>| {
            let pair = value.get_ref().as_array()?;
            match (pair.len(), pair.first(), pair.get(1)) {
                (2, Some(x), Some(y)) => Some((fraction(x.get_ref())?, fraction(y.get_ref())?)),
                _ => None,
            }
        };
        let points = list
            .filter(|list| list.len() <= max)
            .and_then(|list| list.iter().map(pair).collect::<Option<Vec<_>>>());
        if points.is_none() {
            self.fault(part, key, wanted);
        }
        points
    }

    /// The weights of a blend.
    pub(super) fn blend(&mut self, part: &mut Part<'_>, key: &'static str) -> Option<Blend> {
        let wanted = format!(
            "{TERMS} numbers of {} at most, for: {}",
            Blend::MAX_WEIGHT,
            TERM_NAMES.join(", ")
        );
        let list = self.needed(part, key, &wanted)?.as_array();
        let number = |value: &Spanned<DeValue<'_>>| fraction(value.get_ref());
        let numbers = list.and_then(|list| list.iter().map(number).collect::<Option<Vec<_>>>());
        let blend = numbers
            .and_then(|numbers| <[f64; TERMS]>::try_from(numbers).ok())
            .and_then(Blend::new);
        if blend.is_none() {
            self.fault(part, key, wanted);
        }
        blend
    }

    /// Whether a key says `true`, the only thing that it may say.
    pub(super) fn yes(&mut self, part: &mut Part<'_>, key: &'static str) -> Option<()> {
        let said = self.needed(part, key, "true")?.as_bool();
        if said != Some(true) {
            self.fault(part, key, "true, or not this key at all");
            return None;
        }
        Some(())
    }

    /// A table that must be there.
    pub(super) fn part<'d>(&mut self, part: &mut Part<'d>, key: &'static str) -> Option<Part<'d>> {
        let wanted = format!("a table: [{}]", part.name(key));
        let value = self.needed(part, key, &wanted)?;
        let Some(table) = value.as_table() else {
            self.fault(part, key, wanted);
            return None;
        };
        Some(Part {
            key: part.name(key),
            table,
            asked: Vec::new(),
            at: part.table.get(key).map(|value| value.span().start),
        })
    }

    /// The tables of a list; none are a fault only where one is needed.
    pub(super) fn parts<'d>(
        &mut self,
        part: &mut Part<'d>,
        key: &'static str,
        least: usize,
        max: usize,
    ) -> Vec<Part<'d>> {
        let wanted = format!("{least} to {max} tables: [[{}]]", part.name(key));
        if least == 0 && !part.has(key) {
            part.may_ask(key);
            return Vec::new();
        }
        let list = self.needed(part, key, &wanted);
        let list = list.and_then(|value| value.as_array());
        let Some(list) = list.filter(|list| (least..=max).contains(&list.len())) else {
            if part.has(key) {
                self.fault(part, key, wanted);
            }
            return Vec::new();
        };
        let mut parts = Vec::new();
        for (index, value) in list.iter().enumerate() {
            let Some(table) = value.get_ref().as_table() else {
                self.fault(part, key, wanted.clone());
                continue;
            };
            parts.push(Part {
                key: format!("{}[{}]", part.name(key), index + 1),
                table,
                asked: Vec::new(),
                at: Some(value.span().start),
            });
        }
        parts
    }

    /// Notes the keys of a part that nobody asked for.
    pub(super) fn close(&mut self, part: &Part<'_>) {
        for (key, _) in part.table {
            let (at, key) = (key.span().start, key.get_ref());
            if part.asked.iter().any(|asked| asked == key) {
                continue;
            }
            let mut wanted = "a key that this version knows: ".to_owned();
            wanted.push_str(&part.asked.join(", "));
            let meant = nearest(key, part.asked.iter().copied());
            let _ = write!(wanted, "{}", did_you_mean(meant)); // a String takes all
            let value = part.table.get(key.as_ref());
            self.faults.add(Fault {
                key: part.name(&shortened(&key.escape_debug().to_string())),
                value: value.map_or_else(String::new, |value| shown(value.get_ref())),
                wanted,
                place: Some(self.place(Some(at))),
            });
        }
    }
}

fn all_texts(list: &DeArray<'_>) -> Option<Vec<String>> {
    let texts = list.iter().map(|item| item.get_ref().as_str());
    texts.map(|text| text.map(str::to_owned)).collect()
}

fn signed(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A number, with or without a point.
fn fraction(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(number) => number.as_str().parse().ok(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
        DeValue::Integer(_)
        | DeValue::String(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => None,
    }
}

/// What a value looks like in a fault.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => shortened(&number.to_string()),
        DeValue::Float(number) => shortened(&number.to_string()),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(items) => format!("(a list of {})", items.len()),
        DeValue::Table(_) => "(a table)".into(),
    }
}
