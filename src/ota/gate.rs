//! The gate's examination: a package's own suite, put to a variant of it by the real engine.
//!
//! Purpose: [`examine`] takes the figures that [`verdict`](super::verdict) judges, on a device before
//! a package serves there, and at the operator's before anybody signs it. It blocks.
//!
//! Owns an engine process while it lasts. Invariant: one conversation at a time on one thread, so
//! that the same package has the same answers each time. Times are what they are: whoever holds them
//! to a bar sees to it that nothing else computes ([`time_alone`]).
//!
//! How it fails: by [`ExamError`]. A question that cannot be answered is a wrong answer, no failure.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::verdict::Findings;
use crate::engine::exam::{self, ExamError, Sitting};
use crate::engine::order::Book;
use crate::engine::process::Launch;
use crate::engine::protocol::Options;
use crate::package::{Gate, Package, Variant};

/// Items whose times are taken once more: enough for a median, and soon done.
const TIMED_ITEMS: usize = 64;

/// What is examined.
#[derive(Clone, Copy, Debug)]
pub struct Paper<'a> {
    /// The package.
    pub package: &'a Package,
    /// The variant.
    pub variant: &'a Variant,
    /// Its suite.
    pub gate: &'a Gate,
}

impl Paper<'_> {
    /// How the engine is run for it.
    pub fn options(&self) -> Options {
        let context = self.package.manifest().runtime.context_tokens;
        exam::options(u32::try_from(context).unwrap_or(u32::MAX))
    }

    fn sit(&self, launch: &Launch, stop: &Arc<AtomicBool>) -> Result<(Sitting, Book), ExamError> {
        let book = Book::of(self.package, self.variant);
        let load = book.load(&self.options(), None);
        let sitting = Sitting::open_sealed(launch, load, book.sealed())?;
        Ok((sitting.until(Arc::clone(stop)), book))
    }
}

/// Puts the whole suite to it.
pub fn examine(
    paper: Paper<'_>,
    launch: &Launch,
    stop: &Arc<AtomicBool>,
) -> Result<Findings, ExamError> {
    let (mut sitting, book) = paper.sit(launch, stop)?;
    let marks = exam::suite(&mut sitting, &book, paper.gate)?;
    let tasks = exam::by_task(paper.gate, &marks).into_iter();
    Ok(Findings {
        tasks: tasks
            .map(|(task, count)| (task.to_owned(), count))
            .collect(),
        valid: Some((exam::valid(&marks), marks.len())),
        calibration_error: exam::calibration_error(&marks),
        median_ms: exam::median(&marks).map(|it| it.as_secs_f64() * 1000.0),
        peak_bytes: sitting.peak_bytes(),
    })
}

/// The median time of an answer over a part of the suite, in milliseconds: for a figure that was
/// taken beside other work.
pub fn time_alone(
    paper: Paper<'_>,
    launch: &Launch,
    stop: &Arc<AtomicBool>,
) -> Result<Option<f64>, ExamError> {
    let (mut sitting, book) = paper.sit(launch, stop)?;
    let step = paper.gate.items.len().div_ceil(TIMED_ITEMS).max(1);
    let items = paper.gate.items.iter().step_by(step).cloned().collect();
    let part = Gate { items };
    let marks = exam::suite(&mut sitting, &book, &part)?;
    Ok(exam::median(&marks).map(|it| it.as_secs_f64() * 1000.0))
}
