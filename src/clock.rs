//! The only reader of time.
//!
//! Every decision takes a [`Now`] as an argument, so that a simulated world can turn the hands.
//! A `Now` carries two readings, because they answer different questions:
//!
//! - [`Mono`] never goes back and dies with the process: intervals, timeouts, pacing.
//! - [`Wall`] survives a restart but may jump: deadlines on disk, timelines, what people read.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds of a day in UTC.
pub const DAY_MS: u64 = 86_400_000;

/// The first of January 2023: no lineside ran before, so a stamp from before was made by a clock
/// that did not know the time yet.
const BEFORE_THIS_PROGRAM: Wall = Wall(1_672_531_200_000);

/// Time since this process started; never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub Duration);

impl Mono {
    /// This moment, later by `span`.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds since 1970 by the wall clock; may jump either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

impl Wall {
    /// This moment, later by `span`.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// How long ago `earlier` was; zero if the clock has gone back since.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// How long ago a stamp of an earlier process was made; zero if the clock has gone back since,
    /// or did not know the time then.
    pub fn time_since(self, stamp: Self) -> Duration {
        if stamp < BEFORE_THIS_PROGRAM {
            return Duration::ZERO;
        }
        self.since(stamp)
    }

    /// Year, month and day in UTC, counted in eras of 400 years that begin in March (Howard
    /// Hinnant, "chrono-compatible low-level date algorithms").
    pub fn date(self) -> (u64, u64, u64) {
        let days = self.0 / DAY_MS + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        (year, month, day)
    }
}

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For intervals.
    pub mono: Mono,
    /// For the disk and for people.
    pub wall: Wall,
}

/// The real clock. One is made at the start and handed to each task.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// Starts counting.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Reads both clocks.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(); // a board whose clock stands before 1970 counts from there
        Now {
            mono: Mono(self.started.elapsed()),
            wall: Wall(millis(wall)),
        }
    }

    /// The instant at which `at` comes, for a timer.
    pub fn instant(&self, at: Mono) -> Instant {
        self.started + at.0
    }
}

/// Whole milliseconds of a span; a span beyond `u64` counts as that many.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn a_wall_clock_that_went_back_reads_as_no_time_passed() {
        assert_eq!(Wall(5).since(Wall(9)), Duration::ZERO);
        assert_eq!(Wall(9).since(Wall(5)), Duration::from_millis(4));
    }

    #[test]
    fn a_stamp_from_before_the_clock_knew_the_time_reads_as_no_time_passed() {
        let noon = Wall(1_795_262_400_000);
        assert_eq!(noon.time_since(Wall(60_000)), Duration::ZERO);
        assert_eq!(noon.time_since(noon.after(DAY)), Duration::ZERO);
        assert_eq!(noon.after(DAY).time_since(noon), DAY);
    }

    #[test]
    fn a_day_has_the_date_that_people_give_it() {
        assert_eq!(Wall(0).date(), (1970, 1, 1));
        assert_eq!(Wall(951_782_399_999).date(), (2000, 2, 28));
        assert_eq!(Wall(951_782_400_000).date(), (2000, 2, 29));
        assert_eq!(Wall(1_767_225_599_042).date(), (2025, 12, 31));
    }

    #[test]
    fn a_timer_instant_lies_where_the_reading_said() {
        let clock = Clock::start();
        let at = clock.now().mono.after(Duration::from_secs(3));
        assert!(clock.instant(at) > Instant::now());
    }
}
