use super::*;
use crate::ota::tests::disk::{Kept, SimDisk};

fn open(disk: &SimDisk) -> Book<SimDisk> {
    Book::open(disk.clone()).unwrap()
}

#[test]
fn floors_rise_and_never_fall() {
    let mut floors = Floors::default();
    floors.saw_root(3);
    floors.saw_root(2);
    floors.saw_timestamp(9, 8);
    floors.saw_timestamp(8, 7);
    floors.saw_roles([("targets", 5), ("rollout", 2)].into_iter());
    floors.saw_roles([("targets", 4), ("rollout", 3)].into_iter());
    assert_eq!((floors.root, floors.timestamp, floors.snapshot), (3, 9, 8));
    assert_eq!(floors.roles["targets"], 5);
    assert_eq!(floors.roles["rollout"], 3);
    floors.packages.insert("triage".to_owned(), 7);
    floors.saw_time(Wall(100), Wall(200));
    floors.forget_versions();
    assert_eq!(
        (floors.timestamp, floors.snapshot, floors.roles.len()),
        (0, 0, 0)
    );
    assert_eq!(
        (floors.root, floors.package("triage"), floors.time_ms),
        (3, 7, 100)
    );
}

#[test]
fn the_time_never_goes_back_and_a_clock_is_believed_as_far_as_signatures_reach() {
    let mut floors = Floors::default();
    assert_eq!(floors.time(Wall(5)), Wall(5));
    floors.saw_time(Wall(100), Wall(200));
    assert_eq!(floors.time(Wall(0)), Wall(100));
    assert_eq!(floors.time(Wall(150)), Wall(150));
    floors.saw_time(Wall(50), Wall(200));
    assert_eq!(floors.time_ms, 100);
    floors.saw_time(Wall(4_102_444_800_000), Wall(200));
    assert_eq!(floors.time_ms, 200);
}

#[test]
fn what_was_raised_is_there_after_a_restart() {
    let disk = SimDisk::default();
    let mut book = open(&disk);
    assert!(!book.was_found());
    book.raise_package("triage", 7).unwrap();
    book.raise_package("triage", 7).unwrap();
    book.change(|floors| floors.saw_root(4)).unwrap();
    let book = open(&disk);
    assert!(book.was_found());
    assert_eq!(book.floors().package("triage"), 7);
    assert_eq!(book.floors().package("other"), 0);
    assert_eq!(book.floors().root, 4);
}

#[test]
fn a_sequence_number_that_goes_back_is_refused() {
    let mut book = open(&SimDisk::default());
    book.raise_package("triage", 7).unwrap();
    let error = book.raise_package("triage", 6).unwrap_err();
    assert_eq!(
        error.to_string(),
        "package triage: sequence number 6 is below 7, which was reached before"
    );
    assert_eq!(book.floors().package("triage"), 7);
}

#[test]
fn packages_with_a_floor_are_counted() {
    let mut book = open(&SimDisk::default());
    for n in 0..MAX_PACKAGES {
        book.raise_package(&format!("p{n}"), 1).unwrap();
    }
    book.raise_package("p0", 2).unwrap();
    assert!(matches!(
        book.raise_package("more", 1),
        Err(FloorError::Full { .. })
    ));
}

#[test]
fn nothing_new_writes_nothing() {
    let disk = SimDisk::default();
    let mut book = open(&disk);
    book.change(|floors| floors.saw_root(4)).unwrap();
    let steps = disk.steps();
    book.change(|floors| floors.saw_root(4)).unwrap();
    open(&disk);
    assert_eq!(disk.steps(), steps);
}

#[test]
fn either_copy_alone_is_enough_and_mends_the_other() {
    for lost in PLACES {
        for harm in 0..4 {
            let disk = SimDisk::default();
            open(&disk).raise_package("triage", 7).unwrap();
            let whole = disk.files()[lost].clone();
            match harm {
                0 => disk.lose(lost),
                1 => disk.plant(lost, b""),
                2 => disk.plant(lost, &whole[..whole.len() / 2]),
                _ => disk.plant(lost, &[&whole[..], b"x"].concat()),
            }
            assert_eq!(open(&disk).floors().package("triage"), 7);
            let files = disk.files();
            assert_eq!(files[PLACES[0]], files[PLACES[1]], "{lost} {harm}");
        }
    }
}

#[test]
fn an_older_copy_beside_a_newer_one_is_not_believed() {
    for swapped in PLACES {
        let disk = SimDisk::default();
        let mut book = open(&disk);
        book.raise_package("triage", 7).unwrap();
        let old = disk.files()[swapped].clone();
        book.raise_package("triage", 8).unwrap();
        disk.plant(swapped, &old);
        assert_eq!(open(&disk).floors().package("triage"), 8);
    }
}

#[test]
fn every_bit_of_a_record_is_held_against_its_checksum() {
    let mut all = Record {
        course: serde_json::json!({"stage": "trial"}),
        ..Record::default()
    };
    all.floors.saw_root(4);
    let record = compose(3, &all);
    assert!(matches!(parse(&record), Page::Whole(3, read) if read == all));
    for at in 0..record.len() {
        for bit in 0..8 {
            let mut damaged = record.clone();
            damaged[at] ^= 1 << bit;
            let same = matches!(parse(&damaged), Page::Whole(3, ref read) if *read == all);
            // A digit of the checksum in the other case is the same number.
            let is_case = bit == 5 && record[at].is_ascii_alphabetic() && same;
            assert!(
                is_case || matches!(parse(&damaged), Page::Damaged),
                "{at} {bit}"
            );
        }
    }
}

#[test]
fn a_record_of_a_newer_form_is_left_alone() {
    let disk = SimDisk::default();
    let newer = with_form("2", "not this form");
    disk.plant(PLACES[0], &newer);
    assert!(matches!(
        Book::open(disk.clone()),
        Err(FloorError::Newer { .. })
    ));
    assert_eq!(disk.files()[PLACES[0]], newer);
}

fn with_form(form: &str, body: &str) -> Vec<u8> {
    let crc = checksum(form, 1, body);
    format!("{MAGIC} {form} 1 {} {crc:08x}\n{body}", body.len()).into_bytes()
}

#[test]
fn a_disk_that_does_not_answer_is_no_empty_record() {
    let disk = SimDisk::default();
    open(&disk).raise_package("triage", 7).unwrap();
    disk.make_unreadable(PLACES[1]);
    assert_eq!(open(&disk).floors().package("triage"), 7);
    disk.make_unreadable(PLACES[0]);
    assert!(matches!(
        Book::open(disk.clone()),
        Err(FloorError::Disk { .. })
    ));
}

#[test]
fn a_power_cut_at_any_step_keeps_what_was_promised() {
    for kept in Kept::ALL {
        for n in 0.. {
            let disk = SimDisk::default();
            open(&disk).raise_package("triage", 7).unwrap();
            disk.cut_after(n);
            let mut book = open(&disk);
            let promised = if book.raise_package("triage", 8).is_ok() {
                8
            } else {
                7
            };
            let done = promised == 8;
            disk.restart(kept);
            let mut book = open(&disk);
            let seq = book.floors().package("triage");
            assert!((promised..=8).contains(&seq), "step {n}, {kept:?}: {seq}");
            book.raise_package("triage", 9).unwrap();
            assert_eq!(open(&disk).floors().package("triage"), 9);
            if done {
                assert_eq!(n, 2 * 3, "two files, three steps each");
                break;
            }
        }
    }
}

#[test]
fn a_record_from_before_there_were_courses_is_read_and_keeps_its_floors() {
    let disk = SimDisk::default();
    disk.plant(PLACES[0], &with_form(FORM, r#"{"packages":{"triage":7}}"#));
    let mut book = open(&disk);
    let journal = book.journal();
    assert_eq!(book.floors().package("triage"), 7);
    assert_eq!(journal.course(), Value::Null);
    let packages = [("triage", 6), ("other", 2)];
    journal.write("here".into(), packages.into_iter()).unwrap();
    book.raise_package("triage", 8).unwrap();
    let book = open(&disk);
    assert_eq!(book.journal().course(), "here");
    assert_eq!(
        (
            book.floors().package("triage"),
            book.floors().package("other")
        ),
        (8, 2)
    );
}

#[test]
fn the_course_and_its_floor_are_written_in_one_step() {
    for kept in Kept::ALL {
        for n in 0..=6 {
            let disk = SimDisk::default();
            open(&disk).raise_package("triage", 7).unwrap();
            disk.cut_after(n);
            let written = open(&disk).journal();
            let written = written.write(8.into(), [("triage", 8)].into_iter());
            assert_eq!(written.is_ok(), n == 6);
            disk.restart(kept);
            let book = open(&disk);
            let both = (book.journal().course(), book.floors().package("triage"));
            let old = both == (Value::Null, 7);
            let new = both == (Value::from(8), 8);
            assert!(new || (old && n < 6), "step {n}, {kept:?}: {both:?}");
        }
    }
}

#[test]
fn a_write_that_failed_half_way_is_not_taken_for_undone_when_its_change_is_taken_back() {
    for n in 0..6 {
        let disk = SimDisk::default();
        let book = open(&disk);
        let journal = book.journal();
        let write = |course: u64| journal.write(course.into(), std::iter::empty());
        write(1).unwrap();
        disk.cut_after(n);
        assert!(write(2).is_err());
        disk.restart(Kept::Everything);
        write(1).unwrap();
        assert_eq!(open(&disk).journal().course(), 1, "step {n}");
    }
}
