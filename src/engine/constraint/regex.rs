//! Regular expressions, read into expressions. All that is known of `regex-syntax` is here.
//!
//! A rule of this kind matches whole, so `^` at its start and `$` at its end say nothing new and
//! are taken; other anchors and word boundaries look beyond a place and are refused.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class as HirClass, Hir, HirKind, Look};
use regex_syntax::utf8::Utf8Sequences;

use super::expr::{Class, Expr};
use super::{Excess, RuleFault};

/// Bytes of a pattern. Longer ones are lists of words, which are better given as choices.
pub(super) const MAX_PATTERN_BYTES: usize = 8 << 10;
/// Groups inside groups.
pub(super) const MAX_DEPTH: u32 = 64;
/// Bound of a repetition.
pub(super) const MAX_REPETITIONS: u32 = 2000;
/// Ranges of characters in all classes of a pattern: `\w` alone has about 800.
pub(super) const MAX_RANGES: usize = 100_000;

/// A pattern as expression, and whether it was tied to both ends.
pub(super) struct Pattern {
    /// What it matches.
    pub(super) expr: Expr,
    /// Whether `^` stood at its start.
    pub(super) at_start: bool,
    /// Whether `$` stood at its end.
    pub(super) at_end: bool,
}

/// Reads a pattern.
pub(super) fn parse(pattern: &str) -> Result<Pattern, RuleFault> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(RuleFault::Excess(Excess::Pattern(MAX_PATTERN_BYTES)));
    }
    let hir = ParserBuilder::new()
        .nest_limit(MAX_DEPTH)
        .build()
        .parse(pattern)
        .map_err(|error| fault(error.to_string()))?;
    let mut reader = Reader { ranges: 0 };
    let mut parts: Vec<&Hir> = vec![&hir];
    if let HirKind::Concat(all) = hir.kind() {
        parts = all.iter().collect();
    }
    let at_start = matches!(
        parts.first().map(|it| it.kind()),
        Some(HirKind::Look(Look::Start))
    );
    if at_start {
        parts.remove(0);
    }
    let at_end = matches!(
        parts.last().map(|it| it.kind()),
        Some(HirKind::Look(Look::End))
    );
    if at_end {
        parts.pop();
    }
    let all = parts.into_iter().map(|part| reader.expr(part, 0));
    Ok(Pattern {
        expr: Expr::Seq(all.collect::<Result<_, _>>()?),
        at_start,
        at_end,
    })
}

/// The byte ranges that one range of characters is in UTF-8.
pub(super) fn utf8(lo: char, hi: char) -> impl Iterator<Item = Vec<(u8, u8)>> {
    Utf8Sequences::new(lo, hi)
        .map(|sequence| sequence.into_iter().map(|it| (it.start, it.end)).collect())
}

struct Reader {
    ranges: usize,
}

impl Reader {
    fn expr(&mut self, hir: &Hir, depth: u32) -> Result<Expr, RuleFault> {
        if depth > 2 * MAX_DEPTH {
            return Err(RuleFault::Excess(Excess::Depth(MAX_DEPTH as usize)));
        }
        let mut all = |list: &[Hir]| -> Result<Vec<Expr>, RuleFault> {
            list.iter().map(|it| self.expr(it, depth + 1)).collect()
        };
        Ok(match hir.kind() {
            HirKind::Empty => Expr::empty(),
            HirKind::Literal(literal) => Expr::Bytes(literal.0.to_vec()),
            HirKind::Class(class) => self.class(class)?,
            HirKind::Look(_) => {
                return Err(fault(
                    "only `^` at the start and `$` at the end are supported",
                ));
            }
            HirKind::Capture(capture) => self.expr(&capture.sub, depth + 1)?,
            HirKind::Concat(list) => Expr::Seq(all(list)?),
            HirKind::Alternation(list) => Expr::Alt(all(list)?),
            HirKind::Repetition(repetition) => {
                let bounds = [Some(repetition.min), repetition.max];
                if bounds.iter().flatten().any(|&it| it > MAX_REPETITIONS) {
                    return Err(RuleFault::Excess(Excess::Repetitions(MAX_REPETITIONS)));
                }
                let of = self.expr(&repetition.sub, depth + 1)?;
                of.times(repetition.min, repetition.max)
            }
        })
    }

    fn class(&mut self, class: &HirClass) -> Result<Expr, RuleFault> {
        let ranges: Vec<(char, char)> = match class {
            HirClass::Unicode(class) => class.iter().map(|it| (it.start(), it.end())).collect(),
            HirClass::Bytes(class) => class
                .iter()
                .map(|it| (char::from(it.start()), char::from(it.end())))
                .collect(),
        };
        self.ranges += ranges.len();
        if self.ranges > MAX_RANGES {
            return Err(RuleFault::Excess(Excess::Ranges(MAX_RANGES)));
        }
        Ok(Expr::Class(Class::new(ranges)))
    }
}

fn fault(why: impl Into<String>) -> RuleFault {
    RuleFault::Regex(why.into())
}
