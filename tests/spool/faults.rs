//! Damaged records and a failing disk.

use lineside::dispatch::Recovered;
use lineside::spool::{Caps, DiskError, MAX_RECORD_BYTES, Op, Room, Spool, Tree, Verdict, record};

use super::support::sim_disk::SimDisk;
use super::{ack, append, at, caps};

const PLENTY: u64 = 1 << 20;

#[test]
fn damaged_records_are_set_aside_counted_and_never_handed_out() {
    let disk = SimDisk::default();
    disk.plant(Tree::Inbox, 1, &record::seal(b"sound"));
    disk.plant(Tree::Inbox, 2, b"torn");
    for seq in 10..300 {
        disk.plant(Tree::Outbox, seq, b"torn too");
    }
    let mut spool = Spool::open(disk.clone(), caps(PLENTY)).unwrap();
    assert_eq!(spool.set_aside(), 291);
    let leased = spool.lease(Tree::Inbox, at(0), at(9), 10).unwrap();
    assert_eq!(leased, [(1, b"sound".to_vec())]);
    assert_eq!(spool.live().of(Tree::Outbox), 0);

    let aside = spool.look(Tree::Aside, 0, u64::MAX, 1000).unwrap();
    assert_eq!(aside.len(), 291);
    assert_eq!(aside[0].1, b"torn", "as it was found");
    assert_eq!(
        spool.lease(Tree::Aside, at(0), at(9), 1).unwrap()[0].1,
        b"torn"
    );
    assert_eq!(
        spool.set_aside(),
        291,
        "what lies aside is not set aside again"
    );
}

#[test]
fn a_record_damaged_while_the_spool_runs_is_met_by_the_next_lease() {
    let disk = SimDisk::default();
    let mut spool = Spool::open(disk.clone(), caps(PLENTY)).unwrap();
    let sent = (1..=100)
        .map(|seq| vec![append(Tree::Inbox, seq, b"press 7")])
        .collect();
    spool.commit(sent);
    for seq in 1..=99 {
        disk.plant(Tree::Inbox, seq, &[0; 12]);
    }
    let leased = spool.lease(Tree::Inbox, at(0), at(9), 5).unwrap();
    assert_eq!(leased, [(100, b"press 7".to_vec())]);
    assert_eq!(spool.set_aside(), 99);
}

#[test]
fn what_does_not_fit_aside_is_counted_and_let_go() {
    let disk = SimDisk::default();
    for seq in 1..=4 {
        disk.plant(Tree::Review, seq, &[0xff; 21]);
    }
    let spool = Spool::open(disk, caps(60)).unwrap();
    assert_eq!(spool.set_aside(), 4);
    assert_eq!(spool.live().of(Tree::Aside), 60);
    assert_eq!(spool.live().of(Tree::Review), 0);
}

#[test]
fn a_sound_record_that_its_reader_does_not_know_is_set_aside_and_not_lost() {
    let disk = SimDisk::default();
    let unknown = record::seal(b"of a later version");
    for tree in [Tree::Inbox, Tree::Cloud, Tree::Review, Tree::Outcomes] {
        disk.plant(tree, 7, &unknown);
    }
    let mut spool = Spool::open(disk.clone(), caps(PLENTY)).unwrap();
    assert_eq!(spool.set_aside(), 0);
    Recovered::read(&mut spool).unwrap();
    assert_eq!(spool.set_aside(), 4);
    let aside = spool.look(Tree::Aside, 0, u64::MAX, 9).unwrap();
    assert_eq!(aside.len(), 4);
    assert!(aside.iter().all(|(_, value)| *value == unknown));
    disk.cut_power();
    assert!(spool.look(Tree::Inbox, 0, u64::MAX, 9).unwrap().is_empty());
}

#[test]
fn a_record_that_no_disk_takes_is_refused_alone_and_the_others_of_its_group_are_written() {
    let disk = SimDisk::default();
    let mut spool = Spool::open(disk.clone(), caps(1 << 30)).unwrap();
    let finishes = Op::Append {
        tree: Tree::Outcomes,
        seq: 1,
        record: vec![0; MAX_RECORD_BYTES + 1],
        room: Room::Always,
        leased_until: None,
    };
    let group = vec![
        vec![append(Tree::Inbox, 1, b"one")],
        vec![finishes, ack(Tree::Inbox, 1)],
        vec![append(Tree::Inbox, 2, b"two")],
    ];
    let verdicts = [
        Verdict::Committed,
        Verdict::Full(Tree::Outcomes),
        Verdict::Committed,
    ];
    assert_eq!(spool.commit(group), verdicts);
    assert_eq!(spool.look(Tree::Inbox, 0, 9, 9).unwrap().len(), 2);
}

#[test]
fn after_a_failed_write_or_sync_the_whole_group_fails_and_can_be_sent_again() {
    for fail_the_sync in [false, true] {
        let disk = SimDisk::default();
        let mut spool = Spool::open(disk.clone(), caps(100)).unwrap();
        let group = || {
            vec![
                vec![append(Tree::Inbox, 1, b"one")],
                vec![append(Tree::Inbox, 2, &[0; 200])],
                vec![append(Tree::Outbox, 1, b"two"), ack(Tree::Inbox, 1)],
            ]
        };
        if fail_the_sync {
            disk.state().failing_syncs = 1;
        } else {
            disk.state().failing_writes = 1;
        }
        let verdicts = spool.commit(group());
        assert_eq!(
            verdicts,
            [Verdict::Failed, Verdict::Full(Tree::Inbox), Verdict::Failed]
        );
        spool.repair().unwrap();

        let verdicts = spool.commit(group());
        assert_eq!(
            verdicts,
            [
                Verdict::Committed,
                Verdict::Full(Tree::Inbox),
                Verdict::Committed
            ]
        );
        disk.cut_power();
        let spool = Spool::open(disk, caps(100)).unwrap();
        assert_eq!(spool.look(Tree::Inbox, 0, 9, 9).unwrap(), []);
        assert_eq!(
            spool.look(Tree::Outbox, 0, 9, 9).unwrap(),
            [(1, b"two".to_vec())]
        );
    }
}

#[test]
fn a_record_sent_again_is_not_refused_by_a_tree_that_it_fills_itself() {
    let disk = SimDisk::default();
    let mut spool = Spool::open(disk.clone(), caps(100)).unwrap();
    disk.state().failing_syncs = 1;
    let send = || vec![vec![append(Tree::Inbox, 1, &[7; 80])]];
    assert_eq!(spool.commit(send()), [Verdict::Failed]);
    spool.repair().unwrap();
    assert_eq!(spool.commit(send()), [Verdict::Committed]);
    let other = vec![vec![append(Tree::Inbox, 2, &[7; 80])]];
    assert_eq!(spool.commit(other), [Verdict::Full(Tree::Inbox)]);
}

#[test]
fn a_failed_read_while_weighing_fails_the_group_and_nothing_is_remembered_of_it() {
    let disk = SimDisk::default();
    let mut spool = Spool::open(disk.clone(), caps(PLENTY)).unwrap();
    spool.commit(vec![vec![append(Tree::Inbox, 1, b"one")]]);
    let live = spool.live();
    disk.state().failing_reads = 1;
    let group = vec![
        vec![append(Tree::Inbox, 2, b"two")],
        vec![ack(Tree::Inbox, 1)],
        vec![append(Tree::Inbox, 3, b"three")],
    ];
    assert_eq!(spool.commit(group), vec![Verdict::Failed; 3]);
    assert_eq!(spool.live(), live);
}

#[test]
fn a_disk_short_of_headroom_refuses_what_may_be_refused_and_takes_removals() {
    let disk = SimDisk::default();
    let limits = Caps {
        headroom_bytes: 1000,
        ..caps(PLENTY)
    };
    let mut spool = Spool::open(disk.clone(), limits).unwrap();
    assert_eq!(
        spool.commit(vec![vec![append(Tree::Inbox, 1, b"one")]]),
        [Verdict::Committed]
    );
    disk.state().free_bytes = 999;
    let group = vec![
        vec![append(Tree::Inbox, 2, b"two")],
        vec![ack(Tree::Inbox, 1)],
    ];
    assert_eq!(
        spool.commit(group),
        [Verdict::Full(Tree::Inbox), Verdict::Committed]
    );
}

#[test]
fn the_words_of_a_disk_error_say_what_happened() {
    assert_eq!(DiskError::Full.to_string(), "the disk is full");
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    assert_eq!(DiskError::from(full), DiskError::Full);
}
