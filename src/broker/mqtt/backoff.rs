//! How long to wait before the next try: exponential, with full jitter.
//!
//! After a power cut a whole hall of appliances comes back in the same second; the jitter keeps
//! them from knocking in step.

use std::time::Duration;

/// The first pause is about this long.
const SHORTEST: Duration = Duration::from_millis(100);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(30);
/// A connection that held this long counts as a success; a shorter one as one more failure, so
/// that a broker which accepts and then drops us is not hammered. Longer than the longest pause:
/// two clients with one id throw each other out, each holds the line for as long as the other
/// pauses, and not every broker tells them why.
const HELD: Duration = Duration::from_mins(1);

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Never connected.
    Refused,
    /// Connected for so long, then lost.
    Lost(Duration),
    /// Another client with our id threw us out: it will do so again.
    TakenOver,
}

/// Counts failures, draws pauses.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
    dice: fastrand::Rng,
}

impl Backoff {
    /// No failure yet. `seed` is for the jitter.
    pub fn new(seed: u64) -> Self {
        Self {
            failures: 0,
            dice: fastrand::Rng::with_seed(seed),
        }
    }

    /// The pause after a try that ended like this.
    pub fn pause(&mut self, outcome: Outcome) -> Duration {
        match outcome {
            Outcome::Lost(held) if held >= HELD => self.failures = 0,
            Outcome::Lost(_) | Outcome::Refused | Outcome::TakenOver => {}
        }
        self.failures = self.failures.saturating_add(1);
        let ceiling = SHORTEST
            .saturating_mul(2u32.saturating_pow(self.failures))
            .min(LONGEST);
        match outcome {
            Outcome::Refused | Outcome::Lost(_) => self.between(SHORTEST, ceiling),
            // Two clients with one id would otherwise throw each other out several times a second.
            Outcome::TakenOver => self.between(LONGEST / 2, LONGEST),
        }
    }

    fn between(&mut self, low: Duration, high: Duration) -> Duration {
        low + high.saturating_sub(low).mul_f64(self.dice.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_their_bounds() {
        let mut backoff = Backoff::new(7);
        let pauses: Vec<_> = (0..400).map(|_| backoff.pause(Outcome::Refused)).collect();
        assert!(pauses.iter().all(|p| (SHORTEST..=LONGEST).contains(p)));
        assert!(pauses[0] <= SHORTEST * 2);
        assert!(pauses[20..].iter().any(|p| *p > LONGEST / 2));
        assert!(pauses[20..].iter().any(|p| *p < LONGEST / 4), "full jitter");
    }

    #[test]
    fn only_a_connection_that_held_starts_the_count_anew() {
        let mut backoff = Backoff::new(7);
        for _ in 0..20 {
            backoff.pause(Outcome::Lost(Duration::from_secs(1)));
        }
        assert_eq!(backoff.failures, 20);
        assert!(backoff.pause(Outcome::Lost(HELD)) <= SHORTEST * 2);
    }

    #[test]
    fn being_thrown_out_by_a_namesake_waits_long_from_the_first_time() {
        let mut backoff = Backoff::new(7);
        assert!(backoff.pause(Outcome::TakenOver) >= LONGEST / 2);
    }
}
