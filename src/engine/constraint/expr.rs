//! What all kinds of rules become: expressions over characters and bytes, some of them named.
//!
//! The tree is small on purpose. What a schema needs beyond a grammar (lists with a separator,
//! members that may be left out) has forms of its own, because spelling it with the others would
//! copy parts, and copies of copies grow without end.

/// What may stand in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    /// These bytes.
    Bytes(Vec<u8>),
    /// One character of these; ranges rise and do not touch.
    Class(Class),
    /// One after the other.
    Seq(Vec<Expr>),
    /// One of these.
    Alt(Vec<Expr>),
    /// Again and again.
    Repeat {
        /// What.
        of: Box<Expr>,
        /// What stands between two.
        between: Vec<u8>,
        /// How often at least.
        min: u32,
        /// How often at most; none is without limit.
        max: Option<u32>,
    },
    /// Members in their order, a separator between those that are there.
    Members(Vec<Member>, Vec<u8>),
    /// What a named rule says.
    Call(usize),
}

/// A member that may be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// What it looks like.
    pub(super) expr: Expr,
    /// Whether it must be there.
    pub(super) presence: Presence,
}

/// Whether a member must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It must.
    Required,
    /// It may.
    Optional,
}

/// Named expressions that call each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// Name and body; a call is a place in this list.
    pub(super) list: Vec<(String, Expr)>,
    /// Where an answer begins.
    pub(super) root: usize,
}

impl Rules {
    /// One expression that calls nothing.
    pub(super) fn single(expr: Expr) -> Self {
        Self {
            list: vec![("root".to_owned(), expr)],
            root: 0,
        }
    }
}

impl Expr {
    /// These characters.
    pub(super) fn text(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }

    /// The empty text.
    pub(super) fn empty() -> Self {
        Self::Bytes(Vec::new())
    }

    /// One of these characters.
    pub(super) fn class(ranges: &[(char, char)]) -> Self {
        Self::Class(Class::new(ranges.iter().copied()))
    }

    /// This, so many times.
    pub(super) fn times(self, min: u32, max: Option<u32>) -> Self {
        Self::Repeat {
            of: Box::new(self),
            between: Vec::new(),
            min,
            max,
        }
    }

    /// This, or nothing.
    pub(super) fn optional(self) -> Self {
        self.times(0, Some(1))
    }
}

/// A set of characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Class(Vec<(char, char)>);

/// The characters on both sides of what no character can be.
const BEFORE_SURROGATES: char = '\u{d7ff}';
const AFTER_SURROGATES: char = '\u{e000}';

impl Class {
    /// All characters.
    pub(super) fn any() -> Self {
        Self(vec![('\0', char::MAX)])
    }

    /// Those of these ranges, which may overlap and come in any order.
    pub(super) fn new(ranges: impl IntoIterator<Item = (char, char)>) -> Self {
        let mut sorted: Vec<_> = ranges.into_iter().filter(|(lo, hi)| lo <= hi).collect();
        sorted.sort_unstable();
        let mut merged: Vec<(char, char)> = Vec::with_capacity(sorted.len());
        for (lo, hi) in sorted {
            match merged.last_mut() {
                Some(last) if lo <= last.1 || Some(lo) == next(last.1) => last.1 = last.1.max(hi),
                _ => merged.push((lo, hi)),
            }
        }
        Self(merged)
    }

    /// All other characters.
    pub(super) fn negated(&self) -> Self {
        let mut left = Vec::with_capacity(self.0.len() + 1);
        let mut from = Some('\0');
        for &(lo, hi) in &self.0 {
            if let (Some(from), Some(to)) = (from, previous(lo))
                && from <= to
            {
                left.push((from, to));
            }
            from = next(hi);
        }
        if let Some(from) = from {
            left.push((from, char::MAX));
        }
        Self(left)
    }

    /// Those of this that are not in the other.
    pub(super) fn without(&self, other: &Self) -> Self {
        let both = self.negated().0.into_iter().chain(other.0.iter().copied());
        Self::new(both).negated()
    }

    /// Whether the character is one of these.
    pub(super) fn contains(&self, c: char) -> bool {
        self.0.iter().any(|&(lo, hi)| (lo..=hi).contains(&c))
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges, rising.
    pub(super) fn ranges(&self) -> &[(char, char)] {
        &self.0
    }
}

fn next(c: char) -> Option<char> {
    match c {
        BEFORE_SURROGATES => Some(AFTER_SURROGATES),
        c => char::from_u32(u32::from(c) + 1),
    }
}

fn previous(c: char) -> Option<char> {
    match c {
        AFTER_SURROGATES => Some(BEFORE_SURROGATES),
        c => u32::from(c).checked_sub(1).and_then(char::from_u32),
    }
}
