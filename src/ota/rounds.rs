//! When the keeper looks again.
//!
//! ```text
//!  start ─► soon ─► look ─┬─ well ────────► check_every, give or take a tenth
//!                         ├─ failed ──────► a minute, doubling, up to check_every
//!                         └─ closed hours ► when they open, if that comes first
//! ```
//!
//! A whole fleet asks the same server. So nobody looks at a round hour, nor all at once when the
//! power comes back.

use std::time::Duration;

/// The first look comes within this, so that a plant that is switched on does not ask at once.
const SOON: Duration = Duration::from_mins(1);
/// The pause after the first failure.
const AFTER_FAILURE: Duration = Duration::from_mins(1);
/// How far a look may be away from its time, as a part of the pause.
const SCATTER: f64 = 0.1;

/// How a look ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is known what is meant for this device, and that is here.
    Well,
    /// Another try may help.
    Failed,
    /// Downloads may not run before that.
    Shut(Duration),
}

/// The pauses between looks.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    every: Duration,
    failures: u32,
}

impl Rounds {
    /// A look so often.
    pub fn new(every: Duration) -> Self {
        Self { every, failures: 0 }
    }

    /// The pause before the first look. `chance` is from 0 to 1.
    pub fn first(&self, chance: f64) -> Duration {
        self.every.min(SOON).mul_f64(chance.clamp(0.0, 1.0))
    }

    /// The pause after a look. `chance` is from 0 to 1.
    pub fn after(&mut self, ended: Ended, chance: f64) -> Duration {
        let pause = match ended {
            Ended::Well => {
                self.failures = 0;
                self.every
            }
            Ended::Failed => {
                let doubled = 2u32.saturating_pow(self.failures);
                self.failures = self.failures.saturating_add(1);
                AFTER_FAILURE.saturating_mul(doubled).min(self.every)
            }
            // Who waits for the same hour comes scattered behind it, not before.
            Ended::Shut(opens) => {
                let late = SOON.mul_f64(chance.clamp(0.0, 1.0));
                return opens.saturating_add(late).min(self.every);
            }
        };
        pause.mul_f64(1.0 + SCATTER * (2.0 * chance.clamp(0.0, 1.0) - 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const MINUTE: Duration = Duration::from_mins(1);
    const MIDDLE: f64 = 0.5;

    #[test]
    fn failures_are_tried_again_sooner_and_ever_later() {
        let mut rounds = Rounds::new(HOUR);
        let pauses: Vec<_> = (0..40)
            .map(|_| rounds.after(Ended::Failed, MIDDLE))
            .collect();
        assert_eq!(pauses[..3], [MINUTE, MINUTE * 2, MINUTE * 4]);
        assert_eq!(pauses[39], HOUR);
        assert_eq!(rounds.after(Ended::Well, MIDDLE), HOUR);
        assert_eq!(rounds.after(Ended::Failed, MIDDLE), MINUTE);
    }

    #[test]
    fn looks_are_scattered() {
        let mut rounds = Rounds::new(HOUR);
        assert_eq!(rounds.first(0.0), Duration::ZERO);
        assert_eq!(rounds.first(1.0), MINUTE);
        assert_eq!(rounds.after(Ended::Well, 0.0), MINUTE * 54);
        assert_eq!(rounds.after(Ended::Well, 1.0), MINUTE * 66);
    }

    #[test]
    fn closed_hours_are_waited_for_if_they_open_before_the_next_look() {
        let mut rounds = Rounds::new(HOUR);
        let shut = Ended::Shut(MINUTE * 10);
        assert_eq!(rounds.after(shut, 0.0), MINUTE * 10);
        assert_eq!(rounds.after(shut, 1.0), MINUTE * 11);
        assert_eq!(rounds.after(Ended::Shut(HOUR * 9), 0.0), HOUR);
    }
}
