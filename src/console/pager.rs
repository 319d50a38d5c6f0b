//! Long answers, a screen at a time.

use std::collections::VecDeque;

/// What stands under a page.
const MORE: &str = "--More-- (space, Enter, a for all, q)";

/// Lines that wait to be shown.
#[derive(Debug, Default)]
pub(super) struct Pager {
    waiting: VecDeque<String>,
}

impl Pager {
    /// Shows the first page of `rows`; without rows, everything.
    pub(super) fn begin(lines: Vec<String>, rows: Option<usize>, out: &mut Vec<u8>) -> Self {
        let mut pager = Self {
            waiting: lines.into(),
        };
        let first = rows.map_or(usize::MAX, |rows| rows.saturating_sub(1).max(1));
        pager.show(first, out);
        pager
    }

    /// Whether everything was shown, or given up.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A key under a page.
    pub(super) fn on_key(&mut self, byte: u8, rows: usize, out: &mut Vec<u8>) {
        let lines = match byte {
            b' ' | b'f' => rows.saturating_sub(1).max(1),
            b'\r' | b'\n' | b'j' => 1,
            b'a' => usize::MAX,
            b'q' | b'Q' | 0x03 | 0x04 => {
                self.waiting.clear();
                0
            }
            _ => return,
        };
        wipe(out);
        self.show(lines, out);
    }

    fn show(&mut self, lines: usize, out: &mut Vec<u8>) {
        for line in self.waiting.drain(..lines.min(self.waiting.len())) {
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if !self.is_done() {
            out.extend_from_slice(MORE.as_bytes());
        }
    }
}

/// Writes blanks over the word under the page: a dumb terminal cannot erase.
fn wipe(out: &mut Vec<u8>) {
    out.push(b'\r');
    out.extend(std::iter::repeat_n(b' ', MORE.len()));
    out.push(b'\r');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("line {n}")).collect()
    }

    fn shown(out: &mut Vec<u8>) -> usize {
        let text = String::from_utf8(std::mem::take(out)).unwrap();
        text.matches("line ").count()
    }

    #[test]
    fn a_long_answer_stops_at_each_page_and_a_short_one_does_not() {
        let mut out = Vec::new();
        assert!(Pager::begin(lines(23), Some(24), &mut out).is_done());
        assert_eq!(shown(&mut out), 23);
        let mut pager = Pager::begin(lines(60), Some(24), &mut out);
        assert_eq!(shown(&mut out), 23);
        for (key, count) in [(b' ', 23), (b'\r', 1), (b'x', 0), (b'a', 13)] {
            pager.on_key(key, 24, &mut out);
            assert_eq!(shown(&mut out), count, "{key}");
        }
        assert!(pager.is_done());
    }

    #[test]
    fn q_gives_up_the_rest_and_no_pages_means_everything() {
        let mut out = Vec::new();
        let mut pager = Pager::begin(lines(60), Some(24), &mut out);
        pager.on_key(b'q', 24, &mut out);
        assert!(pager.is_done());
        out.clear();
        assert!(Pager::begin(lines(60), None, &mut out).is_done());
        assert_eq!(shown(&mut out), 60);
    }
}
