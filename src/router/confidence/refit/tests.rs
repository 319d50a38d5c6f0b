use proptest::prelude::*;

use super::*;
use crate::package::Blend;
use crate::package::features::TERMS;

fn base() -> Calibration {
    let points = vec![(0.0, 0.2), (0.4, 0.5), (0.8, 0.9), (1.0, 0.98)];
    Calibration::new(points).unwrap()
}

fn verdict(raw: f64, right: bool, reviewer: u64) -> Verdict {
    Verdict {
        raw,
        told: base().probability(raw),
        right,
        reviewer,
    }
}

/// So many verdicts on answers of one raw confidence, by five reviewers, of which one in
/// `wrong_each` is "wrong".
fn give(learnt: &mut Learnt, count: u64, raw: f64, wrong_each: u64) -> usize {
    let moved = (0..count).filter(|at| {
        let verdict = verdict(raw, at % wrong_each != 0, at % 5);
        learnt.verdict(verdict, Wall(1000 + at)) == Effect::Moved
    });
    moved.count()
}

#[test]
fn few_verdicts_move_nothing() {
    let mut learnt = Learnt::new(base());
    assert_eq!(give(&mut learnt, 49, 0.8, 1), 0);
    assert_eq!(learnt.curve(), &base());
    assert_eq!(give(&mut learnt, 1, 0.8, 1), 1);
    assert!(learnt.curve().probability(0.8) < 0.9);
    // And then it takes some more before it moves again.
    assert_eq!(give(&mut learnt, 24, 0.8, 1), 0);
    assert_eq!(give(&mut learnt, 1, 0.8, 1), 1);
}

#[test]
fn a_change_is_on_record_and_can_be_taken_back() {
    let mut learnt = Learnt::new(base());
    assert!(!learnt.undo(Wall(1)), "there is nothing to undo");
    assert_eq!(give(&mut learnt, 50, 0.8, 1), 1);
    let moved = learnt.curve().clone();
    let change = learnt.history().last().unwrap().clone();
    assert_eq!(change.why, Why::Verdicts(50));
    assert_eq!(
        (change.at, &change.before, &change.after),
        (Wall(1049), &base(), &moved)
    );

    assert!(learnt.undo(Wall(2000)));
    assert_eq!(learnt.curve(), &base());
    assert_eq!(learnt.held(), 0, "they would only lead there again");
    let undone = learnt.history().last().unwrap();
    assert_eq!((undone.why, &undone.before), (Why::Undone, &moved));
    assert_eq!(give(&mut learnt, 49, 0.8, 1), 0);
}

#[test]
fn another_package_begins_anew() {
    let mut learnt = Learnt::new(base());
    give(&mut learnt, 60, 0.8, 1);
    let same = learnt.clone();
    learnt.replaced(base(), Wall(5));
    assert_eq!(learnt, same, "the same curve is no other package's");
    let other = Calibration::new(vec![(0.0, 0.1), (1.0, 0.9)]).unwrap();
    learnt.replaced(other.clone(), Wall(5));
    assert_eq!((learnt.curve(), learnt.held()), (&other, 0));
    assert_eq!(learnt.history().last().unwrap().why, Why::Package);
    assert!(
        !learnt.undo(Wall(6)),
        "the curve before was another package's"
    );
    assert_eq!(learnt.curve(), &other);
}

#[test]
fn verdicts_that_agree_with_the_curve_leave_it_about_where_it_is() {
    let mut learnt = Learnt::new(base());
    give(&mut learnt, 500, 0.8, 10); // nine in ten are right, as the curve says
    for x in [0.0, 0.4, 0.8, 1.0] {
        let off = learnt.curve().probability(x) - base().probability(x);
        assert!(off.abs() < 0.03, "{x}: {off}");
    }
    assert_eq!(learnt.watch().alarm(), None);
}

#[test]
fn one_reviewer_is_not_a_crowd() {
    let lowest = |reviewers: u64| {
        let mut learnt = Learnt::new(base());
        // Others agree with the curve; these say wrong to everything.
        for at in 0..300 {
            learnt.verdict(verdict(0.8, at % 10 != 0, 100 + at % 9), Wall(at));
        }
        for at in 0..200 {
            learnt.verdict(verdict(0.8, false, at % reviewers), Wall(at));
        }
        learnt.curve().probability(0.8)
    };
    let (one, crowd) = (lowest(1), lowest(8));
    assert!(one > crowd + 0.01, "{one} {crowd}");
}

#[test]
fn the_record_and_the_verdicts_are_bounded() {
    let mut learnt = Learnt::new(base());
    for round in 0..60 {
        give(&mut learnt, 50, 0.8, if round % 2 == 0 { 1 } else { 1000 });
    }
    assert_eq!(learnt.held(), HELD);
    assert!(learnt.history().len() <= HISTORY);
    for _ in 0..2 * HISTORY {
        assert!(learnt.undo(Wall(1)));
    }
    assert_eq!(learnt.history().len(), HISTORY);
}

#[test]
fn many_errors_among_the_sure_raise_the_alarm_until_a_person_has_seen_it() {
    let mut learnt = Learnt::new(base());
    give(&mut learnt, 120, 1.0, 2);
    assert!(learnt.watch().alarm().is_some());
    let read = Learnt::read(&learnt.bytes()).unwrap();
    assert!(
        read.watch().alarm().is_some(),
        "a restart does not silence it"
    );
    learnt.acknowledge();
    assert_eq!((learnt.watch().alarm(), learnt.watch().seen()), (None, 0));
}

#[test]
fn a_verdict_without_numbers_says_nothing() {
    let mut learnt = Learnt::new(base());
    for _ in 0..200 {
        learnt.verdict(verdict(f64::NAN, false, 1), Wall(0));
    }
    assert_eq!((learnt.held(), learnt.watch().seen()), (0, 0));
}

#[test]
fn it_comes_back_from_its_bytes_as_it_was_and_nothing_else_does() {
    let mut weights = [0.0; TERMS];
    weights[1] = 1.5;
    let mut learnt = Learnt::new(base().over(Blend::new(weights)));
    give(&mut learnt, 130, 0.7, 2);
    learnt.undo(Wall(9));
    give(&mut learnt, 70, 0.6, 3);
    let bytes = learnt.bytes();
    assert_eq!(Learnt::read(&bytes).unwrap(), learnt);
    assert_eq!(Learnt::read(&[]), Err(FormError::Version));
    let mut later = bytes.clone();
    later[0] += 1;
    assert_eq!(Learnt::read(&later), Err(FormError::Version));
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Learnt::read(&longer), Err(FormError::Content));
    assert_eq!(
        Learnt::read(&bytes[..bytes.len() - 1]),
        Err(FormError::Content)
    );
    // A curve that falls is none, whoever stored it.
    let mut falling = Learnt::new(base());
    falling.current = Calibration::new(vec![(0.0, 0.0), (1.0, 1.0)]).unwrap();
    let bytes = falling.bytes();
    let one = 1.0_f64.to_le_bytes();
    let at = bytes.windows(8).rposition(|it| it == one).unwrap();
    let mut broken = bytes.clone();
    broken[at..at + 8].copy_from_slice(&(-1.0_f64).to_le_bytes());
    assert_eq!(Learnt::read(&broken), Err(FormError::Content));
}

proptest! {
    #[test]
    fn whatever_reviewers_say_the_curve_rises_and_keeps_within_its_bounds(
        said in proptest::collection::vec((0.0f64..=1.0, any::<bool>(), 0u64..6), 0..400),
        undo_each in 60usize..200,
    ) {
        let mut learnt = Learnt::new(base());
        for (at, (raw, right, reviewer)) in said.into_iter().enumerate() {
            let before = learnt.curve().clone();
            learnt.verdict(verdict(raw, right, reviewer), Wall(0));
            for percent in 0..=100_u8 {
                let x = f64::from(percent) / 100.0;
                let now = learnt.curve().probability(x);
                prop_assert!((now - before.probability(x)).abs() <= MOST_STEP + 1e-9);
                prop_assert!((now - base().probability(x)).abs() <= MOST_SHIFT + 1e-9);
            }
            if at % undo_each == undo_each - 1 {
                learnt.undo(Wall(0));
            }
        }
        prop_assert_eq!(Learnt::read(&learnt.bytes()), Ok(learnt));
    }
}
