//! The gate, run here: a package's own suite against its own bars, before anybody signs.
//!
//! Devices run the same suite again before they serve the package, for only they know their heat
//! and their memory. What fails here would fail there on every device, after a download each.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::fault::{Done, FleetError, refused};
use crate::package::{Bars, Gate, Package, Variant};

/// What runs a suite: an engine with a variant of a package.
pub trait Examiner {
    /// Puts a suite to a variant. Says why it could not.
    fn examine(
        &mut self,
        package: &Package,
        variant: &Variant,
        gate: &Gate,
    ) -> Result<Findings, String>;
}

/// How a variant did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// Of each task, how many items were right, and of how many.
    pub tasks: BTreeMap<String, (usize, usize)>,
    /// How far confidence was off on average.
    pub calibration_error: Option<f64>,
    /// The median time of an answer.
    pub median_ms: Option<f64>,
    /// Memory that the engine took at most.
    pub peak_bytes: Option<u64>,
}

/// How a variant did, against the bars.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Which variant.
    pub quantization: String,
    /// Items that were right.
    pub right: usize,
    /// Items.
    pub items: usize,
    /// Each bar.
    pub bars: Vec<Held>,
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

impl Verdict {
    /// The bars that were missed, in words.
    pub fn failures(&self) -> impl Iterator<Item = String> {
        let missed = self.bars.iter().filter(|bar| !bar.passed);
        missed.map(|bar| {
            format!(
                "{} {}: {} found, {} wanted",
                self.quantization, bar.what, bar.found, bar.wanted
            )
        })
    }
}

/// Runs the gate of a package for each of its variants.
pub fn examine(package: &Package, examiner: &mut dyn Examiner) -> Done<Vec<Verdict>> {
    let manifest = package.manifest();
    let (Some(gate), Some(bars)) = (package.gate(), &manifest.bars) else {
        return refused(format!(
            "package {}-{} has no gate suite: no device could tell whether it works there. Give it one \
             (`lineside models make --gate`), or say --without-gate WHY, which is signed with it",
            manifest.name, manifest.seq
        ));
    };
    let mut verdicts = Vec::new();
    for (variant, _) in package.variants() {
        let found = examiner.examine(package, variant, gate);
        let found = found.map_err(|why| {
            FleetError::Refused(format!(
                "package {}-{}, {}: its gate could not be run: {why}",
                manifest.name, manifest.seq, variant.quantization
            ))
        })?;
        verdicts.push(judge(&variant.quantization, bars, &found));
    }
    Ok(verdicts)
}

/// Holds what was found against the bars.
pub fn judge(quantization: &str, bars: &Bars, found: &Findings) -> Verdict {
    let mut held = Vec::new();
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    for (task, wanted) in &bars.accuracy {
        let (right, of) = found.tasks.get(task).copied().unwrap_or_default();
        let share = if of == 0 {
            0.0
        } else {
            count(right) / count(of)
        };
        held.push(Held {
            what: format!("accuracy of {task}"),
            wanted: format!("at least {}", percent(*wanted)),
            found: format!("{} ({right} of {of})", percent(share)),
            passed: share >= *wanted,
        });
    }
    let mut most = |what: &str, wanted: f64, found: Option<f64>, shown: &dyn Fn(f64) -> String| {
        held.push(Held {
            what: what.to_owned(),
            wanted: format!("at most {}", shown(wanted)),
            found: found.map_or("nothing".to_owned(), shown),
            passed: found.is_some_and(|found| found <= wanted),
        });
    };
    if let Some(wanted) = bars.calibration_error {
        let shown = |it: f64| format!("{it:.3}");
        most("calibration error", wanted, found.calibration_error, &shown);
    }
    if let Some(wanted) = bars.latency_ms {
        let shown = |it: f64| format!("{it:.1} ms");
        most("median time", whole(wanted), found.median_ms, &shown);
    }
    if let Some(wanted) = bars.memory_bytes {
        let shown = |it: f64| format!("{:.1} MiB", it / f64::from(1 << 20));
        most("memory", whole(wanted), found.peak_bytes.map(whole), &shown);
    }
    let (right, items) = found
        .tasks
        .values()
        .fold((0, 0), |sum, task| (sum.0 + task.0, sum.1 + task.1));
    Verdict {
        quantization: quantization.to_owned(),
        right,
        items,
        bars: held,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of items, far below 2^52"
)]
fn count(items: usize) -> f64 {
    items as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes and milliseconds, shown with one digit"
)]
fn whole(number: u64) -> f64 {
    number as f64
}

/// What is signed of it: whole numbers, for signed metadata has no others.
pub fn custom(verdicts: &[Verdict]) -> Value {
    let one = |it: &Verdict| {
        let bars: BTreeMap<_, _> = it.bars.iter().map(|bar| (&bar.what, &bar.found)).collect();
        json!({"quantization": it.quantization, "right": it.right, "items": it.items, "found": bars})
    };
    json!({"variants": verdicts.iter().map(one).collect::<Vec<_>>()})
}

/// For people: a line for each bar.
pub fn told(verdicts: &[Verdict]) -> String {
    let mut lines = Vec::new();
    for it in verdicts {
        lines.push(format!(
            "{:<8} {} of {} items right",
            it.quantization, it.right, it.items
        ));
        for bar in &it.bars {
            let word = if bar.passed { "passes" } else { "MISSED" };
            lines.push(format!(
                "  {word}  {:<32} {:<22} {}",
                bar.what, bar.found, bar.wanted
            ));
        }
    }
    lines.join("\n")
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
            accuracy: vec![("triage".into(), 0.8)],
        }
    }

    fn good() -> Findings {
        Findings {
            tasks: BTreeMap::from([("triage".to_owned(), (8, 10))]),
            calibration_error: Some(0.08),
            median_ms: Some(250.0),
            peak_bytes: Some(64 << 20),
        }
    }

    #[test]
    fn what_just_reaches_every_bar_passes() {
        let verdict = judge("Q8_0", &bars(), &good());
        assert_eq!(verdict.failures().count(), 0, "{verdict:?}");
        assert_eq!((verdict.right, verdict.items), (8, 10));
        assert_eq!(verdict.bars.len(), 4);
    }

    #[test]
    fn each_bar_alone_can_be_missed_and_says_so() {
        type Spoil = fn(&mut Findings);
        let worse: [(&str, Spoil); 6] = [
            ("accuracy of triage: 70.0 %", |it| {
                it.tasks.insert("triage".into(), (7, 10));
            }),
            ("accuracy of triage: 0.0 % (0 of 0)", |it| it.tasks.clear()),
            ("calibration error: 0.081", |it| {
                it.calibration_error = Some(0.081);
            }),
            ("calibration error: nothing", |it| {
                it.calibration_error = None;
            }),
            ("median time: 250.1 ms", |it| it.median_ms = Some(250.1)),
            ("memory: 64.1 MiB", |it| {
                it.peak_bytes = Some((64 << 20) + 100_000);
            }),
        ];
        for (wanted, spoil) in worse {
            let mut found = good();
            spoil(&mut found);
            let verdict = judge("Q8_0", &bars(), &found);
            let failures: Vec<_> = verdict.failures().collect();
            assert_eq!(failures.len(), 1, "{failures:?}");
            assert!(failures[0].contains(wanted), "{failures:?}");
        }
    }

    #[test]
    fn what_is_signed_of_it_has_whole_numbers_only() {
        let value = custom(&[judge("Q8_0", &bars(), &good())]);
        crate::ota::tuf::canonical(&value).unwrap();
        assert_eq!(value["variants"][0]["right"], 8);
    }
}
