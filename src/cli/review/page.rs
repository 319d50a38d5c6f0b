//! What `lineside review` prints for people.
//!
//! Texts of devices come from anywhere: what would move the cursor or colour the screen is shown as
//! a mark.

use std::fmt::Write as _;

use serde::Serialize;

use crate::review::{Row, SHORT_DIGITS, Sheet};

/// What became of a file.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    /// Verdicts that settled an item.
    pub carried_out: usize,
    /// Verdicts of items that were settled before.
    pub settled: usize,
    /// Tasks without an annotation.
    pub open: usize,
    /// What was not carried out, and why.
    pub faults: Vec<(String, String)>,
}

impl Report {
    pub(super) fn fault(&mut self, what: &str, why: &str) {
        self.faults.push((what.into(), why.into()));
    }

    pub(super) fn told(&self) -> String {
        let mut text = format!(
            "{} carried out, {} settled before, {} not annotated yet, {} not carried out\n",
            self.carried_out,
            self.settled,
            self.open,
            self.faults.len()
        );
        for (what, why) in &self.faults {
            let _ = writeln!(text, "  {what}: {why}"); // writing to a String cannot fail
        }
        text
    }
}

/// The list.
pub(super) fn list(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "nothing waits for a person\n".into();
    }
    let mut text = format!(
        "{:<SHORT_DIGITS$}  {:>8}  {:<8}  {:<10}  {:<16}  {:<16}  {}\n",
        "ID", "AGE", "PRIORITY", "CLASS", "TASK", "CLIENT", "HELD BY"
    );
    for row in rows {
        let _ = writeln!(
            text,
            "{:<SHORT_DIGITS$}  {:>8}  {:<8}  {:<10}  {:<16}  {:<16}  {}",
            short(&row.id),
            age(row.age_ms),
            row.priority,
            row.classification,
            row.task.as_deref().unwrap_or("-"),
            clean(&row.client),
            clean(row.held_by.as_deref().unwrap_or("-")),
        ); // writing to a String cannot fail
    }
    text
}

/// One item.
pub(super) fn sheet(sheet: &Sheet) -> String {
    let row = &sheet.row;
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "{what:<10}{value}"); // writing to a String cannot fail
    };
    line("item", row.id.clone());
    let task = row.task.as_deref().unwrap_or("a free prompt");
    line(
        "request",
        format!(
            "{} of {} ({task}, {}, priority {})",
            clean(&row.request_id),
            clean(&row.client),
            row.classification,
            row.priority
        ),
    );
    line("waits for", age(row.age_ms));
    if let Some(by) = &row.held_by {
        line("held by", clean(by));
    }
    line("because", clean(&sheet.why));
    line(
        "answer",
        if sheet.answer.choices.is_empty() {
            sheet.answer.kind.clone()
        } else {
            format!("one of: {}", clean(&sheet.answer.choices.join(", ")))
        },
    );
    part(&mut text, "question", &sheet.question);
    match &sheet.draft {
        Some(draft) => {
            let mut title = format!("draft of the {}", draft.source);
            if let Some(model) = &draft.model {
                let _ = write!(title, ", {}", clean(model));
            }
            if let Some(confidence) = draft.confidence {
                let _ = write!(title, ", confidence {confidence:.2}");
            }
            part(&mut text, &title, &draft.text);
        }
        None => text.push_str("\nno draft\n"),
    }
    text
}

fn part(text: &mut String, title: &str, body: &str) {
    let _ = writeln!(text, "\n{title}:"); // writing to a String cannot fail
    for line in body.lines() {
        let _ = writeln!(text, "  {}", clean(line));
    }
}

/// The first digits of an id.
pub(super) fn short(id: &str) -> String {
    id.chars().take(SHORT_DIGITS).collect()
}

/// A text that leaves the screen alone.
fn clean(text: &str) -> String {
    let harmless = |c: char| {
        if c.is_control() && c != '\t' {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    text.chars().map(harmless).collect()
}

/// A span, as people say it.
fn age(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::sheet::{Answer, Draft};

    fn one() -> Sheet {
        Sheet {
            row: Row {
                id: "0123456789abcdef0123".into(),
                request_id: "a-1".into(),
                client: "press7".into(),
                priority: "high".into(),
                classification: "internal".into(),
                age_ms: 300_000,
                held_by: Some("anna".into()),
                ..Row::default()
            },
            question: "hums\nloudly \u{1b}[2J".into(),
            answer: Answer {
                kind: "choice".into(),
                choices: vec!["stop".into(), "go on".into()],
            },
            draft: Some(Draft {
                text: "go on".into(),
                source: "edge".into(),
                model: Some("factory-triage-7".into()),
                confidence: Some(0.414),
            }),
            why: "confidence 0.41 < 0.65".into(),
        }
    }

    #[test]
    fn the_list_shows_what_to_choose_by() {
        let text = list(&[one().row]);
        for word in [
            "0123456789ab ",
            "5 min",
            "high",
            "internal",
            "press7",
            "anna",
        ] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert_eq!(list(&[]), "nothing waits for a person\n");
    }

    #[test]
    fn a_sheet_shows_everything_and_leaves_the_screen_alone() {
        let text = sheet(&one());
        for words in [
            "a-1 of press7 (a free prompt, internal, priority high)",
            "held by   anna",
            "one of: stop, go on",
            "question:\n  hums\n  loudly \u{fffd}[2J\n",
            "draft of the edge, factory-triage-7, confidence 0.41:\n  go on\n",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn an_age_is_said_in_one_unit() {
        for (ms, told) in [
            (1999, "1 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (200_000_000, "2 d"),
        ] {
            assert_eq!(age(ms), told);
        }
    }

    #[test]
    fn a_report_names_what_was_not_carried_out() {
        let mut report = Report {
            carried_out: 3,
            settled: 1,
            ..Report::default()
        };
        report.fault("task 2", "its lineside_id is none");
        let text = report.told();
        assert!(text.contains("3 carried out, 1 settled before"), "{text}");
        assert!(text.contains("task 2: its lineside_id is none"), "{text}");
    }
}
