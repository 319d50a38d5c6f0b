//! The tables that say which confidence keeps errors to a share.

use super::Page;
use crate::package::manifest::{MAX_SEQ, MAX_TASKS, MAX_VARIANTS, Risk};
use crate::package::page::{Part, Range};
use crate::package::risk::{MAX_TARGETS, RiskPoints};

impl Page<'_> {
    pub(super) fn risks(
        &mut self,
        root: &mut Part<'_>,
        tasks: &[String],
        quantizations: &[String],
    ) -> Vec<Risk> {
        let mut risks: Vec<Risk> = Vec::new();
        let labelled = Range {
            min: 1,
            max: MAX_SEQ,
            why: "answers that were judged",
        };
        for mut part in self.parts(root, "risk", 0, MAX_TASKS * MAX_VARIANTS) {
            let part = &mut part;
            let task = self.name_of_task(part, "task", tasks);
            let quantization = self.name_of_variant(part, "quantization", quantizations);
            let labels = self.number(part, "labels", labelled);
            let points = self.points(part, "points", MAX_TARGETS);
            let points = points.and_then(|points| match RiskPoints::new(points) {
                Ok(points) => Some(points),
                Err(wanted) => {
                    self.fault(part, "points", wanted);
                    None
                }
            });
            self.close(part);
            let (Some(task), Some(quantization), Some(labels), Some(points)) =
                (task, quantization, labels, points)
            else {
                continue;
            };
            let same = |other: &Risk| other.task == task && other.quantization == quantization;
            if risks.iter().any(same) {
                self.fault(part, "task", "one table for each task and quantization");
            }
            risks.push(Risk {
                task,
                quantization,
                labels,
                points,
            });
        }
        risks
    }
}
