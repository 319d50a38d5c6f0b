//! What is learnt of those who ask, and of those who review.

use serde::Serialize;

use super::Dispatch;
use super::cascade::agree;
use crate::clock::{Now, Wall};
use crate::engine::{Completion, LoadNo};
use crate::intake::Request;
use crate::reply::Source;
use crate::router::affinity::Went;
use crate::router::confidence::learning::{Judged, Learning, News};
use crate::router::confidence::refit::{self, Learnt};
use crate::ticket::TicketNo;

/// Somebody wants to see what was learnt, or to take some of it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// Only to see it.
    Show,
    /// The last change of this task is taken back.
    Undo(String),
    /// The alarm of this task has been seen.
    Acknowledge(String),
}

/// What was learnt of a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskLessons {
    /// The task.
    pub task: String,
    /// Verdicts that are held.
    pub verdicts: usize,
    /// What the package's confidence is worth here, at some places.
    pub bend: Vec<(f64, f64)>,
    /// Verdicts since the start of the watch.
    pub seen: u64,
    /// Wrong answers among them.
    pub wrong: u64,
    /// How many there should have been, by confidence.
    pub expected: f64,
    /// After how many verdicts the alarm came, if it did.
    pub alarm: Option<u64>,
    /// The changes on record, the oldest first.
    pub changes: Vec<Changed>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Changed {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// `verdicts`, `undone` or `package`.
    pub why: &'static str,
    /// How many verdicts led to it, where some did.
    pub verdicts: Option<usize>,
    /// By how much it moved what it moved most.
    pub most: f64,
}

/// What an inquiry about it brought.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lessons {
    /// Whether something was taken back or acknowledged.
    pub done: bool,
    /// All tasks of the package.
    pub tasks: Vec<TaskLessons>,
}

impl Dispatch {
    /// With what was learnt in earlier lives.
    #[must_use]
    pub fn with(mut self, learning: Learning) -> Self {
        self.learning = learning;
        self
    }

    /// It is known now whether a request left the edge.
    pub(super) fn went(&mut self, no: TicketNo, went: Went, now: Now) {
        let Some(held) = self.held.get(&no) else {
            return;
        };
        let Some(shift) = self.habits.went(&held.request, went, now.mono) else {
            return;
        };
        tracing::warn!(
            client = held.request.client.name(),
            reason = %shift,
            "a client's mix of tiers has shifted"
        );
        self.count("drift", "a client's mix of tiers shifted");
    }

    /// What a calibrated confidence of the edge is worth on this line. Under a schema of its own,
    /// an answer is none of the task's.
    pub(super) fn sure(&self, request: &Request, calibrated: f32, load: LoadNo) -> f32 {
        let own = request.schema.is_some();
        let task = request.ask.task().filter(|_| !own);
        self.learning_of(load).sure(task, calibrated)
    }

    /// A person has given the answer, which says whether the edge's was right. One that the edge
    /// did not give teaches nothing, nor one under a schema of its own.
    pub(super) fn learn(&mut self, no: TicketNo, answer: &Completion, reviewer: &str, now: Now) {
        let Some(held) = self.held.get(&no).filter(|it| it.request.schema.is_none()) else {
            return;
        };
        let Some((task, draft)) = held.request.ask.task().zip(held.draft()) else {
            return;
        };
        let (Source::Edge, Some(features)) = (&draft.source, &draft.features) else {
            return;
        };
        let judged = Judged {
            task,
            model: &draft.completion.model,
            features,
            right: agree(&draft.completion, answer),
            reviewer,
        };
        let news = self.learning.on_verdict(&judged, now.wall);
        for it in news {
            match it {
                News::Moved(_) => {
                    tracing::info!(reason = task, "verdicts have moved what confidence means");
                    *self.counts.entry(("learning", "moved")).or_default() += 1;
                }
                News::Alarm { seen, wrong, .. } => {
                    tracing::warn!(
                        reason = task,
                        count = wrong,
                        attempts = seen,
                        "more answers are wrong than confidence says: calibrate this package anew"
                    );
                    *self.counts.entry(("learning", "alarm")).or_default() += 1;
                }
            }
        }
        self.out.learnt = Some(self.learning.bytes());
    }

    /// Shows what was learnt, after taking back what is to be.
    pub(super) fn on_lesson(&mut self, lesson: &Lesson, now: Now) -> Lessons {
        let done = match lesson {
            Lesson::Show => false,
            Lesson::Undo(task) => self.learning.undo(task, now.wall).is_some(),
            Lesson::Acknowledge(task) => self.learning.acknowledge(task),
        };
        if done {
            tracing::info!("a person took back or acknowledged what was learnt");
            self.out.learnt = Some(self.learning.bytes());
        }
        let tasks = self.learning.tasks();
        Lessons {
            done,
            tasks: tasks.map(|(task, learnt)| told(task, learnt)).collect(),
        }
    }
}

fn told(task: &str, learnt: &Learnt) -> TaskLessons {
    let watch = learnt.watch();
    let (wrong, expected) = watch.wrong();
    TaskLessons {
        task: task.to_owned(),
        verdicts: learnt.held(),
        bend: learnt.curve().points().to_vec(),
        seen: watch.seen(),
        wrong,
        expected,
        alarm: watch.alarm(),
        changes: learnt.history().map(changed).collect(),
    }
}

fn changed(change: &refit::Change) -> Changed {
    let Wall(at_ms) = change.at;
    let (why, verdicts) = match change.why {
        refit::Why::Verdicts(count) => ("verdicts", Some(count)),
        refit::Why::Undone => ("undone", None),
        refit::Why::Package => ("package", None),
    };
    Changed {
        at_ms,
        why,
        verdicts,
        most: refit::apart(&change.before, &change.after),
    }
}
