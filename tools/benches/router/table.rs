//! The figures with their goals, as a table and as JSON.

use serde_json::{Value, json};

/// What a figure is to reach.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

/// A figure over draws or resplits: its mean counts, its least and greatest stand beside.
pub(crate) struct Row {
    variant: String,
    what: String,
    mean: f64,
    least: f64,
    most: f64,
    goal: Option<Goal>,
}

#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    pub(crate) fn told(&mut self, variant: &str, what: &str, values: &[f64]) {
        self.add(variant, what, values, None);
    }

    pub(crate) fn held(&mut self, variant: &str, what: &str, values: &[f64], goal: Goal) {
        self.add(variant, what, values, Some(goal));
    }

    fn add(&mut self, variant: &str, what: &str, values: &[f64], goal: Option<Goal>) {
        self.rows.push(Row {
            variant: variant.to_owned(),
            what: what.to_owned(),
            mean: values.iter().sum::<f64>() / values.len() as f64,
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            goal,
        });
    }

    pub(crate) fn print(&self) {
        println!(
            "\n{:<8} {:<44} {:>8} {:>19}  {:<9}",
            "variant", "figure", "mean", "least … greatest", "goal"
        );
        for row in &self.rows {
            let range = format!("{:.4} … {:.4}", row.least, row.most);
            println!(
                "{:<8} {:<44} {:>8.4} {range:>19}  {:<9} {}",
                row.variant,
                row.what,
                row.mean,
                row.goal_words(),
                row.verdict().unwrap_or_default()
            );
        }
    }

    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "variant": row.variant, "figure": row.what, "mean": row.mean,
                "least": row.least, "greatest": row.most,
                "goal": row.goal_words(), "verdict": row.verdict(),
            })
        });
        Value::Array(rows.collect())
    }
}

impl Row {
    fn goal_words(&self) -> String {
        match self.goal {
            Some(Goal::AtLeast(goal)) => format!("≥ {goal}"),
            Some(Goal::AtMost(goal)) => format!("≤ {goal}"),
            None => String::new(),
        }
    }

    fn verdict(&self) -> Option<&'static str> {
        let met = match self.goal? {
            Goal::AtLeast(goal) => self.mean >= goal,
            Goal::AtMost(goal) => self.mean <= goal,
        };
        Some(if met { "met" } else { "missed" })
    }
}
