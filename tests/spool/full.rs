//! A disk that is really full: a small file system in memory.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use lineside::spool::sled::{SledDisk, SledSettings};
use lineside::spool::{Spool, Tree, Verdict};

use super::support::TempDir;
use super::support::mount::{Mount, skip};
use super::{ack, append, caps};

const DISK_BYTES: u64 = 24 << 20;
const BALLAST_BYTES: u64 = 4 << 20;
const BODY_BYTES: usize = 10_000;

fn small_disk(place: &TempDir, test: &str) -> Option<Mount> {
    Mount::tmpfs(&place.path().join("disk"), DISK_BYTES)
        .map_err(|why| skip(test, &format!("cannot mount a tmpfs here ({why})")))
        .ok()
}

fn start(disk: &Mount) -> Spool<SledDisk> {
    let settings = SledSettings {
        dir: disk.path().join("spool"),
        ballast_bytes: BALLAST_BYTES,
    };
    let opened = SledDisk::open(settings).unwrap();
    assert_eq!(opened.set_aside, None);
    Spool::open(opened.disk, caps(1 << 40)).unwrap()
}

fn body(seq: u64) -> Vec<u8> {
    vec![(seq % 251) as u8; BODY_BYTES]
}

fn one(spool: &mut Spool<SledDisk>, seq: u64) -> Verdict {
    spool
        .commit(vec![vec![append(Tree::Inbox, seq, &body(seq))]])
        .remove(0)
}

/// Appends until the disk is full; the numbers that were acknowledged.
fn fill(spool: &mut Spool<SledDisk>, from: u64) -> Vec<u64> {
    (from..from + 10_000)
        .take_while(|seq| one(spool, *seq) == Verdict::Committed)
        .collect()
}

fn assert_holds(spool: &Spool<SledDisk>, expected: &[u64]) {
    let found = spool.look(Tree::Inbox, 0, u64::MAX, usize::MAX).unwrap();
    for seq in expected {
        let at = found.binary_search_by_key(seq, |(seq, _)| *seq);
        assert!(
            at.is_ok_and(|at| found[at].1 == body(*seq)),
            "acknowledged record {seq}"
        );
    }
}

/// Takes what is left of the disk.
fn hog(at: &Path) -> std::path::PathBuf {
    let path = at.join("hog");
    let mut file = File::create(&path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    path
}

#[test]
fn a_disk_filled_by_the_spool_itself_loses_nothing_and_removals_make_room_again() {
    let place = TempDir::new("full");
    let test = "a_disk_filled_by_the_spool_itself_loses_nothing_and_removals_make_room_again";
    let Some(disk) = small_disk(&place, test) else {
        return;
    };
    let ballast = disk.path().join("spool.ballast");
    let mut spool = start(&disk);
    assert!(ballast.exists());
    let acknowledged = fill(&mut spool, 1);
    assert!(acknowledged.len() > 100);
    assert!(acknowledged.len() < 10_000, "the disk was never full");

    spool.repair().unwrap();
    assert!(!ballast.exists(), "the ballast was given up");
    assert_holds(&spool, &acknowledged);
    let (gone, kept) = acknowledged.split_at(acknowledged.len() - 20);
    for group in gone.chunks(16) {
        let removals = group
            .iter()
            .map(|seq| vec![ack(Tree::Inbox, *seq)])
            .collect();
        let verdicts = spool.commit(removals);
        assert!(
            verdicts
                .iter()
                .all(|verdict| *verdict == Verdict::Committed),
            "{verdicts:?}"
        );
    }
    let more: Vec<u64> = (20_000..20_060).collect();
    for seq in &more {
        assert_eq!(one(&mut spool, *seq), Verdict::Committed, "room again");
    }
    drop(spool);
    let spool = start(&disk);
    assert_holds(&spool, kept);
    assert_holds(&spool, &more);
}

#[test]
fn a_full_disk_does_not_keep_the_spool_from_starting() {
    let place = TempDir::new("restarted");
    let test = "a_full_disk_does_not_keep_the_spool_from_starting";
    let Some(disk) = small_disk(&place, test) else {
        return;
    };
    let mut spool = start(&disk);
    let acknowledged = fill(&mut spool, 1);
    hog(disk.path());
    drop(spool);
    let mut spool = start(&disk);
    assert!(
        !disk.path().join("spool.ballast").exists(),
        "the ballast was given up"
    );
    assert_holds(&spool, &acknowledged);
    let removal = vec![vec![ack(Tree::Inbox, acknowledged[0])]];
    assert_eq!(spool.commit(removal), [Verdict::Committed]);
}

#[test]
fn a_disk_filled_by_others_fails_commits_until_there_is_room_and_then_goes_on() {
    let place = TempDir::new("hogged");
    let test = "a_disk_filled_by_others_fails_commits_until_there_is_room_and_then_goes_on";
    let Some(disk) = small_disk(&place, test) else {
        return;
    };
    let mut spool = start(&disk);
    let mut acknowledged: Vec<u64> = (1..=50)
        .take_while(|seq| one(&mut spool, *seq) == Verdict::Committed)
        .collect();
    let hogged = hog(disk.path());
    acknowledged.extend(fill(&mut spool, 100));
    assert_eq!(
        one(&mut spool, 20_000),
        Verdict::Failed,
        "and stays so until repaired"
    );
    // The ballast goes to the spool, and the others take that as well.
    while spool.repair().is_ok() {
        let more = fill(&mut spool, 30_000);
        if more.is_empty() {
            break;
        }
        acknowledged.extend(more);
    }
    fs::remove_file(hogged).unwrap();
    spool.repair().unwrap();
    assert_holds(&spool, &acknowledged);
    assert_eq!(one(&mut spool, 40_000), Verdict::Committed);
    assert!(
        disk.path().join("spool.ballast").exists(),
        "taken back when there was plenty"
    );
    drop(spool);
    let spool = start(&disk);
    acknowledged.push(40_000);
    assert_holds(&spool, &acknowledged);
}
