//! Labels, tables and lines that fit.

use std::fmt::Write as _;

use serde_json::Value;

use crate::clock::{DAY_MS, Wall};

/// Columns of a label and the gap behind it.
const LABEL: usize = 12;

/// A page of labelled lines.
#[derive(Debug, Default)]
pub(super) struct Sheet(String);

impl Sheet {
    /// A labelled line.
    pub(super) fn row(&mut self, label: &str, value: impl AsRef<str>) {
        let line = format!("{label:<LABEL$}{}", value.as_ref());
        self.line(line.trim_end());
    }

    /// A labelled line for a value of the answer.
    pub(super) fn told(&mut self, label: &str, value: &Value) {
        if !value.is_null() {
            self.row(label, text(value));
        }
    }

    /// A line without a label.
    pub(super) fn line(&mut self, line: impl AsRef<str>) {
        self.0.push_str(line.as_ref());
        self.0.push('\n');
    }

    pub(super) fn text(self) -> String {
        self.0
    }
}

/// A table; the last column is as wide as it likes, the others have the width of their widest.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..heads.len())
        .map(|at| {
            let cells = rows.iter().filter_map(|row| row.get(at));
            let widest = cells.map(|cell| cell.chars().count()).max();
            widest.unwrap_or_default().max(heads[at].len())
        })
        .collect();
    let mut out = String::new();
    let mut put = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (at, cell) in cells.enumerate() {
            let width = widths.get(at).copied().unwrap_or_default();
            let _ = write!(line, "{cell:<width$}  "); // writing to a String cannot fail
        }
        out.push_str(line.trim_end());
        out.push('\n');
    };
    put(&mut heads.iter().copied());
    for row in rows {
        put(&mut row.iter().map(String::as_str));
    }
    out
}

/// A value in words.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => clean(text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(text).collect();
            items.join(", ")
        }
        Value::Object(_) => clean(&value.to_string()),
    }
}

/// An answer of a command that has no page of its own.
pub(super) fn anything(data: &Value) -> String {
    match data {
        Value::Object(fields) => {
            let mut sheet = Sheet::default();
            for (name, value) in fields {
                sheet.row(name, text(value));
            }
            sheet.text()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            format!("{}\n", text(data))
        }
    }
}

/// A text that leaves the screen alone.
pub fn clean(text: &str) -> String {
    let harmless = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(harmless).collect()
}

/// A moment as people write it, to the second.
pub fn moment(at_ms: u64) -> String {
    let in_day = at_ms % DAY_MS;
    let (year, month, day) = Wall(at_ms).date();
    let (hour, minute, second) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// A span, as people say it.
pub fn span(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Bytes, as people say them.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{} kB", count / 1000),
        _ => format!("{} MB", count / 1_000_000),
    }
}

/// Breaks lines that are wider than the screen: at a blank where there is one, else anywhere.
/// What goes on is indented like the value it belongs to, as far as there is room.
pub fn fold(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut rest: Vec<char> = line.chars().collect();
        let indent = indent_of(&rest, columns);
        loop {
            if rest.len() <= columns {
                lines.push(rest.iter().collect());
                break;
            }
            let blank = rest[..=columns].iter().rposition(|c| *c == ' ');
            let cut = blank.filter(|at| *at > indent).unwrap_or(columns);
            let line: String = rest[..cut].iter().collect();
            lines.push(line.trim_end().to_owned());
            let more = rest[cut..].iter().skip_while(|c| **c == ' ');
            rest = std::iter::repeat_n(' ', indent)
                .chain(more.copied())
                .collect();
        }
    }
    lines
}

/// Where the value of a line begins: behind the last gap of two blanks in its first part.
fn indent_of(line: &[char], columns: usize) -> usize {
    let half = columns / 2;
    let own = line.iter().take_while(|c| **c == ' ').count();
    let gap = (2..line.len().min(half))
        .rev()
        .find(|at| line[at - 2] == ' ' && line[at - 1] == ' ' && line[*at] != ' ');
    gap.unwrap_or(own).min(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_lines_are_folded_and_nothing_is_lost() {
        let line = format!("state       {}", "word ".repeat(40));
        let folded = fold(&line, 79);
        assert!(folded.len() > 1);
        for (at, line) in folded.iter().enumerate() {
            assert!(line.chars().count() <= 79, "{line}");
            assert!(at == 0 || line.starts_with("            word"), "{line}");
        }
        let words: usize = folded.iter().map(|it| it.matches("word").count()).sum();
        assert_eq!(words, 40);
        let id = "x".repeat(200);
        assert_eq!(fold(&id, 79).concat(), id);
        assert_eq!(fold("a\n\nb", 79), ["a", "", "b"]);
    }

    #[test]
    fn a_text_leaves_the_screen_alone() {
        assert_eq!(clean("a\u{1b}[2J\tb\r"), "a\u{fffd}[2J b\u{fffd}");
    }

    #[test]
    fn a_table_is_as_wide_as_it_must_be() {
        let rows = [vec!["a".to_owned(), "long one".into(), "x".into()]];
        assert_eq!(
            table(&["ID", "WORD", "Z"], &rows),
            "ID  WORD      Z\na   long one  x\n"
        );
    }

    #[test]
    fn figures_read_as_people_say_them() {
        assert_eq!(moment(951_782_400_123), "2000-02-29 00:00:00Z");
        assert_eq!((span(1999), span(120_000)), ("1 s".into(), "2 min".into()));
        assert_eq!(
            (bytes(742), bytes(12_345)),
            ("742 B".into(), "12 kB".into())
        );
    }
}
