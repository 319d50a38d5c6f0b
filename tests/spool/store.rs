//! The real store: long values, locks, torn files.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use lineside::spool::sled::{SledDisk, SledSettings};
use lineside::spool::{Disk, DiskError, Scan, Spool, Tree, Verdict, Write};

use super::support::TempDir;
use super::{ack, append, at, caps};

const NO_CAP: u64 = 1 << 40;

fn settings(place: &TempDir) -> SledSettings {
    SledSettings {
        dir: place.path().join("spool"),
        ballast_bytes: 4096,
    }
}

fn sound(settings: &SledSettings) -> SledDisk {
    let opened = SledDisk::open(settings.clone()).unwrap();
    assert_eq!(opened.set_aside, None);
    opened.disk
}

/// Bytes that depend on the record, so that a mix-up shows.
fn body(seq: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seq);
    (0..len).map(|_| random.u8(..)).collect()
}

#[test]
fn values_of_any_length_come_back_after_a_restart_and_shorter_ones_leave_no_rest() {
    let place = TempDir::new("lengths");
    let settings = settings(&place);
    let lengths = [0, 1, 13_000, 262_144, 100_000, 40_000];
    let mut disk = sound(&settings);
    // Each record has had every length once, the last of them last.
    for round in 0..lengths.len() {
        let batch = (0..lengths.len()).map(|at| Write {
            tree: Tree::Review,
            seq: at as u64,
            value: Some(body(at as u64, lengths[(at + round) % lengths.len()])),
        });
        disk.write(batch.collect()).unwrap();
        disk.sync().unwrap();
    }
    drop(disk);
    let disk = sound(&settings);
    let mut found = Vec::new();
    disk.scan(Tree::Review, 0, &mut |seq, value| {
        found.push((seq, value.to_vec()));
        Scan::More
    })
    .unwrap();
    let expected: Vec<_> = (0..lengths.len())
        .map(|at| {
            (
                at as u64,
                body(at as u64, lengths[(at + lengths.len() - 1) % lengths.len()]),
            )
        })
        .collect();
    assert!(found == expected);
    assert!(disk.get(Tree::Review, 3).unwrap() == Some(expected[3].1.clone()));
}

#[test]
fn no_mix_of_lengths_and_removals_puts_anything_beside_the_file_that_is_synced() {
    let place = TempDir::new("blobs");
    let settings = settings(&place);
    let mut disk = sound(&settings);
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..150_u64 {
        let batch = (0..8).map(|_| {
            let seq = random.u64(0..200);
            let len = if random.u8(..) < 40 {
                random.usize(..262_144)
            } else {
                random.usize(..20_000)
            };
            let value = (random.u8(..) > 60).then(|| body(round, len));
            Write {
                tree: Tree::Cloud,
                seq,
                value,
            }
        });
        disk.write(batch.collect()).unwrap();
        disk.sync().unwrap();
        let blobs = fs::read_dir(settings.dir.join("blobs")).unwrap().count();
        assert_eq!(blobs, 0, "round {round}");
    }
}

#[test]
fn a_store_held_by_another_is_an_error_and_stays_where_it_is() {
    let place = TempDir::new("locked");
    let settings = settings(&place);
    let first = sound(&settings);
    let second = SledDisk::open(settings.clone());
    assert!(matches!(second, Err(DiskError::Locked(_))));
    assert!(settings.dir.join("db").exists());
    drop(first);
    sound(&settings);
}

#[test]
fn a_store_that_the_system_does_not_let_us_make_is_an_error() {
    let place = TempDir::new("denied");
    let settings = settings(&place);
    fs::write(&settings.dir, b"a file, not a directory").unwrap();
    assert!(matches!(SledDisk::open(settings), Err(DiskError::Io(_))));
}

#[test]
fn a_store_that_cannot_be_read_is_set_aside_a_fresh_one_starts_and_few_are_kept() {
    let place = TempDir::new("broken");
    let settings = settings(&place);
    let mut kept = Vec::new();
    for round in 1..=5_u64 {
        let mut disk = sound(&settings);
        disk.write(vec![Write {
            tree: Tree::Inbox,
            seq: round,
            value: Some(vec![1]),
        }])
        .unwrap();
        disk.sync().unwrap();
        drop(disk);
        fs::write(
            settings.dir.join("conf"),
            b"this is not what sled wrote here",
        )
        .unwrap();
        let opened = SledDisk::open(settings.clone()).unwrap();
        let aside = opened.set_aside.unwrap();
        assert!(aside.join("db").exists());
        assert_eq!(
            opened.disk.get(Tree::Inbox, round).unwrap(),
            None,
            "a fresh one"
        );
        kept.push(aside);
    }
    let there: Vec<_> = kept.iter().map(|path| path.exists()).collect();
    assert_eq!(there, [false, false, true, true, true]);
}

/// Overwrites a few stretches of a file with noise.
fn tear(file: &Path, random: &mut fastrand::Rng) {
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    let len = file.metadata().unwrap().len();
    for _ in 0..random.u32(1..6) {
        let noise: Vec<u8> = (0..random.usize(1..5000)).map(|_| random.u8(..)).collect();
        file.write_all_at(&noise, random.u64(..len)).unwrap();
    }
    if random.bool() {
        file.set_len(random.u64(..len)).unwrap();
    }
}

#[test]
fn whatever_happens_to_the_files_the_spool_starts_and_hands_out_only_what_was_written() {
    let mut set_aside = 0;
    for seed in 0..40 {
        let place = TempDir::new("torn");
        let settings = settings(&place);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut spool = Spool::open(sound(&settings), caps(NO_CAP)).unwrap();
        for round in 0..20 {
            let group = (1..=20).map(|at| {
                let seq = round * 20 + at;
                vec![
                    append(Tree::Inbox, seq, &body(seq, 600)),
                    ack(Tree::Inbox, seq / 2),
                ]
            });
            spool.commit(group.collect());
        }
        drop(spool);
        let files: Vec<_> = fs::read_dir(&settings.dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect();
        let torn = &files[random.usize(..files.len())];
        tear(
            if random.u8(..) < 160 { &files[0] } else { torn },
            &mut random,
        );
        tear(&settings.dir.join("db"), &mut random);

        let opened =
            SledDisk::open(settings.clone()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        set_aside += u32::from(opened.set_aside.is_some());
        let mut spool = Spool::open(opened.disk, caps(NO_CAP))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for (seq, found) in spool.lease(Tree::Inbox, at(0), at(1), usize::MAX).unwrap() {
            assert!(found == body(seq, 600), "seed {seed}, record {seq}");
        }
        let verdicts = spool.commit(vec![vec![append(Tree::Inbox, 1000, b"after")]]);
        assert_eq!(verdicts, [Verdict::Committed], "seed {seed}");
    }
    assert!(set_aside > 0, "the tearing was too gentle to test anything");
}
