//! Whole lives with several updates, in which the power goes at each durable step.

use std::collections::BTreeMap;

use super::*;
use crate::ota::floor::Book;
use crate::ota::tests::disk::{Kept, SimDisk};

/// What a package does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Good,
    FailsGate,
    Unloadable,
    Crashes,
    RefusesAll,
}

const FATES: [Fate; 8] = [
    Fate::Good,
    Fate::Crashes,
    Fate::FailsGate,
    Fate::Good,
    Fate::Unloadable,
    Fate::RefusesAll,
    Fate::Good,
    Fate::Good,
];

/// The power is gone.
#[derive(Debug)]
struct Dark;

/// What is outside of the device, and outlives its processes.
#[derive(Default)]
struct World {
    disk: SimDisk,
    /// The package that its ring is to run.
    offered: usize,
    /// What it last said it has committed.
    said: Option<Named>,
    floor: u64,
    loads: BTreeMap<u64, u32>,
    gates: BTreeMap<u64, u32>,
    /// Things that the engine was told, over all processes; at one of them it ends.
    engine: usize,
    crash_at: Option<usize>,
    /// The package whose engine that was.
    victim: Option<u64>,
}

impl World {
    fn engine_ends(&mut self, package: Option<&Named>) -> bool {
        let ends = self.crash_at == Some(self.engine);
        self.engine += 1;
        if ends {
            self.victim = package.map(|it| it.id.seq);
        }
        ends
    }

    fn fate(package: Option<&Named>) -> Fate {
        package.map_or(Fate::Good, |it| {
            FATES[usize::try_from(it.id.seq).unwrap() - 1]
        })
    }

    /// A process, from its start until all is done or the power goes.
    fn live(&mut self) -> Result<(), Dark> {
        let mut book = Book::open(self.disk.clone()).map_err(|_| Dark)?;
        let floor = book.floors().package("triage");
        assert!(floor >= self.floor, "the floor fell");
        self.floor = floor;
        let (mut helm, first) = Helm::start(TERMS, book.journal(), at(0)).unwrap();
        self.check_start(&helm, &first);
        let mut minute = 0;
        let mut serving = (No(0), None);
        let mut todo = Vec::new();
        let take = |todo: &mut Vec<Effect>, released: Released| {
            todo.extend(released.effects);
            released.trouble.map_or(Ok(()), |_| Err(Dark))
        };
        take(&mut todo, first)?;
        for _ in 0..1000 {
            minute += 1;
            let released = if todo.is_empty() {
                if self.offered == FATES.len() {
                    return Ok(());
                }
                if helm.course().trial().is_some() {
                    self.serve(&mut helm, &serving, minute)
                } else {
                    // The keeper's part: the number is on the floor before anybody hears of it.
                    let package = named(self.offered as u64 + 1);
                    book.raise_package("triage", package.id.seq)
                        .map_err(|_| Dark)?;
                    helm.on(|course| course.on_ready(package))
                }
            } else {
                match todo.remove(0) {
                    Effect::Gate { no, package, .. } => {
                        *self.gates.entry(package.id.seq).or_default() += 1;
                        let end = if self.engine_ends(Some(&package)) {
                            GateEnd::Broken("it ended".into())
                        } else if Self::fate(Some(&package)) == Fate::FailsGate {
                            GateEnd::Failed(vec!["accuracy".into()])
                        } else {
                            passed()
                        };
                        helm.on(|course| course.on_gate(no, end))
                    }
                    Effect::Serve {
                        no,
                        package,
                        is_trial,
                    } => {
                        self.check_load(&helm, package.as_ref(), is_trial);
                        serving = (no, package.clone());
                        let ends = self.engine_ends(package.as_ref().filter(|_| is_trial));
                        if ends || Self::fate(package.as_ref()) == Fate::Unloadable {
                            helm.on(|course| course.on_switch_failed(no, "it ended"))
                        } else {
                            helm.on(|course| course.on_switched(no, at(minute)))
                        }
                    }
                    Effect::Tell(report) => {
                        self.hear(&report);
                        continue;
                    }
                    Effect::Settle { current, .. } => {
                        let committed = self.on_disk().committed().map(|it| it.id.clone());
                        assert_eq!(committed, current, "what stays was not durable");
                        continue;
                    }
                    Effect::StopGate(_) => continue,
                }
            };
            take(&mut todo, released)?;
            take(&mut todo, helm.on(|course| course.on_tick(at(minute))))?;
        }
        panic!("it does not end");
    }

    /// What a package in its trial does with requests.
    fn serve(
        &mut self,
        helm: &mut Helm<SimDisk>,
        serving: &(No, Option<Named>),
        minute: u64,
    ) -> Released {
        let (no, package) = serving;
        let fate = Self::fate(package.as_ref());
        if fate == Fate::Crashes || self.engine_ends(package.as_ref()) {
            return helm.on(|course| course.on_engine_crash(*no, "signal 11"));
        }
        let answer = if fate == Fate::RefusesAll {
            Answer::Refused
        } else {
            Answer::Good
        };
        helm.on(|course| course.on_answer(*no, answer, at(minute)))
    }

    fn on_disk(&self) -> Memory {
        let journal = Book::open(self.disk.clone()).unwrap().journal();
        Memory::of_value(journal.course()).unwrap()
    }

    /// What serves after a restart.
    fn check_start(&self, helm: &Helm<SimDisk>, first: &Released) {
        let memory = helm.course().memory();
        if first.trouble.is_some() {
            return; // the power went at once
        }
        let Some(Effect::Serve {
            package, is_trial, ..
        }) = first.effects.first()
        else {
            panic!("{first:?}");
        };
        if *is_trial {
            let candidate = memory.candidate.as_ref().unwrap();
            assert_eq!(Some(&candidate.package), package.as_ref());
            assert!(candidate.attempts > 1, "a trial that was not counted");
            return;
        }
        assert_eq!(package.as_ref(), memory.committed());
        let untold = memory.last.as_ref().is_some_and(|it| {
            it.end == End::Committed && it.package == named(self.offered as u64 + 1)
        });
        if !untold {
            assert_eq!(package, &self.said, "not what it said it has committed");
        }
    }

    fn check_load(&mut self, helm: &Helm<SimDisk>, package: Option<&Named>, is_trial: bool) {
        let Some(package) = package.filter(|_| is_trial) else {
            return;
        };
        let own = helm.course().memory().taken_back(package.digest);
        assert!(own.is_none(), "{package} is tried again");
        let loads = self.loads.entry(package.id.seq).or_default();
        *loads += 1;
        let loads = *loads;
        let candidate = self.on_disk().candidate.unwrap();
        assert_eq!(
            (&candidate.package, candidate.stage),
            (package, Stage::Trial)
        );
        assert!(
            u32::from(candidate.attempts) >= loads,
            "a load that was not counted"
        );
    }

    fn hear(&mut self, report: &Report) {
        let package = named(self.offered as u64 + 1);
        if report.package != Some(package.to_string()) {
            return;
        }
        match report.state {
            "committed" => self.said = Some(package),
            "rolled_back" | "withdrawn" => {}
            _ => return,
        }
        self.offered += 1;
    }

    fn check_end(&self, what: &str) {
        let memory = self.on_disk();
        let taken: Vec<_> = memory
            .taken_back
            .iter()
            .map(|it| it.package.id.seq)
            .collect();
        // An engine that ended just before the power went is forgotten; the trial begins anew.
        let is_good = |seq: &u64| {
            let went = self.victim == Some(*seq) && taken.contains(seq);
            Self::fate(Some(&named(*seq))) == Fate::Good && !went
        };
        let seqs = 1..=FATES.len() as u64;
        let last = seqs.clone().filter(is_good).max();
        assert_eq!(memory.committed().cloned(), last.map(named), "{what}");
        let bad: Vec<_> = seqs.filter(|it| !is_good(it)).collect();
        assert_eq!(taken, bad, "{what}");
        assert!(memory.candidate.is_none(), "{what}");
        let floor = Book::open(self.disk.clone())
            .unwrap()
            .floors()
            .package("triage");
        assert_eq!(floor, FATES.len() as u64, "{what}");
        let most = |counts: &BTreeMap<u64, u32>| counts.values().max().copied().unwrap_or(0);
        assert!(most(&self.loads) <= MAX_ATTEMPTS.into(), "{what}");
        assert!(most(&self.gates) <= MAX_ATTEMPTS.into(), "{what}");
    }
}

#[test]
fn a_life_without_trouble_ends_on_the_last_good_package() {
    let mut world = World::default();
    world.live().unwrap();
    world.check_end("no trouble");
    assert_eq!(world.loads.values().sum::<u32>(), 7);
}

/// All lives in which the power goes at one step, and the engine at one.
fn lives(kept: Kept, crash_at: Option<usize>) {
    for n in 0.. {
        let mut world = World {
            crash_at,
            ..World::default()
        };
        world.disk.cut_after(n);
        let was_cut = world.live().is_err();
        if was_cut {
            world.disk.restart(kept);
            world.live().unwrap();
        }
        world.check_end(&format!("step {n}, {kept:?}, engine {crash_at:?}"));
        if !was_cut {
            assert!(n > 150, "a life takes more steps than {n}");
            return;
        }
    }
}

#[test]
fn a_power_cut_at_any_step_leaves_the_last_committed_package_and_the_update_ends() {
    for kept in Kept::ALL {
        lives(kept, None);
    }
}

#[test]
fn an_engine_that_ends_at_any_step_and_a_power_cut_beside_it_do_neither_harm() {
    let mut world = World::default();
    world.live().unwrap();
    for crash_at in 0..world.engine {
        lives(Kept::Half, Some(crash_at));
    }
}

#[test]
fn power_that_goes_again_and_again_ends_all_the_same() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = World::default();
        for _ in 0..40 {
            world.disk.cut_after(rng.usize(0..120));
            if world.live().is_ok() {
                break;
            }
            world.disk.restart(*rng.choice(Kept::ALL.iter()).unwrap());
        }
        world.disk.restart(Kept::Everything);
        world.live().unwrap();
        let memory = world.on_disk();
        // What was cut short too often was taken back for it; nothing bad was committed.
        let bad = |it: &Commit| World::fate(Some(&it.package)) != Fate::Good;
        assert!(!memory.commits.iter().any(bad), "seed {seed}");
        let most = world.loads.values().max().copied().unwrap_or(0);
        assert!(
            most <= MAX_ATTEMPTS.into(),
            "seed {seed}: {:?}",
            world.loads
        );
        assert!(memory.candidate.is_none() && world.offered == FATES.len());
    }
}
