//! What is wrong with a configuration, all of it at once.
//!
//! Invariant: the value of a key that may hold a secret never enters a [`Fault`].

use std::fmt;
use std::path::{Path, PathBuf};

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
pub(super) struct Lines<'f> {
    file: &'f Path,
    starts: Vec<usize>,
}

impl<'f> Lines<'f> {
    pub(super) fn of(text: &str, file: &'f Path) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = ends.map(|(at, _)| at + 1).collect();
        Self { file, starts }
    }

    /// The place of a byte.
    pub(super) fn place(&self, offset: usize) -> Place {
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

/// Stands in for a value that nobody should read in a log.
pub(super) const HIDDEN: &str = "(not shown)";
/// Stands in for the value of a key that is missing.
pub(super) const NOT_SET: &str = "(not set)";

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

/// Everything that is wrong, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Notes a fault.
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// Whether something is wrong with this key already. A rule about two keys is silent then:
    /// what it would say follows from the first fault.
    pub(super) fn touch(&self, key: &str) -> bool {
        self.0.iter().any(|fault| fault.key == key)
    }

    /// Puts them in the order of the files and lines; what stands nowhere comes last.
    pub(super) fn sorted(mut self) -> Self {
        self.0
            .sort_by(|a, b| (a.place.is_none(), &a.place).cmp(&(b.place.is_none(), &b.place)));
        self
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => writeln!(f, "the configuration has a fault:")?,
            count => writeln!(f, "the configuration has {count} faults:")?,
        }
        for fault in &self.0 {
            writeln!(f, "{fault}")?;
        }
        Ok(())
    }
}

/// The word of `known` that `word` was probably meant to be.
pub(super) fn nearest<'k>(
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
