//! What a person may order, whatever the ring says.

use super::Course;
use super::memory::Named;
use super::speech::{Effect, Reason, Refusal};

impl Course {
    /// A person chose a package that lies in the store, whatever the ring says. One that was
    /// committed here before serves at once; another goes its way through gate and trial.
    pub fn pin(&mut self, package: Named) -> Result<Vec<Effect>, Refusal> {
        if let Some(it) = self
            .memory
            .taken_back(package.digest)
            .filter(|it| !it.by_hand)
        {
            return Err(Refusal::TakenBack {
                package: package.id,
                reason: it.reason.clone(),
            });
        }
        self.memory.forgive(package.digest);
        self.memory.pinned = Some(package.clone());
        let mut effects = Vec::new();
        if self.candidate().is_some_and(|it| *it != package) {
            effects = self.leave(&Reason::Pinned);
        }
        let commits = &mut self.memory.commits;
        match commits.iter().position(|it| it.package == package) {
            // Also one that stands aside: whoever chose it may have mended what kept it from loading.
            Some(place) if place + 1 < commits.len() || self.aside > 0 => {
                commits.truncate(place + 1);
                self.aside = 0;
                effects.extend(self.serve_anew());
            }
            Some(_) => effects.push(self.tell()),
            None => {
                effects.push(self.tell());
                effects.extend(self.on_ready(package));
            }
        }
        Ok(effects)
    }

    /// The ring decides again.
    pub fn unpin(&mut self) -> Vec<Effect> {
        if self.memory.pinned.take().is_none() {
            return Vec::new();
        }
        if self.is_held_up() && self.trial().is_some() {
            return self.leave(&Reason::Halted);
        }
        vec![self.tell()]
    }

    /// A person takes back what is on its way; where nothing is, what was committed last.
    pub fn rollback(&mut self, why: &str) -> Result<Vec<Effect>, Refusal> {
        let reason = Reason::ByHand(why.to_owned());
        let own = self.candidate().or(self.memory.committed()).cloned();
        let Some(own) = own else {
            return Err(Refusal::Nothing);
        };
        if self.memory.pinned.as_ref() == Some(&own) {
            self.memory.pinned = None;
        }
        Ok(match self.memory.commits.len().checked_sub(1) {
            Some(last) if self.candidate().is_none() => self.fall_back(last, &reason),
            Some(_) | None => self.leave(&reason),
        })
    }
}
