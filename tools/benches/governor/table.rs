//! The figures of all boards, as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::race::Outcome;

/// What the governor is held to.
const OF_ORACLE: f64 = 0.97;
const OF_STEP_WISE: f64 = 1.08;

/// One controller on all seeds of one kind of board.
pub(crate) struct Row {
    name: String,
    figures: Option<Figures>,
}

struct Figures {
    above_s: Spread,
    hottest_c: f64,
    of_oracle: Spread,
    of_step_wise: Spread,
}

/// Mean and worst over the seeds.
struct Spread {
    mean: f64,
    worst: f64,
}

impl Spread {
    fn of(values: &[f64], worst: fn(f64, f64) -> f64) -> Self {
        Self {
            mean: values.iter().sum::<f64>() / values.len() as f64,
            worst: values.iter().copied().reduce(worst).unwrap_or(f64::NAN),
        }
    }
}

impl Row {
    pub(crate) fn of(name: &str, outcomes: &[Outcome], oracle: &[f64], step_wise: &[f64]) -> Self {
        let against = |others: &[f64]| {
            let ratios: Vec<f64> = outcomes
                .iter()
                .zip(others)
                .map(|(outcome, other)| outcome.work / other)
                .collect();
            Spread::of(&ratios, f64::min)
        };
        let above: Vec<f64> = outcomes.iter().map(|outcome| outcome.above_s).collect();
        let hottest = outcomes.iter().map(|outcome| outcome.hottest_c);
        Self {
            name: name.to_owned(),
            figures: Some(Figures {
                above_s: Spread::of(&above, f64::max),
                hottest_c: hottest.fold(f64::NEG_INFINITY, f64::max),
                of_oracle: against(oracle),
                of_step_wise: against(step_wise),
            }),
        }
    }

    /// It could not take part.
    pub(crate) fn none(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            figures: None,
        }
    }

    fn cells(&self) -> [String; 7] {
        let Some(f) = &self.figures else {
            return std::array::from_fn(|i| {
                if i == 0 {
                    self.name.clone()
                } else {
                    "–".into()
                }
            });
        };
        [
            self.name.clone(),
            format!("{:.1}", f.above_s.mean),
            format!("{:.1}", f.above_s.worst),
            format!("{:.2}", f.hottest_c),
            format!("{:.4}", f.of_oracle.mean),
            format!("{:.4}", f.of_oracle.worst),
            format!("{:.3} ({:.3})", f.of_step_wise.mean, f.of_step_wise.worst),
        ]
    }
}

pub(crate) struct Table {
    seeds: u64,
    boards: Vec<(&'static str, Vec<Row>)>,
}

impl Table {
    pub(crate) fn new(seeds: u64) -> Self {
        Self {
            seeds,
            boards: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, board: &'static str, rows: Vec<Row>) {
        self.boards.push((board, rows));
    }

    pub(crate) fn print_last(&self) {
        let Some((board, rows)) = self.boards.last() else {
            return;
        };
        println!(
            "\n{:<46}{:>9}{:>9}{:>9}{:>10}{:>10}{:>17}",
            board, "above s", "worst", "hottest", "/ oracle", "worst", "/ step-wise"
        );
        for row in rows {
            let [name, rest @ ..] = row.cells();
            let [above, worst, hottest, oracle, least, step_wise] = rest;
            println!(
                "  {name:<44}{above:>9}{worst:>9}{hottest:>9}{oracle:>10}{least:>10}{step_wise:>17}"
            );
        }
    }

    /// Each goal on each board: met or missed.
    fn goals(&self) -> Vec<(&'static str, [(String, bool); 3])> {
        let lineside = self
            .boards
            .iter()
            .filter_map(|(board, rows)| Some((*board, rows.first()?.figures.as_ref()?)));
        lineside
            .map(|(board, f)| {
                let goals = [
                    (
                        format!("{:.1} s above", f.above_s.worst),
                        f.above_s.worst == 0.0,
                    ),
                    (
                        format!("{:.4} of the oracle", f.of_oracle.mean),
                        f.of_oracle.mean >= OF_ORACLE,
                    ),
                    (
                        format!("{:.3} of step-wise", f.of_step_wise.mean),
                        f.of_step_wise.mean >= OF_STEP_WISE,
                    ),
                ];
                (board, goals)
            })
            .collect()
    }

    pub(crate) fn print_goals(&self) {
        println!(
            "\ngoals for lineside: 0 s above the limit, ≥ {OF_ORACLE} of the oracle, ≥ {OF_STEP_WISE} of step-wise"
        );
        for (board, goals) in self.goals() {
            let words = goals.map(|(words, met)| {
                let verdict = if met { "met" } else { "missed" };
                format!("{words} ({verdict})")
            });
            println!("  {board:<26}{}", words.join(", "));
        }
    }

    pub(crate) fn json(&self) -> Value {
        let boards = self.boards.iter().map(|(board, rows)| {
            let rows: serde_json::Map<String, Value> = rows
                .iter()
                .map(|row| {
                    let value = row.figures.as_ref().map_or(Value::Null, |f| {
                        json!({
                            "above_s": f.above_s.mean, "above_s_worst": f.above_s.worst,
                            "hottest_celsius": f.hottest_c,
                            "of_oracle": f.of_oracle.mean, "of_oracle_worst": f.of_oracle.worst,
                            "of_step_wise": f.of_step_wise.mean,
                            "of_step_wise_worst": f.of_step_wise.worst,
                        })
                    });
                    (row.name.clone(), value)
                })
                .collect();
            ((*board).to_owned(), Value::Object(rows))
        });
        json!({ "seeds": self.seeds, "boards": boards.collect::<serde_json::Map<_, _>>() })
    }

    pub(crate) fn markdown(&self, pictures: &[(String, String)]) -> String {
        let mut out = format!(
            "# Heat, simulated\n\nWritten by `tools/bench governor --write`: {} seeds of each board, an \
             hour each, every part of a board up to a quarter off its kind. What the figures mean, and \
             what the oracle knows, stands in `tools/benches/governor.rs` and `tests/thermal/`.\n\n",
            self.seeds
        );
        for (name, _) in pictures {
            let _ = writeln!(out, "![temperature and work over an hour]({name})\n");
        }
        for (board, rows) in &self.boards {
            let _ = writeln!(
                out,
                "## {board}\n\n| | above, s | worst seed | hottest, °C | / oracle | worst seed | / step-wise (worst) |\n\
                 | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
            );
            for row in rows {
                let _ = writeln!(out, "| {} |", row.cells().join(" | "));
            }
            out.push('\n');
        }
        out.trim_end().to_owned() + "\n"
    }
}
