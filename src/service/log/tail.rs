//! The last lines of the log, in memory: what `logs` shows where there is no journal at hand.
//!
//! What is kept is what was written, so no content of a request can be in it. Bounded by lines and
//! by bytes; the oldest go first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::Level;

use super::pipeline::{Record, Sink};
use super::sinks::push_record;
use crate::clock::Wall;

/// Lines that are kept: a busy minute, or a quiet day.
pub(super) const MAX_LINES: usize = 2000;
/// Their bytes together.
pub(super) const MAX_BYTES: usize = 512 * 1024;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailLine {
    /// Counted from one since the start.
    pub no: u64,
    /// When.
    pub at: Wall,
    /// How bad.
    pub level: Level,
    /// Target, message and fields.
    pub text: String,
}

/// A handle on the last lines.
#[derive(Clone, Debug, Default)]
pub struct LogTail(Arc<Mutex<Ring>>);

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<TailLine>,
    bytes: usize,
    count: u64,
}

impl LogTail {
    /// The newest lines of at least this level after line `since`, so many at most, oldest first.
    pub fn lines(&self, level: Level, since: u64, max: usize) -> Vec<TailLine> {
        let ring = self.ring();
        let new = ring.lines.iter().rev().take_while(|line| line.no > since);
        // A level counts up with its detail.
        let wanted = new.filter(|line| line.level <= level).take(max);
        let mut lines: Vec<_> = wanted.cloned().collect();
        lines.reverse();
        lines
    }

    /// The number of the newest line.
    pub fn newest(&self) -> u64 {
        self.ring().count
    }

    /// Keeps a line.
    pub(super) fn push(&self, at: Wall, level: Level, text: String) {
        let mut ring = self.ring();
        ring.count += 1;
        let no = ring.count;
        ring.bytes += text.len();
        ring.lines.push_back(TailLine {
            no,
            at,
            level,
            text,
        });
        while ring.lines.len() > MAX_LINES || ring.bytes > MAX_BYTES {
            let gone = ring.lines.pop_front();
            ring.bytes -= gone.map_or(ring.bytes, |line| line.text.len());
        }
    }

    /// Whole lines only go in and out, so they are sound whatever happened to a holder.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sink that keeps what it passes on.
pub(super) struct Kept {
    tail: LogTail,
    inner: Box<dyn Sink>,
}

impl Kept {
    pub(super) fn new(tail: LogTail, inner: Box<dyn Sink>) -> Self {
        Self { tail, inner }
    }
}

impl Sink for Kept {
    fn write(&mut self, record: &Record) {
        let mut text = String::new();
        push_record(&mut text, record);
        self.tail.push(record.at, *record.origin.level(), text);
        self.inner.write(record);
    }

    fn report_dropped(&mut self, count: u64, at: Wall) {
        let text = format!("lineside: log lines dropped count={count}");
        self.tail.push(at, Level::WARN, text);
        self.inner.report_dropped(count, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_within_both_bounds() {
        let tail = LogTail::default();
        for _ in 0..MAX_LINES + 10 {
            tail.push(Wall(1), Level::INFO, "x".into());
        }
        let lines = tail.lines(Level::TRACE, 0, usize::MAX);
        assert_eq!((lines.len(), lines[0].no), (MAX_LINES, 11));
        for _ in 0..10 {
            tail.push(Wall(1), Level::INFO, "y".repeat(MAX_BYTES / 4));
        }
        assert_eq!(tail.lines(Level::TRACE, 0, usize::MAX).len(), 4);
        tail.push(Wall(1), Level::INFO, "z".repeat(MAX_BYTES + 1));
        assert!(tail.lines(Level::TRACE, 0, usize::MAX).is_empty());
        tail.push(Wall(1), Level::INFO, "a".into());
        assert_eq!(tail.ring().bytes, 1);
    }

    #[test]
    fn lines_are_chosen_by_level_and_by_what_was_seen() {
        let tail = LogTail::default();
        for level in [Level::INFO, Level::ERROR, Level::DEBUG, Level::WARN] {
            tail.push(Wall(1), level, level.to_string());
        }
        let texts = |level, since, max| {
            let lines = tail.lines(level, since, max);
            lines.into_iter().map(|it| it.text).collect::<Vec<_>>()
        };
        assert_eq!(texts(Level::WARN, 0, 9), ["ERROR", "WARN"]);
        assert_eq!(texts(Level::TRACE, 2, 9), ["DEBUG", "WARN"]);
        assert_eq!(texts(Level::TRACE, 0, 1), ["WARN"]);
        assert_eq!(tail.newest(), 4);
    }
}
