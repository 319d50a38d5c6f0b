//! The course of a package: from lying ready to serving for good, or back.
//!
//! ```text
//!                 on_gate(Interrupted), on_rollout(halt)
//!                    ┌────────────┐
//!  on_ready, pin     ▼            │   on_gate(Passed)             on_answer, on_tick:
//!  ───────────────► staged ─────► gate ────────────► gated ─────► trial ─────────────► committed
//!                    ▲            │                   │   count    │  N good, T minutes    │
//!                    │ on_ready:  │                   │   attempt  │                       │
//!                    └ a newer ───┴───────────────────┘            │                       │
//!                                 │ on_gate(Failed, Broken)        │ on_engine_crash       │ rollback
//!                                 │ too many gates                 │ on_hot_trip           │ on_alarm
//!                                 ▼                                │ on_switch_failed      │
//!                            rolled back ◄─────────────────────────┤ on_answer: a jump     │
//!                                 ▲                                │ on_start: too many    │
//!                                 └── rollback, from any ◄─────────┘                       │
//!                                 ▲                                                        │
//!                                 └────────────────────────────────────────────────────────┘
//!  trial ── on_rollout(halt), pin of another ─► withdrawn: as rolled back, and may come again
//! ```
//!
//! Purpose: [`Course`] decides whether and when a package that was fetched and verified serves. It
//! knows no engine, disk or clock: it hears what happened, and says what is to be done as
//! [`Effect`]s. [`Helm`] puts the journal between the two.
//!
//! Owns the [`Memory`] that lies in the journal, and what may be lost: the counts of a trial, the
//! numbers of what is under way.
//!
//! # Invariants
//!
//! - One candidate at most. A newer one takes its place until its trial begins, not after.
//! - Before the first commit, and after everything was taken back, the configuration's package
//!   serves.
//! - A committed package that does not load is not taken back: it did load here, so that a setting
//!   or the board changed. What was before it stands in for as long as the process lives.
//! - A gate and a trial's load are counted before they begin, and the count is durable by then: a
//!   package that takes the whole board down with it does so [`MAX_ATTEMPTS`] times.
//! - A package that was rolled back is not tried again. One that was withdrawn was stopped for
//!   what is not its fault (the ring was halted, a person chose another), and begins at the gate
//!   when it is offered again.
//! - What the operator named by hand does not wait for a ring that is halted.
//! - An answer, a crash or a load counts for the package that caused it: each load has a number,
//!   and what bears another is a straggler's.
//! - Time is counted in steps forward, so a clock that goes back costs nothing but the step. No
//!   decision reads the wall clock.
//! - A [`Effect::Tell`] is waited for by nobody: whether it arrives changes nothing.
//!
//! # How it fails
//!
//! Orders that cannot be followed are a [`Refusal`]. A load of what is committed that fails is
//! tried again after [`LOAD_PAUSE`]; after [`MAX_LOADS`] the package before it stands in, and at last
//! the configuration's, which is tried for ever. The next start tries the newest again.

mod helm;
mod memory;
mod orders;
mod report;
mod speech;
mod trial;
mod wheel;

use std::time::Duration;

pub use helm::{Helm, HelmError, Released};
pub use memory::{
    Candidate, Commit, End, Last, MAX_COMMITS, MAX_REASON_BYTES, MAX_TAKEN_BACK, Memory, Named,
    Stage, TakenBack,
};
pub use report::Report;
pub use speech::{Effect, GateEnd, No, Reason, Refusal, Ring};
pub use trial::{Answer, FALSE_ALARM, Jump, Looks, SMALLEST_JUMP, Tally};
pub use wheel::{Order, Sight, Standing, Wheel, WheelError, Wish};

use crate::clock::Mono;

/// Loads of a trial, and gates, that are begun for one package. What one in three times ends with
/// the whole process is not the weather.
pub const MAX_ATTEMPTS: u8 = 3;
/// Loads of a committed package that may fail in a row.
pub const MAX_LOADS: u8 = 3;
/// The pause before a load is tried again: long enough for memory to come free, and a blink
/// beside a shift.
pub const LOAD_PAUSE: Duration = Duration::from_secs(10);

/// The pause after a gate that something else interrupted.
pub const GATE_PAUSE: Duration = Duration::from_mins(1);

/// What a commit takes, and what an alarm means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Requests that were answered here.
    pub good_answers: u32,
    /// Time in service.
    pub trial: Duration,
    /// Whether an alarm of the [watch](super::watch) takes a committed package back.
    pub alarm_takes_back: bool,
}

/// What the engine does about what should serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    /// Nothing was asked of it yet.
    Unasked,
    Loading(No),
    Serving(No),
    /// The load failed; another comes when this much time has passed.
    Pausing(Duration),
}

/// See the module.
#[derive(Debug)]
pub struct Course {
    terms: Terms,
    memory: Memory,
    engine: Engine,
    gate: Option<No>,
    /// How long no gate begins.
    gate_rest: Duration,
    last_no: u64,
    /// Loads of what is committed that failed in a row.
    failed_loads: u8,
    /// Of what is committed, how many of the newest do not load; what is before them stands in.
    aside: usize,
    /// Answers of what serves.
    tally: Tally,
    looks: Looks,
    /// How long the trial has served.
    served: Duration,
    now: Mono,
}

impl Course {
    /// Goes on from what the journal has. [`on_start`](Self::on_start) comes next.
    pub fn new(terms: Terms, memory: Memory, now: Mono) -> Self {
        Self {
            terms,
            memory,
            engine: Engine::Unasked,
            gate: None,
            gate_rest: Duration::ZERO,
            last_no: 0,
            failed_loads: 0,
            aside: 0,
            tally: Tally::default(),
            looks: Looks::default(),
            served: Duration::ZERO,
            now,
        }
    }

    /// What must not be forgotten.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether an effect is still meant: a later one may have taken its place.
    pub fn is_meant(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Gate { no, .. } => self.gate == Some(*no),
            Effect::Serve { no, .. } => self.engine == Engine::Loading(*no),
            Effect::StopGate(_) | Effect::Settle { .. } | Effect::Tell(_) => true,
        }
    }

    /// The process started. A trial that was under way begins anew, as another attempt.
    pub fn on_start(&mut self, now: Mono) -> Vec<Effect> {
        self.now = now;
        let Some(candidate) = self.trial() else {
            return self.serve_and_tell();
        };
        let (before, attempts) = (candidate.before, candidate.attempts);
        self.tally = before;
        if self.is_held_up() {
            self.leave(&Reason::Halted)
        } else if attempts >= MAX_ATTEMPTS {
            self.leave(&Reason::Attempts)
        } else {
            self.begin_trial(before)
        }
    }

    /// A package lies ready. The same may be said again and again.
    pub fn on_ready(&mut self, package: Named) -> Vec<Effect> {
        let pinned_elsewhere = self.memory.pinned.as_ref().is_some_and(|it| *it != package);
        let is_known = |it: Option<&Named>| it.is_some_and(|it| it.digest == package.digest);
        let candidate = self.memory.candidate.as_ref();
        let in_the_way = candidate.is_some_and(|it| {
            it.stage == Stage::Trial || it.package.digest == package.digest
                // The ring may change to another package; of the same, only a newer one counts.
                || (it.package.id.name == package.id.name && it.package.id.seq >= package.id.seq)
        });
        let by_hand = self.memory.pinned.as_ref() == Some(&package);
        let is_behind = self.memory.committed().is_some_and(|it| {
            !by_hand && it.id.name == package.id.name && it.id.seq >= package.id.seq
        });
        if pinned_elsewhere
            || in_the_way
            || is_behind
            || is_known(self.memory.committed())
            || self.memory.taken_back(package.digest).is_some()
        {
            return Vec::new();
        }
        let mut effects = self.stop_gate();
        self.memory.candidate = Some(Candidate {
            package,
            stage: Stage::Staged,
            gates: 0,
            attempts: 0,
            findings: None,
            before: Tally::default(),
        });
        effects.push(self.tell());
        effects.extend(self.proceed());
        effects
    }

    /// A gate ended.
    pub fn on_gate(&mut self, no: No, end: GateEnd) -> Vec<Effect> {
        if self.gate != Some(no) {
            return Vec::new();
        }
        self.gate = None;
        let Some(candidate) = &mut self.memory.candidate else {
            return Vec::new();
        };
        match end {
            GateEnd::Passed(findings) => {
                candidate.stage = Stage::Gated;
                candidate.findings = Some(findings);
                let mut effects = vec![self.tell()];
                effects.extend(self.proceed());
                effects
            }
            GateEnd::Failed(missed) => self.leave(&Reason::Gate(missed)),
            GateEnd::Broken(why) => self.leave(&Reason::GateBroken(why)),
            GateEnd::Interrupted => {
                candidate.gates = candidate.gates.saturating_sub(1);
                self.gate_rest = GATE_PAUSE;
                vec![self.tell()]
            }
        }
    }

    /// The load ended well, and serves from now on.
    pub fn on_switched(&mut self, no: No, now: Mono) -> Vec<Effect> {
        if self.engine != Engine::Loading(no) {
            return Vec::new();
        }
        self.now = now;
        self.engine = Engine::Serving(no);
        if self.trial().is_some() {
            self.begin_counts();
            return vec![self.tell()];
        }
        self.failed_loads = 0;
        self.forget_standing_aside();
        let mut effects = vec![self.settle(), self.tell()];
        effects.extend(self.proceed());
        effects
    }

    /// The load failed, or the engine ended within it.
    pub fn on_switch_failed(&mut self, no: No, why: &str) -> Vec<Effect> {
        // What served may be found unloadable when its process is started again.
        if ![Engine::Loading(no), Engine::Serving(no)].contains(&self.engine) {
            return Vec::new();
        }
        if self.trial().is_some() {
            return self.leave(&Reason::Unloadable(why.to_owned()));
        }
        self.failed_loads += 1;
        if self.failed_loads >= MAX_LOADS && self.standing().is_some() {
            return self.stand_aside(why);
        }
        self.failed_loads = self.failed_loads.min(MAX_LOADS);
        self.engine = Engine::Pausing(LOAD_PAUSE);
        let mut effects = vec![self.tell()];
        effects.extend(self.proceed());
        effects
    }

    /// A request of the model ended.
    pub fn on_answer(&mut self, no: No, answer: Answer, now: Mono) -> Vec<Effect> {
        let passed = self.step(now);
        if self.engine != Engine::Serving(no) {
            return Vec::new();
        }
        let Some(before) = self.trial().map(|it| it.before) else {
            self.tally.remember(answer);
            return Vec::new();
        };
        self.served = self.served.saturating_add(passed);
        self.tally.add(answer);
        match self.looks.look(self.tally, before) {
            Some(jump) => self.leave(&Reason::Jump(jump)),
            None => self.commit_if_due(),
        }
    }

    /// The engine ended by itself. What is committed is started again by whoever runs it.
    pub fn on_engine_crash(&mut self, no: No, why: &str) -> Vec<Effect> {
        let is_own = [Engine::Loading(no), Engine::Serving(no)].contains(&self.engine);
        if is_own && self.trial().is_some() {
            return self.leave(&Reason::Crash(why.to_owned()));
        }
        Vec::new()
    }

    /// The board got so hot that the governor stopped the engine.
    pub fn on_hot_trip(&mut self) -> Vec<Effect> {
        if self.trial().is_some() {
            return self.leave(&Reason::Hot);
        }
        Vec::new()
    }

    /// A believed look at the ring. The same may be said again and again.
    pub fn on_rollout(&mut self, ring: Ring) -> Vec<Effect> {
        let halted = ring == Ring::Halted;
        if self.memory.halted == halted {
            return Vec::new();
        }
        self.memory.halted = halted;
        if !self.is_held_up() {
            let mut effects = vec![self.tell()];
            effects.extend(self.proceed());
            return effects;
        }
        if self.trial().is_some() {
            return self.leave(&Reason::Halted);
        }
        let mut effects = self.stop_gate();
        effects.push(self.tell());
        effects
    }

    /// The watch found what serves worse than it was recorded. The number is that of the load
    /// under which it looked.
    pub fn on_alarm(&mut self, no: No, why: &str) -> Vec<Effect> {
        let is_own = self.engine == Engine::Serving(no);
        let standing = self.standings().checked_sub(1);
        let standing = standing.filter(|_| is_own && self.trial().is_none());
        match standing {
            Some(place) if self.terms.alarm_takes_back => {
                self.fall_back(place, &Reason::Alarm(why.to_owned()))
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// Time passed. Once a second is often enough.
    pub fn on_tick(&mut self, now: Mono) -> Vec<Effect> {
        let passed = self.step(now);
        match self.engine {
            Engine::Pausing(left) if left > passed => {
                self.engine = Engine::Pausing(left.saturating_sub(passed));
                self.proceed()
            }
            Engine::Pausing(_) => self.serve_and_tell(),
            Engine::Serving(_) if self.trial().is_some() => {
                self.served = self.served.saturating_add(passed);
                self.commit_if_due()
            }
            Engine::Serving(_) => self.proceed(),
            Engine::Unasked | Engine::Loading(_) => Vec::new(),
        }
    }

    // What follows is said by the above.

    fn candidate(&self) -> Option<&Named> {
        self.memory.candidate.as_ref().map(|it| &it.package)
    }

    fn trial(&self) -> Option<&Candidate> {
        let candidate = self.memory.candidate.as_ref();
        candidate.filter(|it| it.stage == Stage::Trial)
    }

    /// How many of what is committed load, as far as is known.
    fn standings(&self) -> usize {
        self.memory.commits.len().saturating_sub(self.aside)
    }

    /// What serves where there is no trial; none is the configuration's package.
    fn standing(&self) -> Option<&Commit> {
        self.memory.commits[..self.standings()].last()
    }

    /// Whether the ring keeps the candidate from going on.
    fn is_held_up(&self) -> bool {
        let candidate = self.candidate();
        let by_hand = candidate.is_some() && candidate == self.memory.pinned.as_ref();
        self.memory.halted && !by_hand
    }

    /// The time since the last step; none if the clock went back.
    fn step(&mut self, now: Mono) -> Duration {
        let passed = now.since(self.now);
        self.now = now;
        self.gate_rest = self.gate_rest.saturating_sub(passed);
        passed
    }

    fn no(&mut self) -> No {
        self.last_no += 1;
        No(self.last_no)
    }

    /// The candidate's next step, if nothing is in its way.
    fn proceed(&mut self) -> Vec<Effect> {
        let settled = matches!(self.engine, Engine::Serving(_) | Engine::Pausing(_));
        if !settled || self.gate.is_some() || self.is_held_up() {
            return Vec::new();
        }
        let Some(candidate) = &mut self.memory.candidate else {
            return Vec::new();
        };
        match candidate.stage {
            Stage::Staged if self.gate_rest > Duration::ZERO => Vec::new(),
            Stage::Staged if candidate.gates >= MAX_ATTEMPTS => self.leave(&Reason::Gates),
            Stage::Staged => {
                candidate.gates += 1;
                let package = candidate.package.clone();
                let no = self.no();
                self.gate = Some(no);
                let serving = self.standing();
                let serving = serving.and_then(|commit| commit.findings.clone());
                vec![
                    Effect::Gate {
                        no,
                        package,
                        serving,
                    },
                    self.tell(),
                ]
            }
            Stage::Gated => self.begin_trial(self.tally),
            Stage::Trial => Vec::new(),
        }
    }

    /// Counts the attempt; the count is durable before the load is released.
    fn begin_trial(&mut self, before: Tally) -> Vec<Effect> {
        if let Some(candidate) = &mut self.memory.candidate {
            candidate.stage = Stage::Trial;
            candidate.attempts += 1;
            candidate.before = before;
        }
        self.serve_and_tell()
    }

    fn begin_counts(&mut self) {
        self.tally = Tally::default();
        self.looks = Looks::default();
        self.served = Duration::ZERO;
    }

    /// Loads what is to serve.
    fn serve_and_tell(&mut self) -> Vec<Effect> {
        let no = self.no();
        self.engine = Engine::Loading(no);
        let trial = self.trial().map(|it| it.package.clone());
        let is_trial = trial.is_some();
        let standing = self.standing().map(|it| it.package.clone());
        let package = trial.or(standing);
        let serve = Effect::Serve {
            no,
            package,
            is_trial,
        };
        vec![serve, self.tell()]
    }

    fn commit_if_due(&mut self) -> Vec<Effect> {
        let due = self.tally.good >= self.terms.good_answers && self.served >= self.terms.trial;
        if !due {
            return Vec::new();
        }
        let Some(candidate) = self.memory.candidate.take() else {
            return Vec::new();
        };
        self.failed_loads = 0;
        // Before it is what served, and not what did not load.
        let standings = self.standings();
        self.memory.commits.truncate(standings);
        self.aside = 0;
        self.memory.last = Some(Last::committed(candidate.package.clone()));
        self.memory.commit(Commit {
            package: candidate.package,
            findings: candidate.findings,
        });
        vec![self.settle(), self.tell()]
    }

    /// The candidate goes, and what is committed serves, if it does not already.
    fn leave(&mut self, reason: &Reason) -> Vec<Effect> {
        let mut effects = self.stop_gate();
        let Some(candidate) = self.memory.candidate.take() else {
            return effects;
        };
        self.remember_end(candidate.package, reason);
        if candidate.stage == Stage::Trial {
            self.tally = candidate.before;
            effects.extend(self.serve_and_tell());
        } else {
            effects.extend([self.settle(), self.tell()]);
        }
        effects
    }

    /// One that is committed goes, and where it served, what was before it does.
    fn fall_back(&mut self, place: usize, reason: &Reason) -> Vec<Effect> {
        let is_aside = place >= self.standings();
        let commit = self.memory.commits.remove(place);
        self.remember_end(commit.package, reason);
        if is_aside {
            self.aside -= 1;
            return vec![self.settle(), self.tell()];
        }
        self.serve_anew()
    }

    /// What is committed does not load, and what was before it stands in.
    fn stand_aside(&mut self, why: &str) -> Vec<Effect> {
        if let Some(package) = self.standing().map(|it| it.package.clone()) {
            let reason = Reason::Unloadable(why.to_owned());
            self.memory.last = Some(Last::of(package, End::Withdrawn, &reason));
            self.aside += 1;
        }
        self.serve_anew()
    }

    /// What stood aside in an earlier process loads again.
    fn forget_standing_aside(&mut self) {
        let was_aside = self
            .memory
            .last
            .as_ref()
            .is_some_and(Last::is_standing_aside);
        let newest = self
            .memory
            .committed()
            .filter(|_| was_aside && self.aside == 0);
        if let Some(newest) = newest.cloned() {
            self.memory.last = Some(Last::committed(newest));
        }
    }

    /// Something else that is committed serves, of which nothing is known yet.
    fn serve_anew(&mut self) -> Vec<Effect> {
        self.failed_loads = 0;
        self.tally = Tally::default();
        self.serve_and_tell()
    }

    fn remember_end(&mut self, package: Named, reason: &Reason) {
        let end = if reason.is_final() {
            self.memory.refuse(TakenBack {
                package: package.clone(),
                code: reason.code().to_owned(),
                reason: reason.to_string(),
                by_hand: matches!(reason, Reason::ByHand(_)),
            });
            End::RolledBack
        } else {
            End::Withdrawn
        };
        self.memory.last = Some(Last::of(package, end, reason));
    }

    fn stop_gate(&mut self) -> Vec<Effect> {
        let Some(no) = self.gate.take() else {
            return Vec::new();
        };
        if let Some(candidate) = &mut self.memory.candidate {
            candidate.gates = candidate.gates.saturating_sub(1);
        }
        vec![Effect::StopGate(no)]
    }

    fn settle(&self) -> Effect {
        Effect::Settle {
            current: self.memory.committed().map(|it| it.id.clone()),
            held: self.memory.held(),
        }
    }

    fn tell(&self) -> Effect {
        Effect::Tell(self.report())
    }
}

#[cfg(test)]
mod tests;
