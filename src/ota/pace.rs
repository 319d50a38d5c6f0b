//! How fast a download may go, when, and how slow a source may be.
//!
//! Three small cores that are told the time: [`Bucket`] holds a download to a rate, [`Hours`] to a
//! part of the day, and [`Drip`] tells a source that is too slow to be worth waiting for.

use std::time::Duration;

use crate::clock::{DAY_MS, Mono, Wall};

/// Bytes that may be taken at once after a pause, as a part of a second's. Short, so that others
/// on the line are not crowded out for long; a piece of the source must fit in any case.
const BURST: Duration = Duration::from_millis(250);
/// Time over which a source's speed is judged: a line may stall for a while.
pub const DRIP_WINDOW: Duration = Duration::from_secs(20);
/// Minutes of a day.
const DAY_MINUTES: u16 = 24 * 60;

/// Holds to a rate. The bucket may owe: what has arrived cannot be sent back, so it is paid for
/// by waiting.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    bytes_per_s: u64,
    /// When the bucket will be empty of debts.
    paid: Mono,
}

impl Bucket {
    /// Up to so many bytes in a second.
    pub fn new(bytes_per_s: u64, now: Mono) -> Self {
        Self {
            bytes_per_s: bytes_per_s.max(1),
            paid: now,
        }
    }

    /// So many bytes arrived; returns how long to wait before the next are asked for.
    pub fn on_bytes(&mut self, bytes: usize, now: Mono) -> Duration {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_s);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let earliest = Mono(now.0.saturating_sub(BURST));
        self.paid = self.paid.max(earliest).after(cost);
        self.paid.since(now)
    }
}

/// The part of the day in which downloads may run, by the site's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// Minute of the day from which.
    pub from: u16,
    /// Minute of the day to before which. The same as `from` is the whole day.
    pub to: u16,
    /// How far the site's clocks are ahead of UTC.
    pub ahead_minutes: i16,
}

impl Hours {
    /// How long until they may run; zero while they may.
    pub fn opens_in(&self, now: Wall) -> Duration {
        let day = DAY_MS.cast_signed();
        let ahead = i64::from(self.ahead_minutes) * 60_000;
        let at = (now.0 % DAY_MS).cast_signed() + ahead;
        let at = at.rem_euclid(day).cast_unsigned();
        let of_day = |minute: u16| u64::from(minute % DAY_MINUTES) * 60_000;
        let (from, to) = (of_day(self.from), of_day(self.to));
        let open = match from.cmp(&to) {
            std::cmp::Ordering::Less => (from..to).contains(&at),
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Greater => at >= from || at < to,
        };
        if open {
            return Duration::ZERO;
        }
        Duration::from_millis((from + DAY_MS - at) % DAY_MS)
    }
}

/// Watches how fast a source gives.
#[derive(Clone, Copy, Debug)]
pub struct Drip {
    min_bytes_per_s: u64,
    waited: Duration,
    bytes: u64,
}

/// Whether a source is worth waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// So far.
    Fair,
    /// It gave less than it must, for the whole window.
    Slow,
}

impl Drip {
    /// A source must give so much in a second, on average over [`DRIP_WINDOW`].
    pub fn new(min_bytes_per_s: u64) -> Self {
        Self {
            min_bytes_per_s,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// The source was waited for so long, and gave so much. Waiting of our own does not count.
    pub fn on_read(&mut self, waited: Duration, bytes: usize) -> Flow {
        self.waited = self.waited.saturating_add(waited);
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.waited < DRIP_WINDOW {
            return Flow::Fair;
        }
        let needed = u128::from(self.min_bytes_per_s) * self.waited.as_millis() / 1000;
        let enough = u128::from(self.bytes) >= needed;
        *self = Self::new(self.min_bytes_per_s);
        if enough { Flow::Fair } else { Flow::Slow }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_rate_is_kept_over_any_time_but_for_a_short_burst() {
        let mut bucket = Bucket::new(1_000_000, Mono::default());
        let mut now = Mono(MS(10_000)); // a pause does not earn more than the burst
        let began = now;
        let mut taken = 0u64;
        while taken < 5_000_000 {
            taken += 16_384;
            now = now.after(bucket.on_bytes(16_384, now));
        }
        let took = now.since(began);
        let least = MS(taken / 1000).saturating_sub(BURST);
        assert!(took + MS(1) >= least && took <= least + MS(1), "{took:?}");
    }

    #[test]
    fn a_piece_larger_than_the_burst_is_paid_for() {
        let mut bucket = Bucket::new(1000, Mono::default());
        let now = Mono(MS(60_000));
        assert_eq!(bucket.on_bytes(3000, now), MS(3000).saturating_sub(BURST));
        assert_eq!(bucket.on_bytes(0, now.after(MS(9000))), Duration::ZERO);
        let mut none = Bucket::new(0, Mono::default());
        assert!(none.on_bytes(usize::MAX, now) > MS(1000));
    }

    #[test]
    fn hours_over_midnight_are_those_of_the_sites_clocks() {
        let hours = Hours {
            from: 22 * 60,
            to: 6 * 60,
            ahead_minutes: 120,
        };
        let hour = |utc: u64| hours.opens_in(Wall(20_000 * DAY_MS + utc * 3_600_000));
        assert_eq!(hour(20), Duration::ZERO); // 22:00 there
        assert_eq!(hour(3), Duration::ZERO); // 05:00 there
        assert_eq!(hour(4), Duration::from_hours(16)); // 06:00 there
        assert_eq!(hour(19), Duration::from_hours(1));
        let west = Hours {
            from: 60,
            to: 120,
            ahead_minutes: -120,
        };
        assert_eq!(west.opens_in(Wall(3 * 3_600_000)), Duration::ZERO);
        assert_eq!(west.opens_in(Wall(0)), Duration::from_hours(3));
        let all = Hours {
            from: 5,
            to: 5,
            ahead_minutes: 0,
        };
        assert_eq!(all.opens_in(Wall(0)), Duration::ZERO);
    }

    #[test]
    fn a_drip_is_slow_and_a_stall_that_ends_is_not() {
        let mut drip = Drip::new(1000);
        for _ in 0..19 {
            assert_eq!(drip.on_read(MS(1000), 20), Flow::Fair);
        }
        assert_eq!(drip.on_read(MS(1000), 20), Flow::Slow);
        let mut stalled = Drip::new(1000);
        assert_eq!(
            stalled.on_read(DRIP_WINDOW.saturating_sub(MS(1)), 0),
            Flow::Fair
        );
        assert_eq!(stalled.on_read(MS(1), 20_000), Flow::Fair);
        // Judged anew for each window: an old credit does not carry a source.
        assert_eq!(stalled.on_read(DRIP_WINDOW, 19_999), Flow::Slow);
    }
}
