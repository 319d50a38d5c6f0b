//! What people and programs see of a course.

use serde::Serialize;

use super::memory::{End, Stage};
use super::{Course, Engine};
use crate::clock::millis;

/// Where a course stands: the retained message of the appliance, and what console and panel show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `idle`, `staged`, `gate`, `gated`, `trial`, `committed`, `rolled_back`, `withdrawn`.
    pub state: &'static str,
    /// The package that this is said of.
    pub package: Option<String>,
    /// Its number.
    pub seq: Option<u64>,
    /// What serves, or is being loaded; none is the package of the configuration.
    pub serving: Option<String>,
    /// Whether it does already.
    pub is_loading: bool,
    /// Which load of a trial this is.
    pub attempt: u8,
    /// Good answers of the trial, and how many it takes.
    pub good: Option<(u32, u32)>,
    /// Milliseconds of the trial, and how many it takes.
    pub served_ms: Option<(u64, u64)>,
    /// Why it was taken back, for programs.
    pub code: Option<String>,
    /// The same in words.
    pub reason: Option<String>,
    /// The package that a person chose.
    pub pinned: Option<String>,
    /// The ring begins nothing new.
    pub halted: bool,
}

impl Course {
    /// Where it stands.
    pub fn report(&self) -> Report {
        let memory = self.memory();
        let candidate = memory.candidate.as_ref();
        let last = memory.last.as_ref();
        let state = match (candidate.map(|it| it.stage), last.map(|it| it.end)) {
            (Some(Stage::Staged), _) if self.gate.is_some() => "gate",
            (Some(Stage::Staged), _) => "staged",
            (Some(Stage::Gated), _) => "gated",
            (Some(Stage::Trial), _) => "trial",
            (None, Some(End::Committed)) => "committed",
            (None, Some(End::RolledBack)) => "rolled_back",
            (None, Some(End::Withdrawn)) => "withdrawn",
            (None, None) => "idle",
        };
        let trial = self.trial();
        let said = last.filter(|it| candidate.is_none() && it.end != End::Committed);
        let package = candidate.map(|it| &it.package);
        let package = package.or(last.map(|it| &it.package));
        let standing = self.standing().map(|it| &it.package);
        let serving = trial.map(|it| &it.package).or(standing);
        let counts = trial.is_some() && matches!(self.engine, Engine::Serving(_));
        let terms = self.terms;
        Report {
            state,
            package: package.map(ToString::to_string),
            seq: package.map(|it| it.id.seq),
            serving: serving.map(ToString::to_string),
            is_loading: !matches!(self.engine, Engine::Serving(_)),
            attempt: trial.map_or(0, |it| it.attempts),
            good: counts.then_some((self.tally.good, terms.good_answers)),
            served_ms: counts.then(|| (millis(self.served), millis(terms.trial))),
            code: said.map(|it| it.code.clone()),
            reason: said.map(|it| it.reason.clone()),
            pinned: memory.pinned.as_ref().map(ToString::to_string),
            halted: memory.halted,
        }
    }
}
