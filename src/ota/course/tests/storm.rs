//! Inputs in any order, with restarts and a disk that fails: the invariants hold after each.

use super::*;
use crate::ota::floor::Book;
use crate::ota::tests::disk::{Kept, SimDisk};

struct Storm {
    rng: fastrand::Rng,
    disk: SimDisk,
    helm: Helm<SimDisk>,
    loads: Vec<No>,
    gates: Vec<No>,
    minute: u64,
    /// Digests that a package was rolled back for, and nobody forgave.
    refused: Vec<Named>,
    floor: u64,
    /// Whether the disk takes anything.
    works: bool,
    steps: u64,
    /// Loads that failed in this process.
    failed: u32,
    commits: u32,
    taken_back: u32,
    stood_in: u32,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::default();
        let journal = Book::open(disk.clone()).unwrap().journal();
        let (helm, first) = Helm::start(TERMS, journal, at(0)).unwrap();
        let mut storm = Self {
            rng: fastrand::Rng::with_seed(seed),
            disk,
            helm,
            loads: vec![No(0)],
            gates: vec![No(0)],
            minute: 0,
            refused: Vec::new(),
            floor: 0,
            works: true,
            steps: 0,
            failed: 0,
            commits: 0,
            taken_back: 0,
            stood_in: 0,
        };
        storm.look(first);
        storm
    }

    fn restart(&mut self) {
        let kept = *self.rng.choice(Kept::ALL.iter()).unwrap();
        self.disk.restart(kept);
        self.works = true;
        let book = Book::open(self.disk.clone()).unwrap();
        let floor = book.floors().package("triage");
        assert!(floor >= self.floor, "the floor fell");
        self.floor = floor;
        self.minute = 0;
        let (helm, first) = Helm::start(TERMS, book.journal(), at(0)).unwrap();
        self.helm = helm;
        self.failed = 0;
        (self.loads, self.gates) = (vec![No(0)], vec![No(0)]);
        self.refused
            .clone_from(&Self::refused(self.helm.course().memory()));
        self.look(first);
    }

    fn refused(memory: &Memory) -> Vec<Named> {
        memory
            .taken_back
            .iter()
            .map(|it| it.package.clone())
            .collect()
    }

    /// Holds what was released against what is durable.
    fn look(&mut self, released: Released) {
        if let Some(trouble) = &released.trouble {
            assert!(!self.works, "{trouble}");
        }
        let book = Book::open(self.disk.clone()).unwrap();
        let durable = Memory::of_value(book.journal().course()).unwrap();
        let floor = book.floors().package("triage");
        for id in durable.held() {
            assert!(durable.pinned.as_ref().is_some_and(|it| it.id == id) || floor >= id.seq);
        }
        for effect in released.effects {
            match effect {
                Effect::Gate { no, package, .. } => {
                    self.gates.push(no);
                    assert!(!self.refused.contains(&package), "{package} again");
                    let candidate = durable.candidate.as_ref().unwrap();
                    assert_eq!(candidate.package, package);
                    assert!((1..=MAX_ATTEMPTS).contains(&candidate.gates));
                    assert!(!durable.halted || durable.pinned == Some(package));
                }
                Effect::Serve {
                    no,
                    package,
                    is_trial: true,
                } => {
                    self.loads.push(no);
                    let candidate = durable.candidate.as_ref().unwrap();
                    assert_eq!(
                        (candidate.stage, Some(&candidate.package)),
                        (Stage::Trial, package.as_ref())
                    );
                    assert!((1..=MAX_ATTEMPTS).contains(&candidate.attempts));
                    assert!(!self.refused.contains(&candidate.package));
                    assert!(!durable.halted || durable.pinned == package);
                }
                Effect::Serve { no, package, .. } => {
                    self.loads.push(no);
                    self.look_at_stand_in(package.as_ref());
                }
                Effect::Settle { current, held } => {
                    assert_eq!(durable.committed().map(|it| it.id.clone()), current);
                    assert_eq!(durable.held(), held);
                }
                Effect::Tell(report) => {
                    let committed = report.state == "committed";
                    self.commits += u32::from(committed);
                    self.taken_back += u32::from(report.state == "rolled_back");
                    let last = durable.last.as_ref().map(|it| it.end);
                    assert!(!committed || last == Some(End::Committed));
                }
                Effect::StopGate(_) => {}
            }
        }
        if self.works {
            self.refused = Self::refused(self.helm.course().memory());
        }
    }

    /// What is committed serves; as long as it did not load in this process, what was before it.
    fn look_at_stand_in(&mut self, package: Option<&Named>) {
        let memory = self.helm.course().memory();
        let newer = memory.commits.iter().rev();
        let newer = newer.take_while(|it| Some(&it.package) != package);
        let aside = newer.count();
        assert_eq!(self.helm.course().aside, aside);
        assert!(aside == 0 || self.failed >= MAX_LOADS.into(), "{aside}");
        self.stood_in += u32::from(aside > 0);
    }

    fn step(&mut self) {
        let rng = &mut self.rng;
        let (load, gate) = (*self.loads.last().unwrap(), *self.gates.last().unwrap());
        // Now and then a straggler.
        let no = if rng.u8(0..9) == 0 {
            self.loads[rng.usize(0..self.loads.len())]
        } else {
            load
        };
        let minute = self.minute;
        self.minute = (minute + rng.u64(0..4)).saturating_sub(rng.u64(0..2));
        // What is offered grows with time, as numbers do.
        self.steps += 1;
        let package = named(1 + self.steps / 50 + rng.u64(0..5));
        let answer = [
            Answer::Good,
            Answer::Good,
            Answer::Good,
            Answer::Escalated,
            Answer::Refused,
        ];
        let answer = answer[rng.usize(0..answer.len())];
        let helm = &mut self.helm;
        let released = match rng.u8(0..64) {
            0..=9 => helm.on(|it| it.on_ready(package)),
            10..=15 => helm.on(|it| it.on_gate(gate, passed())),
            16 => helm.on(|it| it.on_gate(gate, GateEnd::Failed(vec!["accuracy".into()]))),
            17 => helm.on(|it| it.on_gate(gate, GateEnd::Interrupted)),
            18..=25 => helm.on(|it| it.on_switched(no, at(minute))),
            26..=28 => {
                self.failed += 1;
                helm.on(|it| it.on_switch_failed(no, "no room"))
            }
            29..=48 => helm.on(|it| it.on_answer(no, answer, at(minute))),
            49 => helm.on(|it| it.on_engine_crash(no, "signal 11")),
            50 if minute.is_multiple_of(3) => helm.on(Course::on_hot_trip),
            51 => helm.on(|it| it.on_rollout(Ring::Halted)),
            50 | 52..=53 => helm.on(|it| it.on_rollout(Ring::Open)),
            54 if minute.is_multiple_of(3) => helm.on(|it| it.on_alarm(no, "worse")),
            55 if minute.is_multiple_of(5) => match helm.order(|it| it.rollback("so")) {
                Ok(released) => released,
                Err(refusal) => return assert_eq!(refusal, Refusal::Nothing),
            },
            56 if minute.is_multiple_of(5) => {
                let Ok(released) = helm.order(|it| it.pin(package.clone())) else {
                    assert!(self.refused.contains(&package));
                    return;
                };
                self.refused.retain(|it| *it != package); // a person forgave it
                released
            }
            57 => helm.on(Course::unpin),
            58 if minute.is_multiple_of(4) => return self.restart(),
            59 if minute.is_multiple_of(4) => {
                self.works = false;
                let steps = self.rng.usize(0..8);
                return self.disk.cut_after(steps);
            }
            60 if !self.works => return self.restart(),
            54..=56 | 58..=63 => helm.on(|it| it.on_tick(at(minute))),
            64.. => unreachable!(),
        };
        self.look(released);
    }
}

#[test]
fn the_invariants_hold_whatever_comes_in_whatever_order() {
    let (mut commits, mut taken_back, mut stood_in) = (0, 0, 0);
    for seed in 0..40 {
        let mut storm = Storm::new(seed);
        for _ in 0..1000 {
            storm.step();
        }
        commits += storm.commits;
        taken_back += storm.taken_back;
        stood_in += storm.stood_in;
    }
    // The storm is worth nothing if nothing gets through it.
    assert!(
        commits > 50 && taken_back > 200 && stood_in > 0,
        "{commits} {taken_back} {stood_in}"
    );
}
