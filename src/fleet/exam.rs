//! The gate's examiner: the appliance's own engine, in a child process of this program.

use std::time::Duration;

use super::gate::{Examiner, Findings};
use crate::engine::exam::{self, Mark, Sitting};
use crate::engine::order::Book;
use crate::engine::process::Launch;
use crate::package::{Gate, Package, Variant};

/// Starts an engine for each variant, as a device does for its gate.
#[derive(Debug, Default)]
pub struct Engine {
    launch: Launch,
}

impl Examiner for Engine {
    fn examine(
        &mut self,
        package: &Package,
        variant: &Variant,
        gate: &Gate,
    ) -> Result<Findings, String> {
        let context = u32::try_from(package.manifest().runtime.context_tokens).unwrap_or(u32::MAX);
        let book = Book::of(package, variant);
        let load = book.load(&exam::options(context), None);
        let words = |error: exam::ExamError| error.to_string();
        let mut sitting = Sitting::open(&self.launch, load).map_err(words)?;
        let marks = exam::suite(&mut sitting, &book, gate).map_err(words)?;
        let tasks = exam::by_task(gate, &marks).into_iter();
        Ok(Findings {
            tasks: tasks
                .map(|(task, count)| (task.to_owned(), count))
                .collect(),
            calibration_error: exam::calibration_error(&marks),
            median_ms: median_ms(&marks),
            peak_bytes: sitting.peak_bytes(),
        })
    }
}

/// The median time of the answers that came.
fn median_ms(marks: &[Mark]) -> Option<f64> {
    let answered = marks.iter().filter(|mark| mark.answer.is_ok());
    let mut took: Vec<Duration> = answered.map(|mark| mark.took).collect();
    took.sort_unstable();
    let middle = took.get(took.len() / 2)?;
    Some(middle.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Completion, Fault};

    #[test]
    fn the_median_is_of_those_that_were_answered() {
        let mark = |ms, answer| Mark {
            answer,
            right: true,
            took: Duration::from_millis(ms),
        };
        let good = || Ok(Completion::default());
        assert_eq!(median_ms(&[]), None);
        assert_eq!(median_ms(&[mark(9, Err(Fault::Busy))]), None);
        let marks = [mark(5, good()), mark(1, good()), mark(900, good())];
        assert_eq!(median_ms(&marks), Some(5.0));
    }
}
