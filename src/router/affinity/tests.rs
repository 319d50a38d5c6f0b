//! Like questions get like tiers, memory is bounded, and a shift is told once.

use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> Mono {
    Mono(Duration::from_secs(seconds))
}

#[test]
fn an_estimate_that_wavers_about_a_threshold_gives_one_tier() {
    let mut affinity = Affinity::default();
    let mut tier = |estimate, second| affinity.steady("p:a", None, estimate, at(second)) > 0.72;
    assert!(!tier(0.70, 0));
    assert!(!tier(0.74, 1));
    assert!(!tier(0.71, 2));
    assert!(!tier(0.745, 3));
    assert!(tier(0.78, 4));
    assert!(tier(0.74, 5));
    assert!(!tier(0.72, 6));
}

#[test]
fn clients_and_tasks_have_anchors_of_their_own() {
    let mut affinity = Affinity::default();
    affinity.steady("p:a", Some("triage"), 0.5, at(0));
    for (client, task) in [
        ("p:b", Some("triage")),
        ("p:a", Some("guide")),
        ("p:a", None),
    ] {
        let seen = affinity.steady(client, task, 0.54, at(0));
        assert!((seen - 0.54).abs() < f32::EPSILON, "{client} {task:?}");
    }
    let seen = affinity.steady("p:a", Some("triage"), 0.54, at(0));
    assert!((seen - 0.5).abs() < f32::EPSILON);
}

#[test]
fn after_a_rest_the_next_question_is_a_new_matter() {
    let mut affinity = Affinity::default();
    let rest = MAX_REST.as_secs();
    let mut seen = |estimate, second| affinity.steady("p:a", None, estimate, at(second));
    seen(0.50, 0);
    assert!((seen(0.52, rest) - 0.50).abs() < f32::EPSILON);
    assert!((seen(0.52, 2 * rest + 1) - 0.52).abs() < f32::EPSILON);
}

#[test]
fn who_was_not_seen_for_the_longest_time_is_forgotten() {
    let mut affinity = Affinity::with_room(2);
    affinity.steady("a", None, 0.5, at(0));
    affinity.steady("b", None, 0.5, at(1));
    affinity.steady("a", None, 0.5, at(2));
    affinity.steady("c", None, 0.5, at(3));
    assert_eq!(affinity.len(), 2);
    let seen = affinity.steady("a", None, 0.52, at(4));
    assert!((seen - 0.5).abs() < f32::EPSILON);
    let seen = affinity.steady("b", None, 0.52, at(5));
    assert!((seen - 0.52).abs() < f32::EPSILON);
}

/// Requests of one client of which this share leaves the edge; how many shifts were told.
fn feed(drift: &mut Drift, random: &mut fastrand::Rng, count: u32, share: f64) -> Vec<Shift> {
    let went = |leaves| if leaves { Went::Onward } else { Went::Edge };
    (0..count)
        .filter_map(|_| drift.on_decision("p:a", went(random.f64() < share), at(0)))
        .collect()
}

#[test]
fn a_client_that_learns_its_way_to_the_cloud_is_told_of_once() {
    let mut drift = Drift::default();
    let mut random = fastrand::Rng::with_seed(5);
    assert_eq!(feed(&mut drift, &mut random, 2000, 0.05), []);
    let shifts = feed(&mut drift, &mut random, 150, 0.8);
    assert_eq!(shifts.len(), 1);
    assert!(shifts[0].now > shifts[0].before + 0.1);
    // It is the new normal after a while, and going back is another shift.
    assert_eq!(feed(&mut drift, &mut random, 4000, 0.8), []);
    let back = feed(&mut drift, &mut random, 150, 0.05);
    assert_eq!(back.len(), 1);
    assert!(back[0].now < back[0].before);
}

#[test]
fn a_steady_mix_is_never_told_of() {
    for (seed, share) in [(1, 0.0), (2, 0.03), (3, 0.2), (4, 0.5), (5, 0.9), (6, 1.0)] {
        let mut drift = Drift::default();
        let mut random = fastrand::Rng::with_seed(seed);
        assert_eq!(feed(&mut drift, &mut random, 100_000, share), [], "{share}");
    }
}

#[test]
fn shifts_are_told_no_oftener_than_the_mix_changes() {
    // The seeds are fixed, because chance alone does report a shift now and then.
    for seed in 0..50 {
        let mut drift = Drift::default();
        let mut random = fastrand::Rng::with_seed(seed);
        let shares: Vec<_> = (0..4).map(|_| random.f64()).collect();
        let told: usize = shares
            .iter()
            .map(|share| feed(&mut drift, &mut random, 5000, *share).len())
            .sum();
        assert!(told < shares.len(), "{told} of {shares:?}, seed {seed}");
    }
}

#[test]
fn nothing_is_said_of_a_client_that_hardly_asked() {
    let mut drift = Drift::default();
    let mut random = fastrand::Rng::with_seed(7);
    feed(&mut drift, &mut random, WARM_UP / 2, 0.0);
    assert_eq!(feed(&mut drift, &mut random, WARM_UP / 2 - 1, 1.0), []);
}

#[test]
fn one_client_s_shift_is_not_another_s() {
    let mut drift = Drift::default();
    let mut told = 0;
    for _ in 0..1000 {
        told += usize::from(drift.on_decision("p:a", Went::Edge, at(0)).is_some());
        told += usize::from(drift.on_decision("p:b", Went::Onward, at(0)).is_some());
    }
    assert_eq!(told, 0);
}

proptest! {
    #[test]
    fn what_the_rules_see_is_never_far_from_the_estimate_and_memory_is_bounded(
        asked in proptest::collection::vec((0..9u8, 0.0_f32..=1.0, 0..4000u64), 1..200),
        room in 1..5usize,
    ) {
        let mut affinity = Affinity::with_room(room);
        let mut now = 0;
        for (client, estimate, later) in asked {
            now += later;
            let seen = affinity.steady(&client.to_string(), None, estimate, at(now));
            prop_assert!((seen - estimate).abs() <= BAND);
            prop_assert!(affinity.len() <= room);
            prop_assert_eq!(affinity.anchors.order.len(), affinity.len());
        }
    }
}
