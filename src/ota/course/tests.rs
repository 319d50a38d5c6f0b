mod power;
mod storm;

use super::*;
use crate::ota::store::PackageId;
use crate::ota::verdict::Findings;

const T: Duration = Duration::from_mins(10);
const TERMS: Terms = Terms {
    good_answers: 5,
    trial: T,
    alarm_takes_back: true,
};

fn named(seq: u64) -> Named {
    Named {
        id: PackageId {
            name: "triage".into(),
            seq,
        },
        digest: crate::package::Digest::of(&seq.to_le_bytes()),
    }
}

fn at(minutes: u64) -> Mono {
    Mono(Duration::from_mins(minutes))
}

fn passed() -> GateEnd {
    GateEnd::Passed(Findings::default())
}

/// A course with what is under way.
struct Bench {
    course: Course,
    gate: No,
    load: No,
    serving: Option<Named>,
    told: Report,
    all: Vec<Effect>,
}

impl Bench {
    fn new(memory: Memory) -> Self {
        let mut bench = Self {
            course: Course::new(TERMS, memory, at(0)),
            gate: No(0),
            load: No(0),
            serving: None,
            told: Report::default(),
            all: Vec::new(),
        };
        bench.on(|course| course.on_start(at(0)));
        bench
    }

    /// One on which the configuration's package serves.
    fn fresh() -> Self {
        let mut bench = Self::new(Memory::default());
        bench.switched(0);
        bench
    }

    fn on(&mut self, input: impl FnOnce(&mut Course) -> Vec<Effect>) -> &Report {
        for effect in input(&mut self.course) {
            match &effect {
                Effect::Gate { no, .. } => self.gate = *no,
                Effect::Serve { no, package, .. } => {
                    self.load = *no;
                    self.serving.clone_from(package);
                }
                Effect::Tell(report) => self.told = report.clone(),
                Effect::StopGate(_) | Effect::Settle { .. } => {}
            }
            self.all.push(effect);
        }
        &self.told
    }

    fn switched(&mut self, minute: u64) {
        let no = self.load;
        self.on(|course| course.on_switched(no, at(minute)));
    }

    fn gate_ends(&mut self, end: GateEnd) {
        let no = self.gate;
        self.on(|course| course.on_gate(no, end));
    }

    fn answers(&mut self, count: u32, answer: Answer, minute: u64) {
        let no = self.load;
        for _ in 0..count {
            self.on(|course| course.on_answer(no, answer, at(minute)));
        }
    }

    /// Brings a package into its trial, which serves from this minute.
    fn try_out(&mut self, seq: u64, minute: u64) {
        self.on(|course| course.on_ready(named(seq)));
        self.gate_ends(passed());
        self.switched(minute);
        assert_eq!(self.told.state, "trial");
    }

    fn committed(&mut self, seq: u64, minute: u64) {
        self.try_out(seq, minute);
        self.answers(5, Answer::Good, minute + 10);
        assert_eq!(self.told.state, "committed", "{:?}", self.told);
    }

    fn memory(&self) -> &Memory {
        self.course.memory()
    }

    fn ends_with(&self, state: &str, code: &str, serving: Option<u64>) {
        let told = &self.told;
        assert_eq!((told.state, told.code.as_deref()), (state, Some(code)));
        assert_eq!(self.serving, serving.map(named));
        assert!(self.memory().candidate.is_none());
        let final_end = self.memory().taken_back.last().map(|it| it.code.as_str());
        assert_eq!(final_end == Some(code), state == "rolled_back");
    }
}

#[test]
fn a_good_package_goes_its_way_and_serves_for_good() {
    let mut it = Bench::fresh();
    assert_eq!((it.serving.clone(), it.told.state), (None, "idle"));
    it.on(|course| course.on_ready(named(2)));
    assert_eq!(it.told.state, "gate");
    assert_eq!(it.serving, None);
    it.gate_ends(passed());
    assert_eq!(
        (it.told.state, it.told.is_loading, it.told.attempt),
        ("trial", true, 1)
    );
    assert_eq!(it.serving, Some(named(2)));
    it.switched(3);
    it.answers(4, Answer::Good, 20);
    assert_eq!(it.told.state, "trial");
    it.answers(1, Answer::Good, 20);
    assert_eq!(it.told.state, "committed");
    assert_eq!(it.memory().committed(), Some(&named(2)));
    let settle = Effect::Settle {
        current: Some(named(2).id),
        held: vec![named(2).id],
    };
    assert_eq!(it.all[it.all.len() - 2], settle);
}

#[test]
fn a_commit_takes_the_answers_and_the_time() {
    let mut it = Bench::fresh();
    it.try_out(2, 1);
    it.answers(99, Answer::Good, 10);
    it.on(|course| course.on_tick(at(10)));
    assert!(it.memory().commits.is_empty());
    it.on(|course| course.on_tick(at(11)));
    assert_eq!(it.memory().committed(), Some(&named(2)));
    it.try_out(3, 20);
    it.on(|course| course.on_tick(at(900)));
    it.answers(4, Answer::Good, 900);
    assert_eq!(it.memory().committed(), Some(&named(2)));
    it.answers(1, Answer::Good, 900);
    assert_eq!(it.memory().committed(), Some(&named(3)));
}

#[test]
fn a_clock_that_goes_back_costs_no_more_than_the_step() {
    let mut it = Bench::fresh();
    it.try_out(2, 50);
    it.answers(5, Answer::Good, 59);
    it.on(|course| course.on_tick(at(0)));
    assert!(it.memory().commits.is_empty());
    it.on(|course| course.on_tick(at(1)));
    assert_eq!(it.memory().committed(), Some(&named(2)));
}

#[test]
fn each_fault_ends_on_the_last_good_package_with_its_reason() {
    type Fault = (&'static str, fn(&mut Bench));
    let gate: [Fault; 2] = [
        ("gate", |it| {
            it.gate_ends(GateEnd::Failed(vec!["accuracy".into()]));
        }),
        ("gate_broken", |it| {
            it.gate_ends(GateEnd::Broken("no room".into()));
        }),
    ];
    let load: [Fault; 2] = [
        ("unloadable", |it| {
            let no = it.load;
            it.on(|course| course.on_switch_failed(no, "no room"));
        }),
        ("crash", |it| {
            let no = it.load;
            it.on(|course| course.on_engine_crash(no, "signal 11"));
        }),
    ];
    let trial: [Fault; 4] = [
        ("crash", |it| {
            let no = it.load;
            it.on(|course| course.on_engine_crash(no, "signal 11"));
        }),
        ("hot", |it| {
            it.on(Course::on_hot_trip);
        }),
        ("jump", |it| it.answers(60, Answer::Refused, 21)),
        ("by_hand", |it| {
            it.on(|course| course.rollback("it chatters").unwrap());
        }),
    ];
    let all = gate.map(|it| (0, it)).into_iter();
    let all = all.chain(load.map(|it| (1, it)));
    for (steps, (code, fault)) in all.chain(trial.map(|it| (2, it))) {
        let mut it = Bench::fresh();
        it.committed(2, 1);
        it.on(|course| course.on_ready(named(3)));
        if steps > 0 {
            it.gate_ends(passed());
        }
        if steps > 1 {
            it.switched(20);
        }
        fault(&mut it);
        it.ends_with("rolled_back", code, Some(2));
        it.switched(22);
        // The same content is not tried again, whatever number it has by then.
        let before = it.all.len();
        it.on(|course| course.on_ready(named(3)));
        let again = Named {
            id: named(9).id,
            ..named(3)
        };
        it.on(|course| course.on_ready(again));
        assert_eq!(it.all.len(), before);
        it.committed(4, 30);
    }
}

#[test]
fn a_trial_is_held_against_what_served_before_it() {
    let mut it = Bench::fresh();
    it.answers(600, Answer::Good, 1);
    it.answers(400, Answer::Escalated, 1);
    it.try_out(2, 2);
    for _ in 0..40 {
        it.answers(3, Answer::Good, 3);
        it.answers(2, Answer::Escalated, 3);
    }
    assert_eq!(it.told.state, "trial");
    it.answers(100, Answer::Escalated, 4);
    it.ends_with("rolled_back", "jump", None);
    let reason = it.told.reason.clone().unwrap();
    assert!(reason.starts_with("requests to the cloud: "), "{reason}");
    assert!(reason.ends_with(", 400 of 1000 before it"), "{reason}");
}

#[test]
fn loads_of_a_trial_are_counted_and_more_than_three_roll_back() {
    let mut it = Bench::fresh();
    it.try_out(2, 1);
    for attempt in 2..=MAX_ATTEMPTS {
        it = Bench::new(it.memory().clone());
        assert_eq!(it.serving, Some(named(2)));
        assert_eq!(it.told.attempt, attempt);
    }
    it = Bench::new(it.memory().clone());
    it.ends_with("rolled_back", "attempts", None);
}

#[test]
fn a_gate_that_takes_the_process_along_is_not_begun_for_ever() {
    let mut it = Bench::fresh();
    it.on(|course| course.on_ready(named(2)));
    for gates in 2..=MAX_ATTEMPTS {
        it = Bench::new(it.memory().clone());
        it.switched(1);
        let candidate = it.memory().candidate.as_ref().unwrap();
        assert_eq!((candidate.gates, it.told.state), (gates, "gate"));
    }
    it = Bench::new(it.memory().clone());
    it.switched(1);
    it.ends_with("rolled_back", "gate_attempts", None);
}

#[test]
fn a_gate_that_was_interrupted_comes_again_after_a_pause_and_is_not_counted() {
    let mut it = Bench::fresh();
    it.on(|course| course.on_ready(named(2)));
    for minute in 1..20 {
        it.gate_ends(GateEnd::Interrupted);
        assert_eq!(it.told.state, "staged");
        it.on(|course| course.on_tick(at(minute)));
        assert_eq!(it.told.state, "gate");
    }
    it.gate_ends(passed());
    assert_eq!(it.told.state, "trial");
}

#[test]
fn a_newer_package_takes_the_place_of_one_that_is_not_in_its_trial() {
    let mut it = Bench::fresh();
    it.on(|course| course.on_ready(named(3)));
    let old_gate = it.gate;
    it.on(|course| course.on_ready(named(2)));
    assert_eq!(it.told.seq, Some(3));
    it.on(|course| course.on_ready(named(4)));
    assert!(it.all.contains(&Effect::StopGate(old_gate)));
    it.on(|course| course.on_gate(old_gate, GateEnd::Failed(Vec::new())));
    assert_eq!((it.told.seq, it.told.state), (Some(4), "gate"));
    it.gate_ends(passed());
    it.on(|course| course.on_ready(named(5)));
    assert_eq!((it.told.seq, it.told.state), (Some(4), "trial"));
    assert!(it.memory().taken_back.is_empty());
}

#[test]
fn a_halt_stops_what_is_on_its_way_and_leaves_what_is_committed() {
    let mut it = Bench::fresh();
    it.committed(2, 1);
    it.on(|course| course.on_rollout(Ring::Halted));
    assert_eq!((it.serving.clone(), it.told.halted), (Some(named(2)), true));
    it.on(|course| course.on_ready(named(3)));
    it.on(|course| course.on_tick(at(30)));
    assert_eq!(it.told.state, "staged");
    it.on(|course| course.on_rollout(Ring::Open));
    assert_eq!(it.told.state, "gate");
    it.on(|course| course.on_rollout(Ring::Halted));
    assert_eq!(it.told.state, "staged");
    it.on(|course| course.on_rollout(Ring::Open));
    it.gate_ends(passed());
    it.switched(31);
    it.on(|course| course.on_rollout(Ring::Halted));
    it.ends_with("withdrawn", "halted", Some(2));
    // Known after a restart too, where nobody can be asked.
    let mut it = Bench::new(it.memory().clone());
    it.switched(0);
    it.on(|course| course.on_ready(named(3)));
    assert_eq!(it.told.state, "staged");
    // It was not the package's fault: once the ring is open it goes its way.
    it.on(|course| course.on_rollout(Ring::Open));
    it.gate_ends(passed());
    it.switched(40);
    it.answers(5, Answer::Good, 60);
    assert_eq!(it.memory().committed(), Some(&named(3)));
}

#[test]
fn what_bears_the_number_of_another_load_counts_for_nobody() {
    let mut it = Bench::fresh();
    let old = it.load;
    it.on(|course| course.on_ready(named(2)));
    it.gate_ends(passed());
    it.on(|course| course.on_engine_crash(old, "a straggler"));
    it.on(|course| course.on_switch_failed(old, "a straggler"));
    it.on(|course| course.on_switched(old, at(1)));
    assert!(it.told.is_loading);
    it.switched(1);
    for _ in 0..99 {
        it.on(|course| course.on_answer(old, Answer::Good, at(30)));
        it.on(|course| course.on_answer(old, Answer::Failed, at(30)));
    }
    it.on(|course| course.on_engine_crash(old, "a straggler"));
    it.on(|course| course.on_alarm(old, "a straggler"));
    it.on(|course| course.on_tick(at(30)));
    assert_eq!((it.told.state, it.memory().commits.len()), ("trial", 0));
}

#[test]
fn what_was_committed_can_be_taken_back_down_to_the_configuration() {
    let mut it = Bench::fresh();
    it.committed(2, 1);
    it.committed(3, 20);
    let no = it.load;
    it.on(|course| course.on_alarm(no, "it got worse"));
    it.ends_with("rolled_back", "alarm", Some(2));
    it.switched(40);
    it.on(|course| course.rollback("to be sure").unwrap());
    it.ends_with("rolled_back", "by_hand", None);
    assert_eq!(it.course.rollback("more"), Err(Refusal::Nothing));
}

#[test]
fn an_alarm_takes_nothing_back_where_the_site_does_not_say_so() {
    let mut it = Bench::fresh();
    it.committed(2, 1);
    it.course.terms.alarm_takes_back = false;
    let no = it.load;
    assert_eq!(it.course.on_alarm(no, "it got worse"), []);
    assert_eq!(it.memory().committed(), Some(&named(2)));
}

#[test]
fn a_committed_package_that_no_longer_loads_gives_way_to_the_one_before() {
    let mut it = Bench::fresh();
    it.committed(2, 1);
    it.committed(3, 20);
    let mut it = Bench::new(it.memory().clone());
    let mut minute = 0;
    let mut seen = Vec::new();
    for _ in 0..9 {
        seen.push(it.serving.as_ref().map(|it| it.id.seq));
        let no = it.load;
        it.on(|course| course.on_switch_failed(no, "bad sector"));
        minute += 1;
        it.on(|course| course.on_tick(at(minute)));
    }
    let three = |it| [it; 3];
    assert_eq!(seen, [three(Some(3)), three(Some(2)), three(None)].concat());
    it.switched(minute);
    assert!(!it.told.is_loading);
}

/// A course whose newest package stands aside, for what is not its fault.
fn aside() -> Bench {
    let mut it = Bench::fresh();
    it.committed(2, 1);
    it.committed(3, 20);
    let mut it = Bench::new(it.memory().clone());
    for minute in 1..=u64::from(MAX_LOADS) {
        let no = it.load;
        it.on(|course| course.on_switch_failed(no, "no memory"));
        it.on(|course| course.on_tick(at(minute)));
    }
    it.switched(4);
    assert_eq!(it.serving, Some(named(2)));
    it
}

fn seqs(memory: &Memory) -> Vec<u64> {
    memory.commits.iter().map(|it| it.package.id.seq).collect()
}

#[test]
fn a_committed_package_that_does_not_load_is_tried_again_by_the_next_process() {
    let mut it = aside();
    assert_eq!(seqs(it.memory()), [2, 3]);
    assert!(it.memory().taken_back.is_empty());
    assert_eq!(it.memory().held(), [named(2).id, named(3).id]);
    let told = &it.told;
    assert_eq!((told.state, told.seq), ("withdrawn", Some(3)));
    assert_eq!(told.code.as_deref(), Some("unloadable"));
    assert_eq!(told.serving, Some("triage-2".into()));
    let here = [named(2).id, named(3).id];
    let word = |it: &Bench| {
        let sight = Sight::of(&it.course, None, &here);
        let words = sight
            .packages
            .iter()
            .map(|it| (it.standing, it.code.clone()));
        words.collect::<Vec<_>>()
    };
    let code = Some("unloadable".to_owned());
    assert_eq!(word(&it), [("serving", None), ("here", code)]);
    // The ring still wants it, which brings nothing new.
    let before = it.all.len();
    it.on(|course| course.on_ready(named(3)));
    assert_eq!(it.all.len(), before);
    let mut it = Bench::new(it.memory().clone());
    assert_eq!(it.serving, Some(named(3)));
    it.switched(1);
    assert_eq!((it.told.state, it.told.seq), ("committed", Some(3)));
    assert_eq!(word(&it), [("before", None), ("serving", None)]);
}

#[test]
fn a_committed_package_that_does_not_load_can_be_chosen() {
    let mut it = aside();
    it.on(|course| course.pin(named(3)).unwrap());
    assert_eq!(it.serving, Some(named(3)));
    it.switched(9);
    assert_eq!((it.told.state, it.told.seq), ("committed", Some(3)));
    assert_eq!(seqs(it.memory()), [2, 3]);
    // So can what stands in for it, which then is all.
    let mut it = aside();
    it.on(|course| course.pin(named(2)).unwrap());
    it.switched(9);
    assert_eq!(
        (it.serving.clone(), seqs(it.memory())),
        (Some(named(2)), vec![2])
    );
}

#[test]
fn what_stands_in_is_what_an_alarm_a_trial_and_a_person_go_by() {
    let mut it = aside();
    let no = it.load;
    it.on(|course| course.on_alarm(no, "it got worse"));
    assert_eq!((it.serving.clone(), seqs(it.memory())), (None, vec![3]));
    it.switched(9);
    it.on(|course| course.on_alarm(no, "a straggler"));
    let no = it.load;
    it.on(|course| course.on_alarm(no, "of the configuration's"));
    assert_eq!(seqs(it.memory()), [3]);

    let mut it = aside();
    it.try_out(4, 10);
    it.on(Course::on_hot_trip);
    it.ends_with("rolled_back", "hot", Some(2));
    it.switched(11);
    it.committed(5, 12);
    assert_eq!(seqs(it.memory()), [2, 5], "before it is what served");

    let mut it = aside();
    let load = it.load;
    it.on(|course| course.rollback("it will never do").unwrap());
    it.ends_with("rolled_back", "by_hand", Some(2));
    assert_eq!((it.load, seqs(it.memory())), (load, vec![2]));
    assert_eq!(it.told.serving, Some("triage-2".into()));
}

#[test]
fn a_person_chooses_whatever_the_ring_says() {
    let mut it = Bench::fresh();
    it.committed(2, 1);
    it.committed(3, 20);
    it.on(|course| course.on_rollout(Ring::Halted));
    // One that was committed here serves at once.
    it.on(|course| course.pin(named(2)).unwrap());
    assert_eq!(it.serving, Some(named(2)));
    it.switched(40);
    it.on(|course| course.on_ready(named(4)));
    assert!(it.memory().candidate.is_none());
    // Another goes its way, a halted ring or not, even if its number is lower.
    it.on(|course| course.pin(named(1)).unwrap());
    it.gate_ends(passed());
    it.switched(41);
    // Another choice ends its trial without blame.
    it.on(|course| course.pin(named(2)).unwrap());
    it.ends_with("withdrawn", "pinned", Some(2));
    it.switched(42);
    it.on(Course::unpin);
    it.on(|course| course.on_rollout(Ring::Open));
    it.on(|course| course.on_ready(named(4)));
    assert_eq!((it.told.state, it.told.seq), ("gate", Some(4)));
}

#[test]
fn what_failed_here_cannot_be_chosen_and_what_a_person_took_back_can() {
    let mut it = Bench::fresh();
    it.try_out(2, 1);
    it.on(Course::on_hot_trip);
    it.switched(2);
    let refusal = it.course.pin(named(2)).unwrap_err().to_string();
    assert!(refusal.ends_with("the board got too hot"), "{refusal}");
    it.try_out(3, 3);
    it.on(|course| course.rollback("not today").unwrap());
    it.switched(4);
    it.on(|course| course.pin(named(3)).unwrap());
    assert_eq!((it.told.state, it.told.seq), ("gate", Some(3)));
}

#[test]
fn a_memory_is_read_as_it_was_written_and_an_old_one_has_its_defaults() {
    let mut it = Bench::fresh();
    it.committed(2, 1);
    it.try_out(3, 20);
    it.on(Course::on_hot_trip);
    it.on(|course| course.on_ready(named(4)));
    let value = it.memory().to_value();
    assert_eq!(Memory::of_value(value).unwrap(), *it.memory());
    assert_eq!(
        Memory::of_value(serde_json::json!({})).unwrap(),
        Memory::default()
    );
    assert_eq!(
        Memory::of_value(serde_json::Value::Null).unwrap(),
        Memory::default()
    );
    assert!(Memory::of_value(serde_json::json!({"candidate": {"package": 7}})).is_err());
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut it = Bench::fresh();
    for seq in 1..=200 {
        it.on(|course| course.on_ready(named(seq)));
        let missed = vec!["ä".repeat(4000)];
        it.gate_ends(GateEnd::Failed(missed));
    }
    for seq in 201..210 {
        it.committed(seq, seq * 20);
    }
    let memory = it.memory();
    assert_eq!(memory.taken_back.len(), MAX_TAKEN_BACK);
    assert_eq!(memory.taken_back.last().unwrap().package, named(200));
    assert_eq!(memory.commits.len(), MAX_COMMITS);
    let bytes = memory.to_value().to_string().len();
    assert!(bytes < 128 << 10, "{bytes}");
}
