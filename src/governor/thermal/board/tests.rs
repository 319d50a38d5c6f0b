use super::*;

#[path = "../../../../tests/thermal/boards.rs"]
#[allow(
    dead_code,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
mod boards;
#[path = "../../../../tests/thermal/plant.rs"]
#[allow(
    dead_code,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
mod plant;

use boards::{BOARDS, Hour, LIMIT_C};
use plant::STEPS_A_SECOND;

fn sample(celsius: f64) -> Sample {
    Sample {
        reading: Some(Reading {
            celsius,
            limit_celsius: LIMIT_C,
            sound: true,
        }),
        load: 0.0,
        watts: None,
        frequency: 1.0,
        pass: None,
        demand: None,
    }
}

#[test]
fn the_plain_law_keeps_the_limit_of_every_board_by_itself() {
    for kind in BOARDS {
        for seed in 0..2 {
            let hour = Hour::new(kind, seed, 1200);
            let mut plant = hour.plant();
            let mut sensor = hour.sensor(plant.hottest());
            let mut dice = fastrand::Rng::with_seed(seed);
            let mut hottest = 0f64;
            let law = Board {
                limit_c: Some(LIMIT_C),
                ..Board::new(&Prior::default())
            };
            for second in 0..1200 {
                let around = hour.around(second);
                let share = law.plain(&sample(sensor.shows(&mut dice)));
                for _ in 0..STEPS_A_SECOND {
                    plant.step(share * around.cap, around.cap, &around);
                    sensor.step(plant.hottest());
                    hottest = hottest.max(plant.hottest());
                }
            }
            assert!(
                hottest < LIMIT_C,
                "{}, seed {seed}: {hottest:.2} °C",
                kind.name
            );
        }
    }
}

#[test]
fn a_board_that_has_shown_nothing_is_planned_with_more_caution_than_one_that_has() {
    let mut board = Board::new(&Prior::default());
    board.on_sample(&sample(70.0), 0.0);
    let strange = board.share(&sample(70.0));
    // It turns out to be a board that hardly warms up.
    for _ in 0..300 {
        board.on_sample(
            &Sample {
                load: 0.5,
                ..sample(70.0)
            },
            1.0,
        );
    }
    let known = board.share(&sample(70.0));
    assert!(strange < 0.7 && known > 0.95, "{strange:.2}, {known:.2}");
}

#[test]
fn a_reading_in_doubt_limits_and_teaches_nothing() {
    let mut board = Board::new(&Prior::default());
    for _ in 0..300 {
        board.on_sample(
            &Sample {
                load: 0.5,
                ..sample(70.0)
            },
            1.0,
        );
    }
    let before = board.share(&sample(70.0));
    let doubtful = Sample {
        reading: Some(Reading {
            celsius: 88.0,
            limit_celsius: LIMIT_C,
            sound: false,
        }),
        load: 0.5,
        ..sample(88.0)
    };
    board.on_sample(&doubtful, 1.0);
    assert!(before > 0.5 && board.share(&doubtful) <= 0.0);
    board.on_sample(
        &Sample {
            load: 0.5,
            ..sample(70.0)
        },
        1.0,
    );
    assert!(
        board.share(&sample(70.0)) > before - 0.05,
        "as if nothing had been"
    );
}

#[test]
fn under_a_cap_the_share_is_one_that_would_survive_its_end() {
    let mut board = Board::new(&Prior::default());
    for _ in 0..600 {
        board.on_sample(
            &Sample {
                load: 0.6,
                ..sample(80.0)
            },
            1.0,
        );
    }
    let free = board.share(&sample(80.0));
    let capped = Sample {
        frequency: 0.5,
        ..sample(80.0)
    };
    let share = board.share(&capped);
    assert!(
        share >= free,
        "the same share makes less heat: {share:.2}, {free:.2}"
    );
    assert!(share * 0.5 <= 0.5);
    let heat = board.heat(share, false);
    let guard = board
        .guard
        .distance_c(board.model.deviation(heat, CAP_UNNOTICED_S), BLIND_C);
    let then = board.model.mean().after(heat, CAP_UNNOTICED_S).celsius();
    assert!(then + guard <= LIMIT_C + 0.05, "{then:.2} and {guard:.2}");
}
