//! What is wrong with something that people write: where it stands, and what would be right.
//!
//! Shared by the configuration and the model package, so that both complain in the same words.

use std::fmt;
use std::path::{Path, PathBuf};

/// Characters of a value in a fault; more would bury the rest.
const SHOWN_CHARS: usize = 80;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which file.
    pub file: PathBuf,
    /// Which line, from 1; 0 where the file as a whole is meant.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}

/// Byte offsets to lines, for one file.
pub(crate) struct Lines<'f> {
    file: &'f Path,
    starts: Vec<usize>,
}

impl<'f> Lines<'f> {
    pub(crate) fn of(text: &str, file: &'f Path) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = ends.map(|(at, _)| at + 1).collect();
        Self { file, starts }
    }

    /// The place of a byte.
    pub(crate) fn place(&self, offset: usize) -> Place {
        Place {
            file: self.file.to_owned(),
            line: self.starts.partition_point(|start| *start <= offset) + 1,
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Section and name; empty where no key can be named.
    pub key: String,
    /// What stands there, as TOML; says so where nothing does, or where it is not shown.
    pub value: String,
    /// What would be right.
    pub wanted: String,
    /// Where it stands; none for what stands nowhere.
    pub place: Option<Place>,
}

/// Stands in for the value of a key that is missing.
pub(crate) const NOT_SET: &str = "(not set)";

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{} = ", self.key)?;
        }
        write!(f, "{}\n    wanted: {}", self.value, self.wanted)
    }
}

/// A foreign text in quotes, safe to print and not too long.
pub(crate) fn quoted(text: &str) -> String {
    shortened(&format!("\"{}\"", text.escape_debug()))
}

/// The beginning of a text that may be long.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A guess at what was meant, as the end of a sentence; empty without one.
pub(crate) fn did_you_mean(word: Option<&str>) -> String {
    word.map_or_else(String::new, |word| format!("; did you mean {word}?"))
}

/// The word of `known` that `word` was probably meant to be.
pub(crate) fn nearest<'k>(
    word: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) -> Option<&'k str> {
    // Two slips in a long word, one in a short one: more and the guess is noise.
    let slips = if word.len() < 6 { 1 } else { 2 };
    // A word that lacks only its first or last part, such as `deadline_ms`.
    let whole = known.clone().find(|candidate| {
        let front = candidate.strip_suffix(word);
        let back = candidate.strip_prefix(word);
        front.is_some_and(|rest| rest.ends_with('_'))
            || back.is_some_and(|rest| rest.starts_with('_'))
    });
    known
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= slips)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
        .or(whole)
}

/// Levenshtein's distance, with two swapped neighbours counting as one slip. Bounded: a word
/// longer than any key is far from all of them.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().max(b.len()) > LONGEST {
        return usize::MAX;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1)
                .min(row[j - 1] + 1)
                .min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
