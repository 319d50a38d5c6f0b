//! The gate's judgement: what a candidate was found to do on this device, against its bars and
//! against what serves.
//!
//! Purpose: [`judge`] is a pure function of figures; who takes them, and how, is of no concern
//! here. The operator's tool and the device judge by the same words.
//!
//! Owns nothing. Invariants: a figure that is demanded and was not taken is missed; each bar that
//! is missed says both numbers; no task gets worse unnoticed because others got better.
//!
//! How it fails: it does not. A package that demands nothing and is compared with nothing passes,
//! and [`Verdict::is_empty`] says so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::package::Bars;

/// What a task may lose against the serving package, as a share. One item of fifty: what a coarser
/// quantization of the same model costs on its hardest task.
pub const ALLOWED_LOSS: f64 = 0.02;
/// The share of answers that must have the form of their task. An answer that was cut short by its
/// limit has not, and nobody downstream can read it.
pub const WANTED_VALIDITY: f64 = 0.99;
/// Shares are fractions of items, and a bar that is just reached counts as reached.
const ROUNDING: f64 = 1e-9;

/// What was found of a variant on a device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Findings {
    /// Of each task, how many items were right, and of how many.
    pub tasks: BTreeMap<String, (usize, usize)>,
    /// How many answers had the form of their task, and of how many items.
    pub valid: Option<(usize, usize)>,
    /// How far confidence was off on average.
    pub calibration_error: Option<f64>,
    /// The median time of an answer.
    pub median_ms: Option<f64>,
    /// Memory that the engine took at most.
    pub peak_bytes: Option<u64>,
}

impl Findings {
    /// Of all tasks, how many items were right, and of how many.
    pub fn overall(&self) -> (usize, usize) {
        let sum = |sum: (usize, usize), task: &(usize, usize)| (sum.0 + task.0, sum.1 + task.1);
        self.tasks.values().fold((0, 0), sum)
    }
}

/// What is demanded beyond a package's own bars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demands {
    /// What a task, and all together, may lose against the serving package, as a share.
    pub loss: f64,
    /// The share of answers that must have the form of their task.
    pub validity: f64,
}

impl Default for Demands {
    fn default() -> Self {
        Self {
            loss: ALLOWED_LOSS,
            validity: WANTED_VALIDITY,
        }
    }
}

/// One bar and what was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Held {
    /// Of what.
    pub what: String,
    /// What is demanded.
    pub wanted: String,
    /// What was found.
    pub found: String,
    /// Whether that is enough.
    pub passed: bool,
}

/// Every bar.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verdict {
    /// The package's own first, then those against what serves.
    pub bars: Vec<Held>,
}

impl Verdict {
    /// Whether every bar was reached.
    pub fn passes(&self) -> bool {
        self.bars.iter().all(|bar| bar.passed)
    }

    /// Whether nothing was demanded at all.
    pub fn is_empty(&self) -> bool {
        self.bars.is_empty()
    }

    /// The bars that were missed, in words.
    pub fn failures(&self) -> impl Iterator<Item = String> {
        let missed = self.bars.iter().filter(|bar| !bar.passed);
        missed.map(|bar| format!("{}: {} found, {} wanted", bar.what, bar.found, bar.wanted))
    }

    fn hold(&mut self, what: impl Into<String>, wanted: String, found: String, passed: bool) {
        self.bars.push(Held {
            what: what.into(),
            wanted,
            found,
            passed,
        });
    }
}

/// Holds what was found against the package's bars and what the serving package was found to do.
pub fn judge(
    found: &Findings,
    bars: Option<&Bars>,
    serving: Option<&Findings>,
    demands: Demands,
) -> Verdict {
    let mut verdict = Verdict::default();
    if let Some(bars) = bars {
        own(&mut verdict, found, bars);
        let wanted = format!("at least {}", percent(demands.validity));
        let enough = found
            .valid
            .is_some_and(|it| share(it) + ROUNDING >= demands.validity);
        let shown = found.valid.map_or_else(nothing, shown);
        verdict.hold("answers of the right form", wanted, shown, enough);
    }
    if let Some(serving) = serving.filter(|it| it.overall().1 > 0) {
        against(&mut verdict, found, serving, demands.loss);
    }
    verdict
}

/// The package's own bars.
fn own(verdict: &mut Verdict, found: &Findings, bars: &Bars) {
    for (task, wanted) in &bars.accuracy {
        let count = found.tasks.get(task).copied().unwrap_or_default();
        let passed = share(count) + ROUNDING >= *wanted;
        let at_least = format!("at least {}", percent(*wanted));
        verdict.hold(
            format!("accuracy of {task}"),
            at_least,
            shown(count),
            passed,
        );
    }
    let mut most = |what, wanted: f64, found: Option<f64>, shown: fn(f64) -> String| {
        let passed = found.is_some_and(|found| found <= wanted);
        let at_most = format!("at most {}", shown(wanted));
        verdict.hold(what, at_most, found.map_or_else(nothing, shown), passed);
    };
    if let Some(wanted) = bars.calibration_error {
        let found = found.calibration_error;
        most("calibration error", wanted, found, |it| format!("{it:.3}"));
    }
    if let Some(wanted) = bars.latency_ms {
        let shown = |it| format!("{it:.1} ms");
        most("median time", whole(wanted), found.median_ms, shown);
    }
    if let Some(wanted) = bars.memory_bytes {
        let shown = |it| format!("{:.1} MiB", it / f64::from(1 << 20));
        most("memory", whole(wanted), found.peak_bytes.map(whole), shown);
    }
}

/// No task may lose more than that, nor all together.
fn against(verdict: &mut Verdict, found: &Findings, serving: &Findings, loss: f64) {
    let tasks = serving.tasks.iter();
    let each = tasks.map(|(task, before)| {
        let now = found.tasks.get(task).copied().unwrap_or_default();
        (
            format!("accuracy of {task} against what serves"),
            now,
            *before,
        )
    });
    let all = (
        "accuracy of all tasks against what serves".to_owned(),
        found.overall(),
        serving.overall(),
    );
    for (what, now, before) in each.chain([all]) {
        let least = share(before) - loss;
        let wanted = format!(
            "at least {}, {:.1} points below {}",
            percent(least.max(0.0)),
            loss * 100.0,
            shown(before)
        );
        let passed = share(now) + ROUNDING >= least;
        verdict.hold(what, wanted, shown(now), passed);
    }
}

fn nothing() -> String {
    "nothing".into()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn shown((hits, of): (usize, usize)) -> String {
    format!("{} ({hits} of {of})", percent(share((hits, of))))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of items, far below 2^52"
)]
fn share((hits, of): (usize, usize)) -> f64 {
    if of == 0 {
        0.0
    } else {
        hits as f64 / of as f64
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes and milliseconds, shown with one digit"
)]
fn whole(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::FilePath;

    fn bars() -> Bars {
        Bars {
            suite: FilePath::parse("gate.jsonl").unwrap(),
            memory_bytes: Some(64 << 20),
            latency_ms: Some(250),
            calibration_error: Some(0.08),
            accuracy: vec![("triage".into(), 0.8), ("intent".into(), 0.5)],
        }
    }

    fn found(triage: usize, intent: usize) -> Findings {
        let tasks = [("triage", (triage, 100)), ("intent", (intent, 100))];
        Findings {
            tasks: tasks.map(|(task, count)| (task.to_owned(), count)).into(),
            valid: Some((198, 200)),
            calibration_error: Some(0.08),
            median_ms: Some(250.0),
            peak_bytes: Some(64 << 20),
        }
    }

    fn missed(found: &Findings, serving: Option<&Findings>) -> Vec<String> {
        let verdict = judge(found, Some(&bars()), serving, Demands::default());
        assert_eq!(verdict.passes(), verdict.failures().count() == 0);
        verdict.failures().collect()
    }

    #[test]
    fn what_just_reaches_every_bar_passes() {
        assert_eq!(missed(&found(80, 50), None), [""; 0]);
        // Two points less than what serves, in each task and in all.
        assert_eq!(missed(&found(80, 50), Some(&found(82, 52))), [""; 0]);
    }

    #[test]
    fn each_bar_alone_can_be_missed_and_says_both_numbers() {
        type Worse = (&'static str, &'static str, fn(&mut Findings));
        let worse: [Worse; 8] = [
            (
                "accuracy of triage: 79.0 % (79 of 100)",
                "at least 80.0 %",
                |it| {
                    it.tasks.insert("triage".into(), (79, 100));
                },
            ),
            (
                "accuracy of triage: 0.0 % (0 of 0)",
                "at least 80.0 %",
                |it| {
                    it.tasks.remove("triage");
                },
            ),
            ("right form: 98.5 % (197 of 200)", "at least 99.0 %", |it| {
                it.valid = Some((197, 200));
            }),
            ("right form: nothing", "at least 99.0 %", |it| {
                it.valid = None;
            }),
            ("calibration error: 0.081", "at most 0.080", |it| {
                it.calibration_error = Some(0.081);
            }),
            ("median time: 250.1 ms", "at most 250.0 ms", |it| {
                it.median_ms = Some(250.1);
            }),
            ("median time: nothing", "at most 250.0 ms", |it| {
                it.median_ms = None;
            }),
            ("memory: 64.1 MiB", "at most 64.0 MiB", |it| {
                it.peak_bytes = Some((64 << 20) + 100_000);
            }),
        ];
        for (is, wanted, spoil) in worse {
            let mut found = found(80, 50);
            spoil(&mut found);
            let missed = missed(&found, None);
            assert_eq!(missed.len(), 1, "{missed:?}");
            assert!(
                missed[0].contains(is) && missed[0].contains(wanted),
                "{missed:?}"
            );
        }
    }

    #[test]
    fn one_task_that_gets_worse_is_not_hidden_by_another_that_gets_better() {
        let missed = missed(&found(99, 60), Some(&found(80, 63)));
        assert_eq!(
            missed,
            [
                "accuracy of intent against what serves: 60.0 % (60 of 100) found, at least 61.0 %, \
              2.0 points below 63.0 % (63 of 100) wanted"
            ]
        );
    }

    #[test]
    fn a_task_that_is_gone_is_a_task_that_lost_everything() {
        let mut candidate = found(90, 90);
        candidate.tasks.remove("intent");
        let verdict = judge(&candidate, None, Some(&found(90, 90)), Demands::default());
        assert_eq!(verdict.failures().count(), 1, "{verdict:?}");
        // All together are none the worse: the rest is as good as it was.
        assert!(verdict.failures().all(|it| it.contains("intent")));
    }

    #[test]
    fn all_tasks_together_may_not_lose_either_where_a_large_one_weighs() {
        let of = |small, large| Findings {
            tasks: [
                ("a".to_owned(), (small, 10)),
                ("b".to_owned(), (large, 1000)),
            ]
            .into(),
            ..Findings::default()
        };
        let verdict = judge(&of(10, 970), None, Some(&of(10, 1000)), Demands::default());
        let missed: Vec<_> = verdict.failures().collect();
        assert_eq!(missed.len(), 2, "{missed:?}");
        assert!(missed[1].starts_with("accuracy of all tasks"));
    }

    #[test]
    fn nothing_demanded_and_nothing_to_compare_passes_and_says_so() {
        let empty = Findings::default();
        let verdict = judge(&empty, None, Some(&empty), Demands::default());
        assert!(verdict.passes() && verdict.is_empty());
        assert!(!judge(&empty, Some(&bars()), None, Demands::default()).passes());
    }

    #[test]
    fn findings_are_read_as_they_were_written() {
        let written = found(80, 50);
        let text = serde_json::to_string(&written).unwrap();
        assert_eq!(serde_json::from_str::<Findings>(&text).unwrap(), written);
    }
}
