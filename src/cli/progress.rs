//! How far long work is, for a person who waits at a terminal.
//!
//! One line on standard error, drawn over and over, and wiped at the end: what is printed stays
//! what it is. Where standard error is no terminal nothing is drawn.

use std::io::{self, IsTerminal, Write};

use crate::console::pages;

/// Columns of the bar itself.
const WIDTH: usize = 30;
/// What is drawn at most is hundredths: a terminal at 9600 baud takes them.
const STEPS: u64 = 100;

/// A bar.
#[derive(Debug)]
pub(super) struct Bar<W: Write = io::Stderr> {
    /// None: nobody watches.
    out: Option<W>,
    what: String,
    total: u64,
    done: u64,
    /// What was drawn last.
    drawn: Option<u64>,
}

impl Bar {
    /// A bar for so much of something, on standard error.
    pub(super) fn new(what: &str, total: u64) -> Self {
        let err = io::stderr();
        let out = err.is_terminal().then_some(err);
        Self::on(out, what, total)
    }
}

impl<W: Write> Bar<W> {
    fn on(out: Option<W>, what: &str, total: u64) -> Self {
        let mut bar = Self {
            out,
            what: pages::clean(what),
            total: total.max(1),
            done: 0,
            drawn: None,
        };
        bar.draw();
        bar
    }

    /// So much more is done.
    pub(super) fn add(&mut self, more: u64) {
        self.done = self.done.saturating_add(more).min(self.total);
        self.draw();
    }

    fn draw(&mut self) {
        let Some(out) = &mut self.out else {
            return;
        };
        let hundredths = u128::from(self.done) * u128::from(STEPS) / u128::from(self.total);
        let hundredths = u64::try_from(hundredths).unwrap_or(STEPS);
        if self.drawn == Some(hundredths) {
            return;
        }
        self.drawn = Some(hundredths);
        let full = usize::try_from(hundredths).unwrap_or(WIDTH) * WIDTH / 100;
        let bar = format!("{}{}", "#".repeat(full), ".".repeat(WIDTH - full));
        // A terminal that is gone is no fault of the work.
        let _ = write!(out, "\r{} [{bar}] {hundredths:>3} %", self.what).and_then(|()| out.flush());
    }
}

impl<W: Write> Drop for Bar<W> {
    fn drop(&mut self) {
        if let Some(out) = &mut self.out {
            let width = self.what.chars().count() + WIDTH + " [] 100 %".len();
            let _ = write!(out, "\r{}\r", " ".repeat(width)).and_then(|()| out.flush()); // see above
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_drawn_at_each_hundredth_and_wiped_at_the_end() {
        let mut drawn = Vec::new();
        let mut bar = Bar::on(Some(&mut drawn), "reading", 10_000);
        for _ in 0..10_000 {
            bar.add(1);
        }
        bar.add(7);
        drop(bar);
        let text = String::from_utf8(drawn).unwrap();
        let lines: Vec<_> = text.split('\r').collect();
        assert_eq!(lines.len(), 101 + 3, "each hundredth once, and the wiping");
        assert_eq!(
            lines[51],
            format!("reading [{0}{1}]  50 %", "#".repeat(15), ".".repeat(15))
        );
        assert!(lines[101].ends_with("] 100 %"));
        assert!(lines[102].chars().all(|c| c == ' ') && lines[102].len() == lines[101].len());
    }

    #[test]
    fn nobody_watches_and_nothing_is_drawn() {
        let mut bar = Bar::<Vec<u8>>::on(None, "reading", 0);
        bar.add(1);
        assert_eq!(bar.drawn, None);
    }
}
