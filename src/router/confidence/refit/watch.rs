//! Whether more answers are wrong than confidence says: a test that never has to end.
//!
//! A gambler bets on each verdict that the answer is wrong, at the odds that confidence implies.
//! Where confidence is honest, no way to bet wins on average. Each verdict may be the one where
//! things began to go wrong, so a new gambler with one coin joins at each; several bet at once,
//! boldly and carefully. When all of them together hold [`ALARM`] coins, confidence is not honest.
//!
//! What holds whatever the model and however often one looks: where confidence is honest, it
//! takes [`ALARM`] verdicts on average until a false alarm, at least.
//!
//! Only errors beyond the expected count. A model that is better than it says costs money, not
//! trust, and the refit sees to it.

/// Verdicts between false alarms, on average and at least.
const ALARM: f64 = 1000.0;
/// The share of what they hold that the gamblers bet, at even odds.
const BETS: [f64; 3] = [0.2, 0.5, 0.95];

/// The gamblers, and what they have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Watch {
    pub(super) coins: [f64; BETS.len()],
    pub(super) seen: u64,
    pub(super) wrong: u64,
    pub(super) expected: f64,
    /// After how many verdicts the alarm came.
    pub(super) alarm: Option<u64>,
}

impl Watch {
    /// An answer that was told with this confidence was right, or wrong.
    pub(super) fn see(&mut self, told: f64, right: bool) {
        let expected = 1.0 - told.clamp(0.0, 1.0);
        let found = if right { 0.0 } else { 1.0 };
        self.seen += 1;
        self.wrong += u64::from(!right);
        self.expected += expected;
        for (coins, bet) in self.coins.iter_mut().zip(BETS) {
            // More than any alarm needs is not counted on, so that no number runs over.
            *coins = ((*coins + 1.0) * (1.0 + bet * (found - expected))).min(ALARM * 1e6);
        }
        if self.alarm.is_none() && self.held() >= ALARM {
            self.alarm = Some(self.seen);
        }
    }

    /// Whether it has come, and after how many verdicts.
    pub fn alarm(&self) -> Option<u64> {
        self.alarm
    }

    /// Verdicts since the start, or since the alarm was acknowledged.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Wrong answers among them, and how many there should have been.
    pub fn wrong(&self) -> (u64, f64) {
        (self.wrong, self.expected)
    }

    fn held(&self) -> f64 {
        let count = f64::from(u8::try_from(BETS.len()).unwrap_or(u8::MAX));
        self.coins.iter().sum::<f64>() / count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Verdicts until the alarm, at most so many, where the model is right as often as `truly`.
    fn until_alarm(chance: &mut fastrand::Rng, told: f64, truly: f64, most: u64) -> u64 {
        let mut watch = Watch::default();
        while watch.alarm().is_none() && watch.seen() < most {
            watch.see(told, chance.f64() < truly);
        }
        watch.seen()
    }

    #[test]
    fn false_alarms_are_as_rare_as_promised() {
        let mut chance = fastrand::Rng::with_seed(5);
        let lives: u64 = (0..200)
            .map(|_| until_alarm(&mut chance, 0.9, 0.9, 20_000))
            .sum();
        assert!(lives / 200 >= 1000, "{}", lives / 200);
    }

    #[test]
    fn a_model_that_is_wrong_more_often_than_it_says_is_found_soon() {
        let mut chance = fastrand::Rng::with_seed(6);
        for (truly, most) in [(0.6, 100), (0.75, 300)] {
            let lives: u64 = (0..200)
                .map(|_| until_alarm(&mut chance, 0.9, truly, 20_000))
                .sum();
            assert!(lives / 200 < most, "{truly}: {}", lives / 200);
        }
    }

    #[test]
    fn a_change_is_found_however_long_all_was_well() {
        let mut watch = Watch::default();
        let mut chance = fastrand::Rng::with_seed(8);
        for _ in 0..300 {
            watch.see(0.8, chance.f64() < 0.95); // better than it says
        }
        assert_eq!(watch.alarm(), None);
        for _ in 0..60 {
            watch.see(0.8, chance.f64() < 0.3);
        }
        assert!(watch.alarm().is_some());
        let (wrong, expected) = watch.wrong();
        assert!(wrong > 20 && (expected - 72.0).abs() < 1e-6);
    }
}
