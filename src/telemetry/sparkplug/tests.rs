use std::time::Duration;

use super::*;
use crate::broker::Session;

const UP: Event = Event::Up(Session::Fresh);

fn at(ms: u64) -> Now {
    Now {
        mono: Mono(Duration::from_millis(ms)),
        wall: Wall(1_795_000_000_000 + ms),
    }
}

fn plan(primary_host: Option<&str>) -> Plan {
    Plan {
        group: "plant".into(),
        node: "line-3".into(),
        primary_host: primary_host.map(Into::into),
        pause: Duration::from_millis(250),
    }
}

fn look(ms: u64, values: &[(&str, i64)]) -> Look {
    let values = values
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Value::Whole(*value)));
    Look {
        at: at(ms).wall,
        values: values.collect(),
    }
}

fn down() -> Event {
    Event::Down { why: "gone".into() }
}

fn message(topic: &str, payload: &[u8]) -> Event {
    Event::Message(Message {
        topic: topic.into(),
        payload: payload.to_vec(),
        ..Message::default()
    })
}

fn host(online: bool, timestamp: u64) -> Event {
    let json = format!("{{\"online\":{online},\"timestamp\":{timestamp}}}");
    message("spBv1.0/STATE/scada", json.as_bytes())
}

fn rebirth() -> Event {
    let yes = Value::Truth(true);
    let metric = named(Called::Name(REBIRTH), Wall(1), &yes);
    message(
        "spBv1.0/plant/NCMD/line-3",
        &payload(Wall(1), None, [metric]),
    )
}

/// The kinds of messages that were said, with the `seq` that ends each.
fn said(node: &mut Node) -> Vec<(String, u8)> {
    let commands = node.take_effects().into_iter();
    let said = commands.map(|command| match command {
        Command::Publish(parcel) => {
            let kind = parcel.topic.split('/').nth(2).unwrap().to_owned();
            let seq = match parcel.payload.as_slice() {
                [.., 0x18, seq] => *seq,
                [.., low, _] => *low,
                short => panic!("{short:?}"),
            };
            (kind, seq)
        }
        Command::Close => ("close".into(), 0),
        Command::Acknowledge(_) => ("ack".into(), 0),
    });
    said.collect()
}

fn kinds(node: &mut Node) -> Vec<String> {
    said(node).into_iter().map(|(kind, _)| kind).collect()
}

/// A node that was born at 0.
fn born() -> Node {
    let mut node = Node::new(plan(None), None);
    node.on_connecting(at(0));
    node.on_look(look(0, &[("a", 1), ("b", 1)]), at(0));
    node.on_broker(&UP, at(0));
    assert_eq!(said(&mut node), [("NBIRTH".into(), 0)]);
    node
}

#[test]
fn nothing_is_said_before_there_is_something_to_say() {
    let mut node = Node::new(plan(None), None);
    node.on_connecting(at(0));
    node.on_broker(&UP, at(0));
    assert!(said(&mut node).is_empty());
    node.on_look(look(1, &[("a", 1)]), at(1));
    assert_eq!(said(&mut node), [("NBIRTH".into(), 0)]);
    assert_eq!(node.deadline(), None, "the birth told it already");
}

#[test]
fn a_change_is_told_and_the_sequence_goes_round() {
    let mut node = born();
    node.on_look(look(10, &[("a", 1), ("b", 1)]), at(10));
    assert!(said(&mut node).is_empty(), "nothing has changed");
    for turn in 1..600_u64 {
        let value = i64::try_from(turn).unwrap() + 1;
        node.on_look(look(10 + turn, &[("a", 1), ("b", value)]), at(10 + turn));
        let seq = u8::try_from(turn % 256).unwrap();
        assert_eq!(said(&mut node), [("NDATA".into(), seq)]);
    }
}

#[test]
fn only_what_has_changed_is_told_and_by_number() {
    let mut node = born();
    node.on_look(look(10, &[("a", 1), ("b", 7)]), at(10));
    let commands = node.take_effects();
    let Command::Publish(parcel) = &commands[0] else {
        panic!("{commands:?}");
    };
    let value = Value::Whole(7);
    let metric = Metric {
        called: Called::Alias(1),
        ..named(Called::Name(""), at(10).wall, &value)
    };
    assert_eq!(parcel.payload, payload(at(10).wall, Some(1), [metric]));
    // A metric without a value is told as that.
    node.on_look(look(20, &[("a", 1)]), at(20));
    assert_eq!(said(&mut node), [("NDATA".into(), 2)]);
}

#[test]
fn a_metric_that_is_new_asks_for_a_birth() {
    let mut node = born();
    node.on_look(look(5000, &[("a", 1), ("b", 1), ("c", 1)]), at(5000));
    assert_eq!(said(&mut node), [("NBIRTH".into(), 0)]);
    node.on_look(look(5001, &[("a", 2), ("b", 1), ("c", 1)]), at(5001));
    assert_eq!(said(&mut node), [("NDATA".into(), 1)]);
}

#[test]
fn births_that_are_asked_for_without_end_are_a_second_apart() {
    let mut node = born();
    let mut births = 0;
    for ms in 1..=10_000 {
        node.on_broker(&rebirth(), at(ms));
        births += kinds(&mut node).iter().filter(|it| *it == "NBIRTH").count();
    }
    assert_eq!(births, 10);
    // In between, what changes is not told under the old birth, and not lost.
    node.on_broker(&rebirth(), at(10_001));
    node.on_look(look(10_002, &[("a", 2), ("b", 1)]), at(10_002));
    assert!(said(&mut node).is_empty());
    assert_eq!(node.deadline(), Some(at(11_000).mono));
    node.on_timeout(at(11_000));
    assert_eq!(said(&mut node), [("NBIRTH".into(), 0)]);
}

#[test]
fn each_connection_has_the_next_number_over_restarts_too() {
    let mut node = Node::new(plan(None), None);
    let first = node.on_connecting(at(0));
    assert_eq!(
        (node.bd_seq(), first.topic.as_str()),
        (0, "spBv1.0/plant/NDEATH/line-3")
    );
    node.on_connecting(at(1));
    assert_eq!(node.bd_seq(), 1);
    let mut node = Node::new(plan(None), Some(255));
    let will = node.on_connecting(at(0));
    assert_eq!(node.bd_seq(), 0);
    assert_eq!(will.payload, node.death(at(0).wall));
    assert_eq!(will.retain, Retain::No);
}

#[test]
fn what_nobody_heard_is_told_afterwards_as_history_and_at_a_pace() {
    let mut node = born();
    node.on_broker(&down(), at(10));
    for turn in 1..=600_i64 {
        let ms = 1000 + turn.unsigned_abs() * 10;
        node.on_look(look(ms, &[("a", turn), ("b", 1)]), at(ms));
    }
    assert!(said(&mut node).is_empty());
    assert_eq!(
        node.tally().held,
        599,
        "the first look was as the last that was told"
    );
    node.on_connecting(at(9000));
    node.on_broker(&UP, at(9000));
    // The last look is the birth's own.
    assert_eq!(said(&mut node), [("NBIRTH".into(), 0), ("NDATA".into(), 1)]);
    node.on_timeout(at(9900));
    assert!(said(&mut node).is_empty(), "one at a time");
    node.on_broker(&Event::Delivered(REPLAY), at(9950));
    assert_eq!(said(&mut node), [("NDATA".into(), 2)]);
    // The line breaks: what was under way goes back to its place.
    let held = node.tally().held;
    node.on_broker(&down(), at(9960));
    assert_eq!((held, node.tally().held), (342, 342));
    node.on_connecting(at(20_000));
    node.on_broker(&UP, at(20_000));
    for ms in [20_000, 20_250, 20_500] {
        node.on_broker(&Event::Delivered(REPLAY), at(ms));
    }
    let kinds = kinds(&mut node);
    assert_eq!(kinds, ["NBIRTH", "NDATA", "NDATA"]);
    assert_eq!((node.tally().held, node.deadline()), (0, None));
    assert_eq!(node.tally().dropped, 0);
}

#[test]
fn what_is_held_has_a_limit_and_the_oldest_gives_way() {
    let mut node = born();
    node.on_broker(&down(), at(10));
    let more = 10;
    for turn in 2..=MAX_HELD as u64 + more + 1 {
        let value = i64::try_from(turn).unwrap();
        node.on_look(look(turn, &[("a", value), ("b", 1)]), at(turn));
    }
    let tally = node.tally();
    assert_eq!((tally.held, tally.dropped), (MAX_HELD, more));
    assert_eq!(
        node.held[0].value,
        Some(Value::Whole(more.cast_signed() + 2))
    );
}

#[test]
fn without_its_primary_host_nothing_is_said() {
    let mut node = Node::new(plan(Some("scada")), None);
    node.on_connecting(at(0));
    node.on_look(look(0, &[("a", 1)]), at(0));
    node.on_broker(&UP, at(0));
    node.on_broker(&host(false, 5), at(1));
    assert!(said(&mut node).is_empty());
    node.on_broker(&host(true, 6), at(2));
    assert_eq!(said(&mut node), [("NBIRTH".into(), 0)]);
    node.on_broker(&host(false, 4), at(3));
    assert!(said(&mut node).is_empty(), "older than what is known");
    node.on_broker(&host(false, 6), at(4));
    assert_eq!(kinds(&mut node), ["NDEATH", "close"]);
    node.on_look(look(5, &[("a", 2)]), at(5));
    // The next connection waits for the host again.
    node.on_connecting(at(3000));
    node.on_broker(&UP, at(3000));
    assert!(said(&mut node).is_empty());
    node.on_look(look(3001, &[("a", 3)]), at(3001));
    node.on_broker(&host(true, 9), at(3002));
    assert_eq!(kinds(&mut node), ["NBIRTH", "NDATA"]);
}

#[test]
fn a_state_that_is_no_json_changes_nothing() {
    let mut node = Node::new(plan(Some("scada")), None);
    node.on_connecting(at(0));
    node.on_look(look(0, &[("a", 1)]), at(0));
    node.on_broker(&UP, at(0));
    for bytes in [&b"ONLINE"[..], b"", b"{\"online\":1}", b"\xFF"] {
        node.on_broker(&message("spBv1.0/STATE/scada", bytes), at(1));
    }
    assert!(said(&mut node).is_empty());
}

#[test]
fn an_orderly_end_says_its_death_itself() {
    let mut node = born();
    node.on_close(at(10));
    assert_eq!(kinds(&mut node), ["NDEATH", "close"]);
    node.on_close(at(11));
    assert!(kinds(&mut node).is_empty());
}
