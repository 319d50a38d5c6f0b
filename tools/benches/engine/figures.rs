//! Figures: quantiles of spans, and the sheet on which each stands beside its goal.

use std::time::Duration;

use serde_json::{Value, json};

/// What a figure is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// Nothing was promised; it is there to be compared with.
    Open,
}

/// All figures of a run, printed as they come.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    part: String,
    rows: Vec<Value>,
    missed: Vec<String>,
}

impl Sheet {
    /// What comes now belongs to this.
    pub(crate) fn part(&mut self, name: &str) {
        name.clone_into(&mut self.part);
        println!("\n{name}");
    }

    /// A figure, its unit, and its goal. Those below a hundred are shown with digits behind the
    /// point.
    pub(crate) fn row(&mut self, what: &str, figure: f64, unit: &str, goal: Goal) {
        let digits = match figure.abs() {
            small if small < 10.0 => 3,
            middling if middling < 100.0 => 1,
            _ => 0,
        };
        let shown = format!("{figure:.digits$} {unit}");
        let (wanted, met) = match goal {
            Goal::AtMost(limit) => (format!("goal <= {limit}"), Some(figure <= limit)),
            Goal::AtLeast(limit) => (format!("goal >= {limit}"), Some(figure >= limit)),
            Goal::Open => (String::new(), None),
        };
        let judged = match met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        };
        let line = format!("  {what:<54}{:>12}   {wanted:<14}{judged}", shown.trim());
        println!("{}", line.trim_end());
        if met == Some(false) {
            let line = format!("{}: {what}: {} ({wanted})", self.part, shown.trim());
            self.missed.push(line);
        }
        self.rows.push(json!({
            "part": self.part,
            "what": what,
            "figure": figure,
            "unit": unit,
            "goal": if wanted.is_empty() { Value::Null } else { wanted.into() },
            "met": met,
        }));
    }

    /// Something that is no figure and that nobody may overlook.
    pub(crate) fn note(&mut self, words: &str) {
        println!("  {words}");
        self.rows.push(json!({ "part": self.part, "note": words }));
    }

    /// The last words on the screen, and the whole as JSON.
    pub(crate) fn close(self) -> Value {
        println!();
        if self.missed.is_empty() {
            println!("every goal was met");
        } else {
            println!("missed:");
            for line in &self.missed {
                println!("  {line}");
            }
        }
        json!({ "rows": self.rows, "missed": self.missed })
    }
}

/// The median and the 99th of a hundred, in microseconds.
pub(crate) fn quantiles_us(spans: &[Duration]) -> [f64; 2] {
    let mut spans = spans.to_vec();
    spans.sort();
    [50, 99].map(|percent| spans[(spans.len() - 1) * percent / 100].as_secs_f64() * 1e6)
}

/// The middle one.
pub(crate) fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The median of how many times longer each of the first took than its partner.
pub(crate) fn median_ratio(ours: &[Duration], theirs: &[Duration]) -> f64 {
    let pairs = ours.iter().zip(theirs);
    median(
        pairs
            .map(|(a, b)| a.as_secs_f64() / b.as_secs_f64())
            .collect(),
    )
}
