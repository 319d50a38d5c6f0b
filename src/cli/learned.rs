//! `lineside calibrate --learned`: what reviewers taught the running appliance, and how some of it
//! is taken back.

use std::fmt::Write as _;
use std::io::Write;

use serde::Deserialize;
use serde_json::json;

use super::calibrate::Args;
use super::reach::ReachError;
use crate::clock::{DAY_MS, Wall};
use crate::console::client;
use crate::package::Calibration;

/// Confidences of the package, of which is told what they are worth here.
const SHOWN: [f64; 4] = [0.5, 0.65, 0.8, 0.95];

#[derive(Debug, Deserialize)]
struct Lessons {
    done: bool,
    tasks: Vec<OfTask>,
}

#[derive(Debug, Deserialize)]
struct OfTask {
    #[serde(rename = "task")]
    name: String,
    verdicts: usize,
    bend: Vec<(f64, f64)>,
    seen: u64,
    wrong: u64,
    expected: f64,
    alarm: Option<u64>,
    changes: Vec<Changed>,
}

#[derive(Debug, Deserialize)]
struct Changed {
    at_ms: u64,
    why: String,
    verdicts: Option<usize>,
    most: f64,
}

/// Runs the subcommand and returns the exit code.
pub async fn command(args: &Args) -> Result<u8, ReachError> {
    let socket = args.target.socket()?;
    let mut line = json!({ "cmd": "learned" });
    for (key, task) in [("undo", &args.undo), ("acknowledge", &args.acknowledge)] {
        if let Some(task) = task {
            line[key] = json!(task);
        }
    }
    let data = client::command(&socket, &line).await?;
    let lessons: Lessons = client::read(&data)?;
    let mut out = std::io::stdout().lock();
    // A reader that hung up is no fault of the appliance.
    let _ = if args.target.json {
        writeln!(out, "{data}")
    } else {
        write!(out, "{}", told(&lessons))
    };
    match args.undo.as_ref().or(args.acknowledge.as_ref()) {
        Some(task) if !lessons.done => Err(ReachError::Usage(format!(
            "{task}: there is nothing to take back or acknowledge"
        ))),
        Some(_) | None => Ok(0),
    }
}

fn told(lessons: &Lessons) -> String {
    let mut text = format!("{:<24}{:>8}", "task", "verdicts");
    for said in SHOWN {
        let _ = write!(text, "{:>9}", format!("{said} is")); // a String takes all
    }
    let _ = writeln!(text, "{:>18}", "wrong / expected");
    for task in &lessons.tasks {
        let _ = write!(text, "{:<24}{:>8}", task.name, task.verdicts);
        let bend = Calibration::new(task.bend.clone()).ok();
        for said in SHOWN {
            let worth = bend.as_ref().map_or(said, |bend| bend.probability(said));
            let _ = write!(text, "{worth:>9.3}");
        }
        let _ = writeln!(
            text,
            "{:>18}",
            format!("{} / {:.1}", task.wrong, task.expected)
        );
        for change in &task.changes {
            let _ = writeln!(text, "  {}", line(change));
        }
        if let Some(after) = task.alarm {
            let _ = writeln!(
                text,
                "  ALARM after {after} of {} verdicts: more answers are wrong than confidence \
                 says; calibrate the package anew, then --acknowledge {}",
                task.seen, task.name
            );
        }
    }
    text
}

fn line(change: &Changed) -> String {
    let (year, month, day) = Wall(change.at_ms).date();
    let minutes = change.at_ms % DAY_MS / 60_000;
    let (hour, minute) = (minutes / 60, minutes % 60);
    let why = match (change.why.as_str(), change.verdicts) {
        ("verdicts", Some(count)) => format!("by {count} verdicts"),
        ("undone", _) => "taken back".into(),
        ("package", _) => "another package".into(),
        (other, _) => other.to_owned(),
    };
    format!(
        "{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC  {why}, by up to {:.3}",
        change.most
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_has_a_line_and_what_happened_to_it_stands_below() {
        let data = json!({"done": false, "tasks": [{
            "task": "triage", "verdicts": 50, "bend": [[0.0, 0.0], [0.8, 0.72], [1.0, 1.0]],
            "seen": 61, "wrong": 12, "expected": 4.25, "alarm": 40, "changes": [
                {"at_ms": 1_800_000_000_000_u64, "why": "verdicts", "verdicts": 50, "most": 0.08},
                {"at_ms": 1_800_000_060_000_u64, "why": "undone", "verdicts": null, "most": 0.08},
            ],
        }]});
        let lessons: Lessons = serde_json::from_value(data).unwrap();
        let text = told(&lessons);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        let words: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(words[..2], ["triage", "50"]);
        assert_eq!(words[4..], ["0.720", "0.930", "12", "/", "4.2"], "{text}");
        assert_eq!(
            lines[2].trim(),
            "2027-01-15 08:00 UTC  by 50 verdicts, by up to 0.080"
        );
        assert!(lines[3].contains("08:01 UTC  taken back"), "{text}");
        assert!(lines[4].contains("ALARM after 40 of 61 verdicts"), "{text}");
    }
}
