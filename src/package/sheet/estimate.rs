//! The weights of the estimates.

use super::Page;
use crate::package::estimate::{
    COUNTS, Estimate, FEATURES, MAX_FRAME_TOKENS, MAX_RISK, MAX_WEIGHT, TaskEstimate,
};
use crate::package::manifest::MAX_TASKS;
use crate::package::page::{Part, Range};

impl Page<'_> {
    /// The table of estimates, where there is one. A weight that it does not name is zero.
    pub(super) fn estimate(&mut self, root: &mut Part<'_>, tasks: &[String]) -> Option<Estimate> {
        self.optional(root, "estimate", |page, root| {
            let mut part = page.part(root, "estimate")?;
            let complexity = page.weights(&mut part, "complexity", &FEATURES);
            let tokens = page.weights(&mut part, "tokens", &COUNTS);
            let mut known: Vec<TaskEstimate> = Vec::new();
            for mut entry in page.parts(&mut part, "task", 0, MAX_TASKS) {
                let one = page.task_estimate(&mut entry, tasks);
                page.close(&entry);
                let Some(one) = one else { continue };
                if known.iter().any(|other| other.name == one.name) {
                    page.fault(&entry, "name", "a task that has no estimate yet");
                }
                known.push(one);
            }
            page.close(&part);
            Some(Estimate {
                complexity: complexity?,
                tokens: tokens?,
                tasks: known,
            })
        })
    }

    fn weights<const N: usize>(
        &mut self,
        part: &mut Part<'_>,
        key: &'static str,
        names: &[&'static str; N],
    ) -> Option<[f64; N]> {
        let mut part = self.part(part, key)?;
        let mut weights = [0.0; N];
        for (weight, name) in weights.iter_mut().zip(names) {
            let said = self.optional(&mut part, name, |page, part| page.weight(part, name));
            *weight = said.unwrap_or(0.0);
        }
        self.close(&part);
        Some(weights)
    }

    fn weight(&mut self, part: &mut Part<'_>, key: &'static str) -> Option<f64> {
        let weight = self.real(part, key)?;
        if weight.abs() > MAX_WEIGHT {
            let wanted = format!("a number from -{MAX_WEIGHT} to {MAX_WEIGHT}");
            self.fault(part, key, wanted);
            return None;
        }
        Some(weight)
    }

    fn task_estimate(&mut self, part: &mut Part<'_>, tasks: &[String]) -> Option<TaskEstimate> {
        let frames = Range {
            min: 0,
            max: MAX_FRAME_TOKENS,
            why: "the tokens around an input",
        };
        let risks = Range {
            min: 0,
            max: MAX_RISK,
            why: "as in a request",
        };
        let name = self.name_of_task(part, "name", tasks);
        let complexity = self.optional(part, "complexity", |page, part| {
            page.weight(part, "complexity")
        });
        let frame_tokens = self.number(part, "frame_tokens", frames);
        let risk = self.optional(part, "risk", |page, part| page.number(part, "risk", risks));
        Some(TaskEstimate {
            name: name?,
            complexity: complexity.unwrap_or(0.0),
            frame_tokens: u32::try_from(frame_tokens?).ok()?,
            risk: u8::try_from(risk.unwrap_or(0)).ok()?,
        })
    }
}
