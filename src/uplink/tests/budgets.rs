//! What calls may cost.

use super::*;

#[test]
fn a_budget_that_is_used_up_has_a_refusal_of_its_own() {
    let mut world = World::new(vec![with_tokens("a", worst() + 10)]);
    world.send(1, &["a"]);
    world.send(2, &["a"]);
    assert_eq!(
        world.calls.len(),
        1,
        "the second waits for what the first really costs"
    );
    world.end(answer());
    let after = Duration::from_hours(1);
    assert_eq!(world.ended[1], (2, Err(Fault::Budget { after })));
    assert_eq!(world.slots(), 4, "a smaller question may still fit");
    world.pass(after);
    world.send(3, &["a"]);
    assert_eq!(world.calls.len(), 1, "a new hour, a new budget");
}

#[test]
fn a_clock_that_is_set_brings_the_next_budget_at_once() {
    let mut spent = upstream("a");
    spent.budget.hour.requests = Some(1);
    let mut world = World::new(vec![spent]);
    world.send(1, &["a"]);
    world.end(answer());
    assert_eq!(world.slots(), 0);
    world.now.wall = world.now.wall.after(Duration::from_hours(1));
    let set = world.now.mono;
    world.wake();
    assert_eq!(world.slots(), 4);
    let waited = world.now.mono.since(set);
    assert!(waited <= Duration::from_mins(1), "{waited:?}");
}

#[test]
fn a_question_larger_than_a_budget_is_never_worth_a_try() {
    let mut world = World::new(vec![with_tokens("a", worst() - 1)]);
    world.send(1, &["a"]);
    assert_eq!(*world.last_fault(), Fault::TooDear);
    assert_eq!(world.last_fault().worth(), Worth::Never);
}

#[test]
fn the_other_upstream_pays_where_one_has_no_budget() {
    let mut none = upstream("a");
    none.budget.month.requests = Some(0);
    let mut world = World::new(vec![none, upstream("b")]);
    world.send(1, &["a", "b"]);
    assert_eq!(world.calls[0].upstream, 1);
}

#[test]
fn a_restart_goes_on_with_what_was_used() {
    let budget = || vec![with_tokens("a", 2 * worst() + worst() / 2)];
    let mut world = World::new(budget());
    world.send(1, &["a"]);
    let kept = world
        .marks
        .last()
        .expect("told before the call begins")
        .clone();
    let mut world = World::going_on(budget(), kept, NOON + 1000);
    world.send(2, &["a"]);
    assert_eq!(world.calls.len(), 1);
    world.end(fails(Fault::Misfit(Misfit::Empty)));
    world.send(3, &["a"]);
    assert!(
        matches!(world.last_fault(), Fault::Budget { .. }),
        "{:?}",
        world.ended
    );
}
