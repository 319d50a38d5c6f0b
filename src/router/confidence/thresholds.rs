//! From which confidence on an answer is believed.
//!
//! | The site says | The threshold is |
//! | --- | --- |
//! | nothing | the task's, as the package has it; [`USUAL`] for a free prompt |
//! | a threshold | that one, for all |
//! | a risk target | what the package's points of [`risk`](super::risk) promise it for |
//!
//! How it fails: where a target is wanted that the package cannot promise, [`NOTHING`] is sure
//! enough, so no answer counts as believed; [`Thresholds::unpromised`] names those tasks for the
//! log. A free prompt has no labels, so there it is always so.

use std::collections::BTreeMap;

use super::risk::Target;
use crate::package::{Manifest, Task};

/// Where nobody says anything else.
pub const USUAL: f32 = 0.65;
/// More than any confidence.
pub const NOTHING: f32 = f32::INFINITY;

/// What a site wants.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Aim {
    /// As each task says.
    #[default]
    ByTask,
    /// This for all.
    Threshold(f32),
    /// So few errors of those that stay.
    Risk(Target),
}

impl Aim {
    /// From what the site wrote. A target counts for more than a threshold: it is a promise.
    pub fn of(threshold: Option<f64>, risk_target: Option<f64>) -> Self {
        let target = risk_target.and_then(Target::new).map(Self::Risk);
        let threshold = threshold.map(|it| Self::Threshold(raised(it)));
        target.or(threshold).unwrap_or_default()
    }
}

/// The thresholds of one variant of a package at one site.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// For what no task is named of.
    other: f32,
    tasks: BTreeMap<String, f32>,
}

impl Default for Thresholds {
    /// Without a package.
    fn default() -> Self {
        Self {
            other: USUAL,
            tasks: BTreeMap::new(),
        }
    }
}

impl Thresholds {
    /// Those of a variant.
    pub fn of(manifest: &Manifest, quantization: &str, aim: Aim) -> Self {
        let of = |task: &Task| match aim {
            Aim::ByTask => raised(task.threshold),
            Aim::Threshold(threshold) => threshold,
            Aim::Risk(target) => {
                let points = manifest.risk(&task.name, quantization);
                let threshold = points.and_then(|it| it.threshold(target.share()));
                threshold.map_or(NOTHING, raised)
            }
        };
        let tasks = manifest.tasks.iter();
        Self {
            other: match aim {
                Aim::ByTask => USUAL,
                Aim::Threshold(threshold) => threshold,
                Aim::Risk(_) => NOTHING,
            },
            tasks: tasks.map(|task| (task.name.clone(), of(task))).collect(),
        }
    }

    /// The confidence that an answer takes; none is a free prompt, or one with a schema of its own.
    pub fn for_task(&self, task: Option<&str>) -> f32 {
        let own = task.and_then(|task| self.tasks.get(task));
        own.copied().unwrap_or(self.other)
    }

    /// Tasks of which no answer is sure enough, because the package has no points that promise
    /// what the site wants.
    pub fn unpromised(&self) -> impl Iterator<Item = &str> {
        let none = self.tasks.iter().filter(|(_, sure)| sure.is_infinite());
        none.map(|(task, _)| task.as_str())
    }
}

/// As confidence is told, and not below what was written: what lies on the threshold as it was
/// found must not get past it by a rounding.
#[expect(
    clippy::cast_possible_truncation,
    reason = "what is lost is looked after"
)]
fn raised(share: f64) -> f32 {
    let near = share as f32;
    if f64::from(near) < share {
        near.next_up()
    } else {
        near
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::{Package, Risk, RiskPoints};

    fn manifest() -> Manifest {
        let bundled = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let package = Package::open(&bundled.join("models/factory-triage"));
        let mut manifest = package.unwrap().manifest().clone();
        manifest.risks = vec![Risk {
            task: "triage".into(),
            quantization: "Q8_0".into(),
            labels: 60,
            points: RiskPoints::new(vec![(0.03, 0.95), (0.1, 0.4)]).unwrap(),
        }];
        manifest
    }

    fn near(one: f32, other: f64) {
        assert!((f64::from(one) - other).abs() < 1e-6, "{one} {other}");
    }

    #[test]
    fn each_task_has_its_own_threshold_unless_the_site_says_otherwise() {
        let mut manifest = manifest();
        manifest.tasks[0].threshold = 0.8;
        let by_task = Thresholds::of(&manifest, "Q8_0", Aim::of(None, None));
        near(by_task.for_task(Some("triage")), 0.8);
        near(by_task.for_task(Some("extract")), 0.65);
        near(by_task.for_task(None), f64::from(USUAL));
        near(by_task.for_task(Some("nowhere")), f64::from(USUAL));
        let site = Thresholds::of(&manifest, "Q8_0", Aim::of(Some(0.9), None));
        for task in [Some("triage"), Some("extract"), None] {
            near(site.for_task(task), 0.9);
        }
        assert_eq!(site.unpromised().count(), 0);
        near(Thresholds::default().for_task(None), f64::from(USUAL));
    }

    #[test]
    fn a_target_is_looked_up_and_where_it_cannot_be_promised_nothing_is_sure_enough() {
        let manifest = manifest();
        let at = |quantization, target| {
            Thresholds::of(&manifest, quantization, Aim::of(None, Some(target)))
        };
        near(at("Q8_0", 0.05).for_task(Some("triage")), 0.95);
        near(at("Q8_0", 0.2).for_task(Some("triage")), 0.4);
        let strict = at("Q8_0", 0.02);
        assert!(strict.for_task(Some("triage")).is_infinite());
        let other = at("Q4_K_M", 0.05);
        assert!(other.for_task(Some("triage")).is_infinite());
        assert!(other.for_task(None).is_infinite());
        assert_eq!(other.unpromised().count(), manifest.tasks.len());
        assert_eq!(
            at("Q8_0", 0.05).unpromised().count(),
            manifest.tasks.len() - 1
        );
    }

    #[test]
    fn a_threshold_is_not_lowered_by_being_told_in_fewer_digits() {
        for at in 1..1000_u32 {
            let share = f64::from(at) / 1000.0 + 1e-9;
            assert!(f64::from(raised(share)) >= share);
            assert!(f64::from(raised(share)) < share + 1e-6);
        }
    }
}
