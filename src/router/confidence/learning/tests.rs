//! What reviewers say bends their task's confidence, comes back after a restart, and stays with
//! the package that it is about.

use std::path::Path;

use super::*;
use crate::package::Package;
use crate::router::confidence::refit::{self, Why};

fn manifest() -> Manifest {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    Package::open(&bundled).unwrap().manifest().clone()
}

fn learning(manifest: &Manifest) -> Learning {
    Learning::of(manifest, &manifest.variants[0])
}

fn model(manifest: &Manifest) -> Model {
    Model {
        package: manifest.name.clone(),
        seq: manifest.seq,
        digest: format!("sha256:{}", manifest.variants[0].file.sha256),
        prompt_version: "1".into(),
        standing: None,
    }
}

/// So many verdicts of five reviewers on answers of one task that say they are all but certain;
/// one in `wrong_each` is wrong.
fn give(
    learning: &mut Learning,
    model: &Model,
    task: &str,
    count: u64,
    wrong_each: u64,
) -> Vec<News> {
    let features = Features::of([(-0.01, 0.02)], []);
    let said = (0..count).map(|at| {
        let judged = Judged {
            task,
            model,
            features: &features,
            right: at % wrong_each != 0,
            reviewer: ["a", "b", "c", "d", "e"][usize::try_from(at % 5).unwrap()],
        };
        learning.on_verdict(&judged, Wall(1000 + at))
    });
    said.flatten().collect()
}

fn moves(news: &[News]) -> usize {
    let moved = news.iter().filter(|it| matches!(it, News::Moved(_)));
    moved.count()
}

#[test]
fn verdicts_bend_the_confidence_of_their_task_alone() {
    let manifest = manifest();
    let mut learning = learning(&manifest);
    let before = learning.sure(Some("triage"), 0.98);
    assert!(
        (before - 0.98).abs() < f32::EPSILON,
        "nothing is learnt yet"
    );
    let few = refit::LEAST as u64 - 1;
    let news = give(&mut learning, &model(&manifest), "triage", few, 2);
    assert_eq!(moves(&news), 0);
    let news = give(&mut learning, &model(&manifest), "triage", 1, 1);
    assert_eq!(moves(&news), 1);
    assert!(learning.sure(Some("triage"), 0.98) < 0.96);
    for other in [Some("extract"), Some("nowhere"), None] {
        let said = learning.sure(other, 0.98);
        assert!((said - 0.98).abs() < f32::EPSILON, "{other:?}");
    }
}

#[test]
fn too_many_errors_raise_the_alarm_once_until_a_person_has_seen_it() {
    let manifest = manifest();
    let mut learning = learning(&manifest);
    let alarms = |news: Vec<News>| {
        let alarms = news
            .into_iter()
            .filter(|it| matches!(it, News::Alarm { .. }));
        alarms.collect::<Vec<_>>()
    };
    assert!(!learning.acknowledge("triage"), "there is none");
    let told = alarms(give(&mut learning, &model(&manifest), "triage", 100, 2));
    let [
        News::Alarm {
            seen,
            wrong,
            expected,
        },
    ] = told[..]
    else {
        panic!("{told:?}");
    };
    assert!(u64::from(u8::try_from(seen).unwrap()) > wrong);
    assert!(expected < f64::from(u32::try_from(wrong).unwrap()) / 2.0);
    assert!(learning.acknowledge("triage") && !learning.acknowledge("triage"));
}

#[test]
fn what_was_learnt_comes_back_from_its_bytes() {
    let manifest = manifest();
    let mut first = learning(&manifest);
    give(&mut first, &model(&manifest), "triage", 80, 2);
    give(&mut first, &model(&manifest), "guide", 10, 2);
    let mut second = learning(&manifest);
    assert_eq!(second.resume(&first.bytes(), Wall(5)), Ok(0));
    assert_eq!(second, first);
}

#[test]
fn damage_and_other_versions_are_told_and_change_nothing() {
    let manifest = manifest();
    let mut first = learning(&manifest);
    give(&mut first, &model(&manifest), "triage", 80, 2);
    let bytes = first.bytes();
    let fresh = learning(&manifest);
    let mut second = fresh.clone();
    for at in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        let mut torn = bytes.clone();
        torn[at] ^= 1;
        assert_eq!(
            second.resume(&torn, Wall(5)),
            Err(FormError::Damaged),
            "{at}"
        );
    }
    for end in [0, 5, bytes.len() - 1] {
        assert_eq!(
            second.resume(&bytes[..end], Wall(5)),
            Err(FormError::Damaged)
        );
    }
    let mut later = bytes[..bytes.len() - 32].to_vec();
    later[0] += 1;
    later.extend(Digest::of(&later).0);
    assert_eq!(second.resume(&later, Wall(5)), Err(FormError::Version(2)));
    assert_eq!(second, fresh);
}

#[test]
fn another_package_begins_anew_and_that_is_on_record() {
    let manifest = manifest();
    let mut first = learning(&manifest);
    give(&mut first, &model(&manifest), "triage", 80, 2);
    give(&mut first, &model(&manifest), "guide", 80, 2);
    // Another wording of one task: the other one's verdicts still count.
    let mut reworded = manifest.clone();
    reworded.seq += 1;
    reworded.tasks[0].prompt_version = "2".into();
    assert_eq!(reworded.tasks[0].name, "triage");
    let mut second = learning(&reworded);
    assert_eq!(second.resume(&first.bytes(), Wall(5)), Ok(1));
    assert!((second.sure(Some("triage"), 0.98) - 0.98).abs() < f32::EPSILON);
    assert!(second.sure(Some("guide"), 0.98) < 0.96);
    let (_, triage) = second.tasks().find(|it| it.0 == "triage").unwrap();
    assert_eq!(triage.history().last().unwrap().why, Why::Package);
    assert_eq!(second.undo("triage", Wall(6)), None);
    // And the other variant is another model.
    let mut third = Learning::of(&manifest, &manifest.variants[1]);
    assert_eq!(third.resume(&first.bytes(), Wall(5)), Ok(2));
}

#[test]
fn a_change_that_was_undone_before_another_package_came_cannot_be_redone_after_it() {
    let manifest = manifest();
    let mut first = learning(&manifest);
    give(&mut first, &model(&manifest), "triage", 60, 2);
    assert_eq!(first.undo("triage", Wall(5)).unwrap().why, Why::Undone);
    assert!((first.sure(Some("triage"), 0.98) - 0.98).abs() < f32::EPSILON);
    let mut other = Learning::of(&manifest, &manifest.variants[1]);
    other.resume(&first.bytes(), Wall(6)).unwrap();
    assert_eq!(other.undo("triage", Wall(7)), None);
    assert!((other.sure(Some("triage"), 0.98) - 0.98).abs() < f32::EPSILON);
}

#[test]
fn an_answer_of_another_package_teaches_nothing() {
    let manifest = manifest();
    let mut learning = learning(&manifest);
    let fresh = learning.clone();
    let ours = model(&manifest);
    for other in [
        Model {
            seq: 1,
            ..ours.clone()
        },
        Model {
            package: "other".into(),
            ..ours.clone()
        },
        Model {
            digest: "sha256:00".into(),
            ..ours
        },
    ] {
        assert_eq!(give(&mut learning, &other, "triage", 100, 1), []);
    }
    assert_eq!(
        give(&mut learning, &model(&manifest), "nowhere", 100, 1),
        []
    );
    assert_eq!(learning, fresh);
}

#[test]
fn the_file_is_replaced_as_a_whole_and_none_is_no_error() {
    let folder = std::env::temp_dir().join(format!("lineside-learnt-{}", std::process::id()));
    let path = keep::path_in(&folder);
    assert_eq!(keep::load(&path).unwrap(), None);
    for bytes in [&b"one"[..], b"another"] {
        keep::store(&path, bytes).unwrap();
        assert_eq!(keep::load(&path).unwrap().as_deref(), Some(bytes));
    }
    let beside = std::fs::read_dir(path.parent().unwrap()).unwrap();
    assert_eq!(beside.count(), 1);
    std::fs::remove_dir_all(&folder).unwrap();
}
