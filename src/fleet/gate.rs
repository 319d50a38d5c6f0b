//! The gate, run here: a package's own suite against its own bars, before anybody signs.
//!
//! Devices run the same suite again before they serve the package, for only they know their heat
//! and their memory. What fails here would fail there on every device, after a download each.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::fault::{Done, FleetError, refused};
use crate::ota::verdict::{self, Demands, Findings, Held};
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

/// Holds what was found against the bars, in the words of the device.
pub fn judge(quantization: &str, bars: &Bars, found: &Findings) -> Verdict {
    let (right, items) = found.overall();
    Verdict {
        quantization: quantization.to_owned(),
        right,
        items,
        bars: verdict::judge(found, Some(bars), None, Demands::default()).bars,
    }
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
            valid: Some((10, 10)),
            calibration_error: Some(0.08),
            median_ms: Some(250.0),
            peak_bytes: Some(64 << 20),
        }
    }

    #[test]
    fn bars_are_held_as_on_a_device_and_a_miss_names_the_variant() {
        let verdict = judge("Q8_0", &bars(), &good());
        assert_eq!(verdict.failures().count(), 0, "{verdict:?}");
        assert_eq!((verdict.right, verdict.items), (8, 10));
        let mut slow = good();
        slow.median_ms = Some(250.1);
        let verdict = judge("Q8_0", &bars(), &slow);
        let failures: Vec<_> = verdict.failures().collect();
        let wanted = "Q8_0 median time: 250.1 ms found, at most 250.0 ms wanted";
        assert_eq!(failures, [wanted]);
    }

    #[test]
    fn what_is_signed_of_it_has_whole_numbers_only() {
        let value = custom(&[judge("Q8_0", &bars(), &good())]);
        crate::ota::tuf::canonical(&value).unwrap();
        assert_eq!(value["variants"][0]["right"], 8);
    }
}
