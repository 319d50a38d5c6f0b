//! The journal between what was decided and what is done.

use super::super::disk::Disk;
use super::super::floor::{FloorError, Journal};
use super::memory::Memory;
use super::{Course, Effect, Refusal, Terms};
use crate::clock::Mono;

/// A course whose effects are released when what they rest on is durable.
///
/// A disk that fails holds back gates, trials, what may go from the disk and what is told; they
/// come with the first write that succeeds. One thing waits for no disk: that what is committed
/// serves again. If that is forgotten, the trial begins anew, and its load was counted.
#[derive(Debug)]
pub struct Helm<D> {
    course: Course,
    journal: Journal<D>,
    /// What is durable; none after a write that failed.
    saved: Option<Memory>,
    held: Vec<Effect>,
}

/// What may be done now.
#[derive(Debug)]
#[must_use]
pub struct Released {
    /// In this order.
    pub effects: Vec<Effect>,
    /// Why the rest waits.
    pub trouble: Option<FloorError>,
}

/// Why there is no course.
#[derive(Debug, thiserror::Error)]
#[error(
    "the journal's course cannot be read; a newer version of lineside may have written it: {0}"
)]
pub struct HelmError(serde_json::Error);

impl<D: Disk> Helm<D> {
    /// Goes on from what the journal has, and says what is to be done first.
    pub fn start(
        terms: Terms,
        journal: Journal<D>,
        now: Mono,
    ) -> Result<(Self, Released), HelmError> {
        let memory = Memory::of_value(journal.course()).map_err(HelmError)?;
        let mut helm = Self {
            course: Course::new(terms, memory.clone(), now),
            journal,
            saved: Some(memory),
            held: Vec::new(),
        };
        let released = helm.on(|course| course.on_start(now));
        Ok((helm, released))
    }

    /// The course, to look at.
    pub fn course(&self) -> &Course {
        &self.course
    }

    /// Hands an input to the course.
    pub fn on(&mut self, input: impl FnOnce(&mut Course) -> Vec<Effect>) -> Released {
        let effects = input(&mut self.course);
        self.settle(effects)
    }

    /// Hands an order to the course.
    pub fn order(
        &mut self,
        order: impl FnOnce(&mut Course) -> Result<Vec<Effect>, Refusal>,
    ) -> Result<Released, Refusal> {
        let effects = order(&mut self.course)?;
        Ok(self.settle(effects))
    }

    fn settle(&mut self, effects: Vec<Effect>) -> Released {
        self.held.extend(effects);
        let trouble = self.save().err();
        let is_safe = |effect: &Effect| {
            let always = matches!(
                effect,
                Effect::Serve {
                    is_trial: false,
                    ..
                } | Effect::StopGate(_)
            );
            always || trouble.is_none()
        };
        let mut released = Vec::new();
        let mut held = Vec::new();
        for effect in std::mem::take(&mut self.held) {
            if !self.course.is_meant(&effect) {
                continue; // something later took its place while the disk failed
            }
            if is_safe(&effect) {
                released.push(effect);
            } else {
                held.push(effect);
            }
        }
        self.held = latest_told(held);
        Released {
            effects: released,
            trouble,
        }
    }

    fn save(&mut self) -> Result<(), FloorError> {
        let memory = self.course.memory();
        if self.saved.as_ref() == Some(memory) {
            return Ok(());
        }
        let commits = memory.commits.iter().map(|it| &it.package);
        let candidate = memory.candidate.iter().map(|it| &it.package);
        let packages = commits.chain(candidate).map(|it| &it.id);
        let packages = packages.map(|id| (id.name.as_str(), id.seq));
        self.saved = None;
        self.journal.write(memory.to_value(), packages)?;
        self.saved = Some(memory.clone());
        Ok(())
    }
}

/// Of what waits to be told, and of what may go, only the last counts: so what is held back does
/// not grow.
fn latest_told(held: Vec<Effect>) -> Vec<Effect> {
    let last = |is: fn(&Effect) -> bool| held.iter().rposition(is);
    let told = last(|it| matches!(it, Effect::Tell(_)));
    let settled = last(|it| matches!(it, Effect::Settle { .. }));
    let counts = |(place, effect): &(usize, Effect)| match effect {
        Effect::Tell(_) => Some(*place) == told,
        Effect::Settle { .. } => Some(*place) == settled,
        Effect::Gate { .. } | Effect::StopGate(_) | Effect::Serve { .. } => true,
    };
    let kept = held.into_iter().enumerate().filter(counts);
    kept.map(|(_, effect)| effect).collect()
}
