//! The desk against a list that is searched from end to end, and what the words promise.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::review::tests::request;

const START: Wall = Wall(1_000_000_000);

fn at(seconds: u64) -> Now {
    let since = Duration::from_secs(seconds);
    Now {
        mono: Mono(since),
        wall: START.after(since),
    }
}

fn head(no: u64, priority: Priority, accepted_s: u64) -> Head {
    Head {
        no: TicketNo(no),
        id: ItemId::of(&request("press7", &no.to_string(), "hums")),
        request: no.to_string(),
        client: "press7".into(),
        task: None,
        priority,
        classification: Classification::Public,
        accepted: START.after(Duration::from_secs(accepted_s)),
        expires: START.after(Duration::from_hours(24)),
        elsewhere: Elsewhere::Allowed,
    }
}

fn anna() -> Reviewer {
    Reviewer::named("anna").unwrap()
}

fn ben() -> Reviewer {
    Reviewer::named("ben").unwrap()
}

fn numbers(page: &Page) -> Vec<u64> {
    page.items.iter().map(|seen| seen.head.no.0).collect()
}

#[test]
fn the_most_urgent_comes_first_and_within_one_priority_the_oldest() {
    let mut desk = Desk::default();
    desk.put(head(1, Priority::Low, 0));
    desk.put(head(2, Priority::Normal, 8));
    desk.put(head(3, Priority::High, 9));
    desk.put(head(4, Priority::Normal, 2));
    let page = desk.list(From::Here, None, MAX_PAGE, at(9));
    assert_eq!(numbers(&page), [3, 4, 2, 1]);
    assert_eq!((page.total, page.next), (4, None));
}

#[test]
fn pages_join_into_the_list_though_items_come_and_go_between_them() {
    let mut desk = Desk::default();
    for no in 0..10 {
        desk.put(head(no, Priority::Normal, no));
    }
    let first = desk.list(From::Here, None, 4, at(20));
    let again: Cursor = first.next.unwrap().to_string().parse().unwrap();
    assert_eq!(Some(again), first.next);
    desk.remove(TicketNo(3)); // the one that the cursor stands on
    desk.put(head(11, Priority::High, 19));
    let second = desk.list(From::Here, first.next, 4, at(20));
    assert_eq!(numbers(&second), [4, 5, 6, 7]);
    let third = desk.list(From::Here, second.next, 4, at(20));
    assert_eq!(numbers(&third), [8, 9]);
    assert_eq!(third.next, None);
}

#[test]
fn a_place_that_is_none_is_refused() {
    for bad in ["", "1", "1-2", "3-1-1", "1-x-1", "1-1-1-1", "-1-1-1"] {
        assert_eq!(bad.parse::<Cursor>(), Err(Refusal::BadCursor), "{bad}");
    }
}

#[test]
fn who_has_taken_an_item_has_it_alone_until_the_lease_ends() {
    let mut desk = Desk::default();
    let no = TicketNo(1);
    desk.put(head(1, Priority::Normal, 0));
    let until = desk.take(no, &anna(), at(5)).unwrap();
    assert_eq!(until, at(5).wall.after(LEASE));
    let held = Err(Refusal::Held {
        by: "anna".into(),
        until,
    });
    let almost = LEASE.saturating_sub(Duration::from_millis(1));
    let before = Now {
        mono: Mono(Duration::from_secs(5) + almost),
        wall: at(5).wall.after(almost),
    };
    for now in [at(5), before] {
        assert_eq!(desk.take(no, &ben(), now).map(|_| ()), held);
        assert_eq!(desk.may_rule(no, &ben(), now), held);
        assert_eq!(desk.give_back(no, &ben(), now), held);
        assert_eq!(desk.may_rule(no, &anna(), now), Ok(()));
    }
    let after = at(5 + LEASE.as_secs());
    assert_eq!(desk.give_back(no, &anna(), after), Err(Refusal::NotHeld));
    assert!(desk.take(no, &ben(), after).is_ok());
    assert_eq!(
        desk.verdict(no, &anna(), after).unwrap_err().code(),
        "held",
        "the lease ended, and another began"
    );
}

#[test]
fn an_item_that_was_given_back_is_anybody_s() {
    let mut desk = Desk::default();
    let no = TicketNo(1);
    desk.put(head(1, Priority::Normal, 0));
    assert_eq!(desk.give_back(no, &anna(), at(0)), Err(Refusal::NotHeld));
    desk.take(no, &anna(), at(0)).unwrap();
    desk.give_back(no, &anna(), at(1)).unwrap();
    assert!(desk.verdict(no, &ben(), at(2)).is_ok());
    assert_eq!(
        desk.verdict(no, &ben(), at(2)).unwrap_err(),
        Refusal::Unknown
    );
}

#[test]
fn what_persons_elsewhere_may_not_see_is_not_there_for_them() {
    let mut desk = Desk::default();
    let mut secret = head(1, Priority::Normal, 0);
    secret.elsewhere = Elsewhere::Never;
    let named = Named::from(secret.id);
    desk.put(secret);
    assert!(desk.find(&named, From::Here).is_ok());
    assert_eq!(
        desk.find(&named, From::Elsewhere).unwrap_err(),
        Refusal::Unknown
    );
    assert_eq!(desk.publish_next(), None);
    desk.publish_all_again();
    desk.publish_again(TicketNo(1));
    assert!(!desk.has_unpublished());
}

#[test]
fn an_item_is_published_once_and_once_more_after_a_reconnect() {
    let mut desk = Desk::default();
    desk.put(head(1, Priority::Normal, 0));
    desk.put(head(2, Priority::Normal, 0));
    assert_eq!(desk.publish_next(), Some(TicketNo(1)));
    assert_eq!(desk.publish_next(), Some(TicketNo(2)));
    assert_eq!(desk.publish_next(), None);
    desk.publish_all_again();
    desk.remove(TicketNo(1));
    assert_eq!(desk.publish_next(), Some(TicketNo(2)));
    assert_eq!(desk.publish_next(), None);
}

#[test]
fn digits_that_several_items_begin_with_are_too_few() {
    let mut desk = Desk::default();
    let (one, mut two) = (head(1, Priority::Normal, 0), head(2, Priority::Normal, 0));
    let mut text = one.id.to_string();
    let last = text.pop().unwrap();
    text.push(if last == '0' { '1' } else { '0' });
    two.id = text.parse::<Named>().unwrap().whole().unwrap();
    let short: Named = text[..MIN_DIGITS_OF_TEST].parse().unwrap();
    desk.put(one);
    assert_eq!(desk.find(&short, From::Here).unwrap().no, TicketNo(1));
    desk.put(two);
    assert_eq!(
        desk.find(&short, From::Here).unwrap_err(),
        Refusal::Ambiguous { count: 2 }
    );
}

const MIN_DIGITS_OF_TEST: usize = crate::review::MIN_DIGITS;

/// The same, with nothing but a list.
#[derive(Default)]
struct Model(Vec<Kept>);

struct Kept {
    head: Head,
    lease: Option<(Reviewer, Mono)>,
}

/// Who has an item.
#[derive(Debug, PartialEq)]
enum Holder {
    NoItem,
    Nobody,
    Somebody(Reviewer),
}

impl Model {
    fn at(&mut self, no: u64) -> Option<&mut Kept> {
        self.0.iter_mut().find(|it| it.head.no.0 == no)
    }

    fn holder(&mut self, no: u64, now: Now) -> Holder {
        let Some(kept) = self.at(no) else {
            return Holder::NoItem;
        };
        let lease = kept.lease.clone().filter(|(_, until)| *until > now.mono);
        lease.map_or(Holder::Nobody, |(by, _)| Holder::Somebody(by))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u64, u8),
    Take(u64, bool),
    GiveBack(u64, bool),
    Rule(u64, bool),
    Remove(u64),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let no = 0..6_u64;
    let step = prop_oneof![
        3 => (no.clone(), 0..3_u8).prop_map(|(no, priority)| Step::Put(no, priority)),
        2 => (no.clone(), any::<bool>()).prop_map(|(no, who)| Step::Take(no, who)),
        1 => (no.clone(), any::<bool>()).prop_map(|(no, who)| Step::GiveBack(no, who)),
        2 => (no.clone(), any::<bool>()).prop_map(|(no, who)| Step::Rule(no, who)),
        1 => no.prop_map(Step::Remove),
        2 => (1..900_u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..60)
}

fn code<T>(result: Result<T, Refusal>) -> &'static str {
    result.map_or_else(|refusal| refusal.code(), |_| "ok")
}

/// What an item's state makes of a wish, by the words of the module.
fn wished(holder: &Holder, by: &Reviewer, must_hold: bool) -> &'static str {
    match holder {
        Holder::NoItem => "unknown_item",
        Holder::Somebody(holder) if holder != by => "held",
        Holder::Nobody if must_hold => "not_held",
        Holder::Somebody(_) | Holder::Nobody => "ok",
    }
}

fn check(desk: &Desk, model: &mut Model, now: Now) {
    model.0.sort_by_key(|it| Cursor::of(&it.head));
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = desk.list(From::Here, after, 2, now);
        assert_eq!(page.total, model.0.len());
        after = page.next;
        listed.extend(page.items);
        if after.is_none() {
            break;
        }
    }
    let order: Vec<_> = listed.iter().map(|seen| &seen.head).collect();
    assert_eq!(order, model.0.iter().map(|it| &it.head).collect::<Vec<_>>());
    for seen in &listed {
        let shown =
            (seen.held.as_ref()).map_or(Holder::Nobody, |(by, _)| Holder::Somebody(by.clone()));
        assert_eq!(shown, model.holder(seen.head.no.0, now));
        let named = Named::from(seen.head.id);
        assert_eq!(desk.find(&named, From::Here).unwrap().no, seen.head.no);
    }
}

proptest! {
    #[test]
    fn the_desk_does_what_a_plain_list_would_do(steps in steps()) {
        let (mut desk, mut model, mut second) = (Desk::default(), Model::default(), 0);
        for step in steps {
            let now = at(second);
            let who = |first: bool| if first { anna() } else { ben() };
            match step {
                Step::Put(no, priority) => {
                    let priority = [Priority::High, Priority::Normal, Priority::Low][usize::from(priority)];
                    let head = head(no, priority, second);
                    desk.put(head.clone());
                    model.0.retain(|it| it.head.no.0 != no);
                    model.0.push(Kept { head, lease: None });
                }
                Step::Take(no, first) => {
                    let by = who(first);
                    let wanted = wished(&model.holder(no, now), &by, false);
                    prop_assert_eq!(code(desk.take(TicketNo(no), &by, now)), wanted);
                    if wanted == "ok" {
                        model.at(no).unwrap().lease = Some((by, now.mono.after(LEASE)));
                    }
                }
                Step::GiveBack(no, first) => {
                    let by = who(first);
                    let wanted = wished(&model.holder(no, now), &by, true);
                    prop_assert_eq!(code(desk.give_back(TicketNo(no), &by, now)), wanted);
                    if wanted == "ok" {
                        model.at(no).unwrap().lease = None;
                    }
                }
                Step::Rule(no, first) => {
                    let by = who(first);
                    let wanted = wished(&model.holder(no, now), &by, false);
                    prop_assert_eq!(code(desk.verdict(TicketNo(no), &by, now)), wanted);
                    if wanted == "ok" {
                        model.0.retain(|it| it.head.no.0 != no);
                    }
                }
                Step::Remove(no) => {
                    prop_assert_eq!(desk.remove(TicketNo(no)).is_some(), model.at(no).is_some());
                    model.0.retain(|it| it.head.no.0 != no);
                }
                Step::Pass(seconds) => second += seconds,
            }
            check(&desk, &mut model, at(second));
        }
    }
}
