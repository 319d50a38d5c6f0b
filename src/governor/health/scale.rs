//! In which unit a driver writes.
//!
//! Thousandths of a degree, by the kernel's documentation. Some drivers write tenths or whole
//! degrees. The number alone tells in most cases: beyond [`MAX_TENTHS`] it can only be
//! thousandths, since nothing here survives what it would mean in tenths. A smaller number is
//! thousandths near freezing, or another unit, and then the unit counts that comes nearest to
//! what other sensors say; without others the hottest, for that is the safe mistake.
//!
//! A unit is settled once it was found several times in a row, and then only left when a number
//! does not fit it any more, several times in a row: one wrong number must not turn 45 °C into
//! 0.045 °C.

/// Numbers up to here may be tenths of a degree.
const MAX_TENTHS: i64 = 1500;
/// Numbers up to here may be whole degrees.
const MAX_WHOLE: i64 = 150;
/// So many numbers in a row settle the unit.
const SETTLED_BY: u8 = 3;

/// A unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// As documented.
    Thousandths,
    Tenths,
    Whole,
}

impl Unit {
    pub(super) fn celsius(self, raw: i64) -> f64 {
        let per_degree = match self {
            Self::Thousandths => 1000.0,
            Self::Tenths => 10.0,
            Self::Whole => 1.0,
        };
        float(raw) / per_degree
    }

    fn fits(self, raw: i64) -> bool {
        match self {
            Self::Thousandths => true,
            Self::Tenths => raw <= MAX_TENTHS,
            Self::Whole => raw <= MAX_WHOLE,
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "what needs more than 52 bits is absurd in any case"
)]
fn float(raw: i64) -> f64 {
    raw as f64
}

/// As documented.
pub(super) fn thousandths(raw: i64) -> f64 {
    Unit::Thousandths.celsius(raw)
}

/// Whether a number can only be thousandths, and says that it is not near freezing.
pub(super) fn is_surely_warm(raw: i64) -> bool {
    (2 * MAX_TENTHS..=MAX_WHOLE * 1000).contains(&raw)
}

/// A limit, of which there is only the one number: trip points are far above freezing, so a
/// small number is in another unit.
pub(super) fn of_limit(raw: i64) -> f64 {
    guess(raw, None).celsius(raw)
}

fn guess(raw: i64, warmth: Option<f64>) -> Unit {
    if !(1..=MAX_TENTHS).contains(&raw) {
        return Unit::Thousandths;
    }
    let Some(warmth) = warmth else {
        return if raw <= MAX_WHOLE {
            Unit::Whole
        } else {
            Unit::Tenths
        };
    };
    let off = |unit: &Unit| (unit.celsius(raw) - warmth).abs();
    [Unit::Thousandths, Unit::Tenths, Unit::Whole]
        .into_iter()
        .filter(|unit| unit.fits(raw))
        .min_by(|a, b| off(a).total_cmp(&off(b)))
        .unwrap_or(Unit::Thousandths)
}

/// What is known of a driver's unit.
#[derive(Debug, Default)]
pub(super) struct Scale {
    settled: Option<Unit>,
    /// What the last numbers looked like, and how many of them.
    guess: Option<(Unit, u8)>,
}

impl Scale {
    /// Degrees of a number, where it is as warm as that.
    pub(super) fn celsius(&mut self, raw: i64, warmth: Option<f64>) -> f64 {
        if let Some(settled) = self.settled.filter(|settled| settled.fits(raw)) {
            self.guess = None;
            return settled.celsius(raw);
        }
        let unit = guess(raw, warmth);
        let times = match self.guess {
            Some((before, times)) if before == unit => times + 1,
            Some(_) | None => 1,
        };
        if times >= SETTLED_BY {
            self.settled = Some(unit);
            self.guess = None;
        } else {
            self.guess = Some((unit, times));
        }
        self.settled.unwrap_or(unit).celsius(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(raws: &[i64], warmth: Option<f64>) -> Vec<f64> {
        let mut scale = Scale::default();
        raws.iter().map(|raw| scale.celsius(*raw, warmth)).collect()
    }

    #[test]
    fn the_documented_unit_is_known_by_its_size() {
        assert_eq!(all(&[45_000, -5_000, 1_501], None), [45.0, -5.0, 1.501]);
    }

    #[test]
    fn a_settled_unit_holds_near_freezing_and_through_one_wrong_number() {
        assert_eq!(
            all(&[4_000, 3_000, 2_000, 900, 40, 0, -300], None),
            [4.0, 3.0, 2.0, 0.9, 0.04, 0.0, -0.3]
        );
        let whole = all(&[45, 46, 47, 65_535, 48, 49], None);
        assert_eq!(whole, [45.0, 46.0, 47.0, 65_535.0, 48.0, 49.0]);
    }

    #[test]
    fn a_small_number_means_what_the_neighbours_say_or_else_the_hottest() {
        assert_eq!(all(&[48], Some(45.0)), [48.0]);
        assert_eq!(all(&[482], Some(45.0)), [48.2]);
        assert_eq!(all(&[120], Some(14.0)), [12.0]);
        assert_eq!(all(&[482], Some(3.0)), [0.482]);
        assert_eq!(all(&[48], None), [48.0]);
        assert_eq!(all(&[482], None), [48.2]);
    }

    #[test]
    fn a_unit_that_was_wrong_is_left_after_some_numbers() {
        let warming = all(&[300, 600, 900, 1_600, 1_700, 1_800, 45_000, 900], None);
        assert_eq!(warming[..3], [30.0, 60.0, 90.0], "in doubt, hot");
        assert_eq!(warming[5..], [1.8, 45.0, 0.9]);
    }

    #[test]
    fn limits_are_far_above_freezing() {
        assert!((of_limit(85_000) - 85.0).abs() < 1e-9);
        assert!((of_limit(85) - 85.0).abs() < 1e-9);
        assert!((of_limit(850) - 85.0).abs() < 1e-9);
    }
}
