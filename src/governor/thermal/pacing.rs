//! From a share of the engine's capacity to rests and threads.
//!
//! Short rests after each pass spread the heat evenly. Where the rest after the longest pass would
//! be longer than a person or a line notices, fewer threads compute instead, with shorter rests.
//! What even the fewest threads with the longest rests cannot stay under is no pace but a pause.

use std::time::Duration;

/// The engine never rests longer between two passes: as long as its longest pass takes.
pub const MAX_REST: Duration = Duration::from_millis(250);
/// A pass that nobody has timed may take so long.
const LONGEST_PASS: Duration = Duration::from_millis(250);
/// Shares of the configured threads, the most first.
const THREADS: [u16; 4] = [1000, 750, 500, 250];
/// More threads come back only when the pace has so much room more.
const ROOM: f64 = 1.4;

/// How the engine is slowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the unit stands last")]
pub(super) struct Pacing {
    pub(super) threads_permille: u16,
    pub(super) duty_permille: u16,
    pub(super) rest_permille: u16,
}

impl Pacing {
    pub(super) const FULL: Self = Self {
        threads_permille: 1000,
        duty_permille: 1000,
        rest_permille: 0,
    };
    pub(super) const NONE: Self = Self {
        threads_permille: 1000,
        duty_permille: 0,
        rest_permille: 0,
    };

    /// For a share of capacity; `now` keeps the number of threads from going to and fro.
    pub(super) fn of(share: f64, pass: Option<Duration>, now: Self) -> Self {
        let least = least_duty(pass);
        let fits = |threads: u16| {
            let room = if threads > now.threads_permille {
                ROOM
            } else {
                1.0
            };
            share / (f64::from(threads) / 1000.0) >= least * room
        };
        let fewest = THREADS[THREADS.len() - 1];
        let threads = THREADS
            .into_iter()
            .find(|threads| fits(*threads))
            .unwrap_or(fewest);
        let duty = (share * 1000.0 / f64::from(threads)).clamp(least, 1.0);
        Self {
            threads_permille: threads,
            duty_permille: permille(duty),
            rest_permille: permille((1.0 - duty) / duty),
        }
    }
}

/// The least share of time in which the engine computes while its rests stay short.
fn least_duty(pass: Option<Duration>) -> f64 {
    let pass = pass
        .unwrap_or(LONGEST_PASS)
        .clamp(Duration::from_millis(5), LONGEST_PASS);
    pass.as_secs_f64() / (pass + MAX_REST).as_secs_f64()
}

/// The least share of capacity that the engine can be slowed to.
pub(super) fn least_share(pass: Option<Duration>) -> f64 {
    least_duty(pass) * f64::from(THREADS[THREADS.len() - 1]) / 1000.0
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what fits"
)]
pub(super) fn permille(share: f64) -> u16 {
    (share * 1000.0).floor().clamp(0.0, 65_000.0) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_share_makes_a_rest_longer_than_the_longest() {
        for pass_ms in [1, 5, 40, 100, 250] {
            let pass = Duration::from_millis(pass_ms);
            for share in 0..=1000 {
                let share = f64::from(share) / 1000.0;
                let pacing = Pacing::of(share, Some(pass), Pacing::FULL);
                assert!(
                    pass * u32::from(pacing.rest_permille) / 1000 <= MAX_REST,
                    "{pacing:?}"
                );
            }
        }
    }

    #[test]
    fn pace_and_threads_make_the_share_together() {
        for share in [0.13, 0.3, 0.5, 0.77, 1.0] {
            let pacing = Pacing::of(share, None, Pacing::FULL);
            let duty = 1000.0 / (1000.0 + f64::from(pacing.rest_permille));
            let made = duty * f64::from(pacing.threads_permille) / 1000.0;
            assert!((made - share).abs() < 0.002, "{share}: {pacing:?}");
        }
    }

    #[test]
    fn fewer_threads_only_where_rests_would_be_too_long_and_more_again_with_room() {
        let slow = Pacing::of(0.45, None, Pacing::FULL);
        assert_eq!(slow.threads_permille, 750);
        assert_eq!(
            Pacing::of(0.52, None, slow).threads_permille,
            750,
            "not to and fro"
        );
        assert_eq!(Pacing::of(0.8, None, slow).threads_permille, 1000);
        let quick = Some(Duration::from_millis(20));
        assert_eq!(Pacing::of(0.45, quick, Pacing::FULL).threads_permille, 1000);
    }
}
