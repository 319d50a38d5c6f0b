//! Loads: which of them serves, and which came to nothing.

use super::*;

/// A model under another number.
fn numbered(model: usize, load: u64) -> Wanted {
    Wanted::Model(Arc::new(ActiveModel {
        load: LoadNo(load),
        ..(*MODELS[model]).clone()
    }))
}

impl Rig {
    fn want_as(&mut self, wanted: Wanted) {
        self.supervisor.on_wanted(wanted, self.now);
        self.take();
    }

    /// What was told of loads, in order.
    fn loads(&self) -> Vec<(u64, LoadEnd)> {
        let loads = self.events.iter().filter_map(|event| match event {
            Event::Load { load, end } => Some((load.0, end.clone())),
            _ => None,
        });
        loads.collect()
    }

    /// Under which load a ticket ended.
    fn load_of(&self, ticket: u64) -> Option<LoadNo> {
        self.events.iter().find_map(|event| match event {
            Event::Ended {
                ticket: it, load, ..
            } if *it == TicketNo(ticket) => Some(*load),
            _ => None,
        })
    }
}

fn crashed() -> LoadEnd {
    LoadEnd::Crashed("it was ended by signal 9".into())
}

#[test]
fn a_load_serves_once_it_is_told_so_and_answers_bear_the_number_under_which_they_were_begun() {
    let mut rig = Rig::ready();
    assert_eq!(rig.loads(), [(1, LoadEnd::Serves)]);
    rig.start(1, "a");
    rig.want(1);
    assert_eq!(rig.loads().len(), 1, "it is not loaded yet");
    rig.load(2);
    assert_eq!(rig.loads()[1..], [(2, LoadEnd::Serves)]);
    rig.start(2, "b");
    let (old, new) = (rig.works(1), rig.works(2));
    rig.answer(2, new[0]);
    rig.answer(1, old[0]);
    assert_eq!(rig.load_of(1), Some(LoadNo(1)));
    assert_eq!(rig.load_of(2), Some(LoadNo(2)));
}

#[test]
fn the_same_model_under_another_number_is_not_loaded_again() {
    let mut rig = Rig::ready();
    rig.want_as(numbered(0, 7));
    assert_eq!(rig.spawned.len(), 1);
    assert_eq!(rig.loads()[1..], [(7, LoadEnd::Serves)]);
    rig.start(1, "a");
    let works = rig.works(1);
    rig.answer(1, works[0]);
    assert_eq!(rig.load_of(1), Some(LoadNo(7)));
}

#[test]
fn a_trial_that_cannot_be_loaded_is_told_and_tried_again_under_another_number_only() {
    let mut rig = Rig::ready();
    rig.want(1);
    rig.frame(2, FromEngine::Unloadable("no such file".into()));
    assert_eq!(
        rig.loads()[1..],
        [(2, LoadEnd::Failed("no such file".into()))]
    );
    assert_eq!(rig.state(), State::Ready { slots: SLOTS });
    assert_eq!(rig.spawned.len(), 2);
    // What serves is wanted again: nothing has to be loaded for that.
    rig.want_as(numbered(0, 3));
    assert_eq!(rig.loads()[2..], [(3, LoadEnd::Serves)]);
    rig.want_as(numbered(1, 4));
    assert_eq!(rig.spawned.len(), 3);
}

#[test]
fn each_death_of_a_load_is_told_under_its_number() {
    let mut rig = Rig::ready();
    rig.want(1);
    rig.exit(2);
    assert_eq!(rig.loads()[1..], [(2, crashed())]);
    rig.want_as(numbered(0, 3));
    rig.exit(1);
    assert_eq!(rig.loads()[2..], [(3, LoadEnd::Serves), (3, crashed())]);
    rig.pass_to_deadline();
    rig.load(3);
    assert_eq!(rig.loads().len(), 4, "it served before: {:?}", rig.loads());
}

#[test]
fn what_serves_and_cannot_be_loaded_again_is_told_and_loaded_under_another_number() {
    let mut rig = Rig::ready();
    rig.exit(1);
    for child in 2..=4 {
        rig.pass_to_deadline();
        assert_eq!(rig.spawned.last(), Some(&ChildNo(child)));
        rig.exit(child);
    }
    assert_eq!(rig.state(), State::Absent);
    let told = rig.loads();
    assert!(
        matches!(told.last(), Some((1, LoadEnd::Failed(_)))),
        "{told:?}"
    );
    rig.want_as(numbered(0, 2));
    assert_eq!(rig.spawned.last(), Some(&ChildNo(5)));
    rig.load(5);
    assert_eq!(rig.loads().last(), Some(&(2, LoadEnd::Serves)));
}

#[test]
fn while_it_rests_what_comes_waits_and_afterwards_it_goes_on() {
    let mut rig = Rig::ready();
    rig.start(1, "a");
    let why = "the gate needs the board".to_owned();
    rig.want_as(Wanted::Resting { why: why.clone() });
    assert_eq!(rig.killed, [ChildNo(1)]);
    assert_eq!(rig.result(1), Some(&Err(Fault::Busy)));
    assert_eq!(rig.state(), State::Starting, "not absent: it comes back");
    assert_eq!(rig.report().word, "paused");
    assert_eq!(rig.report().why, Some(why));
    rig.start(2, "b");
    assert_eq!(rig.result(2), Some(&Err(Fault::Busy)));
    rig.want(0);
    rig.load(2);
    assert_eq!(rig.state(), State::Ready { slots: SLOTS });
    assert_eq!(rig.loads().len(), 1, "it is the same load");
}

#[test]
fn what_must_be_fresh_is_computed_although_the_answer_is_known() {
    let mut rig = Rig::ready();
    let due = rig.now.after(Duration::from_mins(1));
    rig.start(1, "a");
    let works = rig.works(1);
    rig.answer(1, works[0]);
    rig.start(2, "a");
    assert_eq!(rig.origin(2), Some(Origin::Cache));
    rig.start_job(Job {
        fresh: true,
        ..job(3, "a", due)
    });
    let works = rig.works(1);
    assert_eq!(works.len(), 2);
    rig.answer(1, works[1]);
    assert_eq!(rig.origin(3), Some(Origin::Model));
}
