use super::*;

const ROOMY: Terms = Terms {
    window: 20,
    max_packet_bytes: 1000,
    surest: Delivery::AtLeastOnce,
    retain: Retain::Yes,
};

fn packed(id: u64, delivery: Delivery) -> Packed {
    Packed {
        parcel: Parcel {
            id: ParcelId(id),
            topic: "t".into(),
            payload: vec![],
            correlation: None,
            user_properties: vec![],
            content_type: None,
            expiry_s: None,
            delivery,
            retain: Retain::No,
        },
        packet_bytes: 10,
    }
}

fn sure(id: u64) -> Packed {
    packed(id, Delivery::AtLeastOnce)
}

/// Takes every step that may go now; returns the parcels handed over.
fn hand_over(ledger: &mut Ledger) -> Vec<u64> {
    let mut ids = Vec::new();
    while let Some(step) = ledger.next() {
        match step {
            Step::Publish(parcel) => ids.push(parcel.id.0),
            Step::Subscribe => ledger.subscribed(),
            Step::Refuse(id, why) => panic!("{id:?} refused: {why}"),
        }
    }
    ids
}

fn up(session: Session, terms: Terms) -> Ledger {
    let mut ledger = Ledger::new(true);
    ledger.connected(session, terms);
    assert!(hand_over(&mut ledger).is_empty());
    ledger
}

#[test]
fn nothing_goes_out_before_the_subscription_stands() {
    let mut ledger = Ledger::new(true);
    ledger.accept(sure(1));
    assert!(ledger.next().is_none(), "down");
    ledger.connected(Session::Fresh, ROOMY);
    assert!(matches!(ledger.next(), Some(Step::Subscribe)));
    assert!(ledger.next().is_none(), "not answered yet");
    ledger.subscribed();
    assert_eq!(hand_over(&mut ledger), [1]);
}

#[test]
fn a_parcel_ends_when_the_broker_answers_for_its_packet() {
    let mut ledger = up(Session::Fresh, ROOMY);
    ledger.accept(sure(1));
    ledger.accept(sure(2));
    hand_over(&mut ledger);
    assert_eq!(ledger.wrote(2), None); // the SUBSCRIBE had 1
    assert_eq!(ledger.wrote(3), None);
    assert_eq!(ledger.acknowledged(3), Some(ParcelId(2)));
    assert_eq!(ledger.acknowledged(3), None, "once");
    assert_eq!(ledger.acknowledged(2), Some(ParcelId(1)));
    assert!(ledger.is_idle());
}

#[test]
fn an_uncertain_parcel_is_delivered_once_it_is_written() {
    let mut ledger = up(Session::Fresh, ROOMY);
    ledger.accept(packed(1, Delivery::AtMostOnce));
    hand_over(&mut ledger);
    assert_eq!(ledger.wrote(0), Some(ParcelId(1)));
}

#[test]
fn a_resumed_session_sends_again_in_order_under_the_old_ids() {
    let mut ledger = up(Session::Fresh, ROOMY);
    (1..=3).for_each(|id| ledger.accept(sure(id)));
    hand_over(&mut ledger);
    ledger.wrote(2);
    ledger.wrote(3); // parcel 3 was not written
    for _ in 0..2 {
        // also if the second connection breaks before anything was written
        ledger.lost();
        let again: Vec<_> = ledger
            .connected(Session::Resumed, ROOMY)
            .iter()
            .map(|a| (a.packet, a.parcel.id.0))
            .collect();
        assert_eq!(again, [(2, 1), (3, 2)]);
    }
    assert!(ledger.next().is_none(), "no SUBSCRIBE while ids are in use");
    ledger.wrote(2);
    ledger.wrote(3);
    assert_eq!(ledger.acknowledged(2), Some(ParcelId(1)));
    assert_eq!(ledger.acknowledged(3), Some(ParcelId(2)));
    assert_eq!(hand_over(&mut ledger), [3]);
}

#[test]
fn a_lost_session_sends_everything_anew_in_order() {
    let mut ledger = up(Session::Fresh, ROOMY);
    (1..=4).for_each(|id| ledger.accept(sure(id)));
    hand_over(&mut ledger);
    ledger.wrote(2);
    ledger.wrote(3);
    ledger.lost();
    assert!(ledger.connected(Session::Fresh, ROOMY).is_empty());
    assert_eq!(hand_over(&mut ledger), [1, 2, 3, 4]);
}

#[test]
fn the_window_keeps_one_place_free() {
    let window = 4;
    let mut ledger = up(Session::Fresh, Terms { window, ..ROOMY });
    (1..=9).for_each(|id| ledger.accept(sure(id)));
    assert_eq!(hand_over(&mut ledger), [1, 2, 3]);
    for packet in [2, 3, 4] {
        ledger.wrote(packet);
    }
    ledger.acknowledged(2);
    assert_eq!(hand_over(&mut ledger), [4]);
}

#[test]
fn an_id_that_is_still_in_use_is_never_given_out() {
    let window = 4;
    let mut ledger = up(Session::Fresh, Terms { window, ..ROOMY });
    (1..=9).for_each(|id| ledger.accept(sure(id)));
    hand_over(&mut ledger);
    for packet in [2, 3, 4] {
        ledger.wrote(packet);
    }
    ledger.acknowledged(3);
    ledger.acknowledged(4);
    // 1 is free; 2 is not, although the window has room.
    assert_eq!(hand_over(&mut ledger), [4]);
    ledger.wrote(1);
    ledger.acknowledged(2);
    assert_eq!(hand_over(&mut ledger), [5, 6]);
}

#[test]
fn a_window_of_one_still_moves() {
    let window = 1;
    let mut ledger = up(Session::Fresh, Terms { window, ..ROOMY });
    (1..=3).for_each(|id| ledger.accept(sure(id)));
    for id in 1..=3 {
        assert_eq!(hand_over(&mut ledger), [id]);
        ledger.wrote(1);
        assert_eq!(ledger.acknowledged(1), Some(ParcelId(id)));
    }
}

#[test]
fn what_the_broker_never_takes_is_refused_and_the_next_goes_out() {
    let mut ledger = up(
        Session::Fresh,
        Terms {
            retain: Retain::No,
            ..ROOMY
        },
    );
    let mut large = sure(1);
    large.packet_bytes = 1001;
    let mut kept = sure(2);
    kept.parcel.retain = Retain::Yes;
    let mut wild = sure(3);
    wild.parcel.topic = "a/#".into();
    for packed in [large, kept, wild] {
        let id = packed.parcel.id;
        ledger.accept(packed);
        assert!(matches!(ledger.next(), Some(Step::Refuse(refused, _)) if refused == id));
    }
    ledger.accept(sure(4));
    assert_eq!(hand_over(&mut ledger), [4]);
}

#[test]
fn a_parcel_that_a_restarted_broker_finds_too_large_is_not_sent_again() {
    let mut ledger = up(Session::Fresh, ROOMY);
    ledger.accept(sure(1));
    hand_over(&mut ledger);
    ledger.wrote(2);
    ledger.lost();
    let max_packet_bytes = 5;
    let terms = Terms {
        max_packet_bytes,
        ..ROOMY
    };
    assert!(ledger.connected(Session::Resumed, terms).is_empty());
    assert!(matches!(ledger.next(), Some(Step::Subscribe)));
    ledger.subscribed();
    assert!(matches!(ledger.next(), Some(Step::Refuse(ParcelId(1), _))));
}

/// Connects anew, sends again what there is, and loses the connection after these answers.
fn flap(ledger: &mut Ledger, answered: &[u16]) -> Option<ParcelId> {
    for again in ledger.connected(Session::Resumed, ROOMY) {
        ledger.wrote(again.packet);
    }
    for packet in answered {
        ledger.acknowledged(*packet);
    }
    ledger.lost()
}

#[test]
fn a_parcel_on_which_the_broker_hangs_up_each_time_is_given_up_and_those_behind_it_are_not() {
    let mut ledger = up(Session::Fresh, ROOMY);
    for id in 1..=3 {
        ledger.accept(sure(id));
    }
    hand_over(&mut ledger);
    for packet in 2..=4 {
        ledger.wrote(packet);
    }
    ledger.acknowledged(2);
    assert_eq!(ledger.lost(), None);
    for _ in 2..MAX_HANG_UPS {
        assert_eq!(flap(&mut ledger, &[]), None);
    }
    assert_eq!(flap(&mut ledger, &[]), Some(ParcelId(2)));
    assert_eq!(flap(&mut ledger, &[]), None, "the third has its own count");
    assert_eq!(flap(&mut ledger, &[4]), None);
    assert!(ledger.is_idle());
}

#[test]
fn a_line_that_is_lost_before_anything_was_written_blames_nothing() {
    let mut ledger = up(Session::Fresh, ROOMY);
    ledger.accept(sure(1));
    hand_over(&mut ledger);
    ledger.wrote(2);
    for _ in 0..2 * MAX_HANG_UPS {
        ledger.connected(Session::Resumed, ROOMY);
        assert_eq!(ledger.lost(), None);
    }
    assert!(!ledger.is_idle());
}

#[test]
fn a_token_counts_once_and_only_on_its_own_connection() {
    let mut ledger = up(Session::Fresh, ROOMY);
    let token = ledger.received(5);
    assert_eq!(ledger.redeem(token), Some(5));
    assert_eq!(ledger.redeem(token), None, "used");
    let stale = ledger.received(6);
    ledger.lost();
    assert_eq!(ledger.redeem(stale), None, "down");
    ledger.connected(Session::Resumed, ROOMY);
    let fresh = ledger.received(6);
    assert_eq!(ledger.redeem(stale), None, "of the connection before");
    assert_eq!(ledger.redeem(fresh), Some(6));
}

#[test]
fn there_is_no_room_beyond_the_limits() {
    let mut ledger = Ledger::new(true);
    let mut heavy = sure(0);
    heavy.packet_bytes = MAX_WAITING_BYTES;
    ledger.accept(heavy);
    assert!(!ledger.has_room());
    let mut ledger = Ledger::new(true);
    for id in 0..MAX_WAITING {
        assert!(ledger.has_room());
        ledger.accept(sure(id as u64));
    }
    assert!(!ledger.has_room());
}
