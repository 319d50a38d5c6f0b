//! From what a model seems to believe to how often it is right.

use super::features::{Blend, Features};

/// Points of a curve. A suite of some hundred items tells no more of them apart.
pub const MAX_POINTS: usize = 256;

/// A curve from raw confidence (the product of the tokens' probabilities, or a blend of all that
/// they show) to the share of answers that are right: straight between its points, level before
/// the first and behind the last. It never falls, so that more confidence never counts for less.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    blend: Option<Blend>,
    points: Vec<(f64, f64)>,
}

/// How a curve was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// The closest curve that never falls, whatever its form.
    #[default]
    Isotonic,
    /// A sigmoid: two numbers, for when there are few labels.
    Platt,
}

impl Method {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Isotonic, Self::Platt];

    /// As it stands in a manifest.
    pub fn word(self) -> &'static str {
        match self {
            Self::Isotonic => "isotonic",
            Self::Platt => "platt",
        }
    }
}

impl Calibration {
    /// The curve through these points; the error says what would be right.
    pub fn new(points: Vec<(f64, f64)>) -> Result<Self, String> {
        if !(2..=MAX_POINTS).contains(&points.len()) {
            return Err(format!("2 to {MAX_POINTS} points"));
        }
        let within = |share: f64| (0.0..=1.0).contains(&share);
        if !points.iter().all(|(x, y)| within(*x) && within(*y)) {
            return Err("points of two numbers from 0 to 1".into());
        }
        let pairs = || points.iter().zip(points.iter().skip(1));
        if !pairs().all(|(before, after)| before.0 < after.0) {
            return Err("points whose first numbers rise".into());
        }
        if !pairs().all(|(before, after)| before.1 <= after.1) {
            return Err("points whose second numbers never fall".into());
        }
        Ok(Self {
            blend: None,
            points,
        })
    }

    /// The same curve, over a blend.
    #[must_use]
    pub fn over(self, blend: Option<Blend>) -> Self {
        Self { blend, ..self }
    }

    /// What it is over, if not the product.
    pub fn blend(&self) -> Option<&Blend> {
        self.blend.as_ref()
    }

    /// The raw confidence that it maps.
    pub fn raw(&self, features: &Features) -> f64 {
        let blend = self.blend.as_ref();
        blend.map_or_else(|| features.product(), |blend| blend.score(features))
    }

    /// The probability that an answer with these features is right.
    pub fn confidence(&self, features: &Features) -> f64 {
        self.probability(self.raw(features))
    }

    /// Its points.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// The probability that an answer of this raw confidence is right. What is no number counts
    /// as no confidence.
    pub fn probability(&self, raw: f64) -> f64 {
        if raw.is_nan() {
            return 0.0;
        }
        let behind = self.points.partition_point(|(x, _)| *x <= raw);
        match (behind.checked_sub(1), self.points.get(behind)) {
            (None, Some(first)) => first.1,
            (Some(last), None) => self.points[last].1,
            (Some(before), Some(after)) => {
                let before = self.points[before];
                let way = (raw - before.0) / (after.0 - before.0);
                (before.1 + way * (after.1 - before.1)).clamp(before.1, after.1)
            }
            (None, None) => 0.0, // a curve has two points
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_straight_between_its_points_and_level_outside() {
        let curve = Calibration::new(vec![(0.2, 0.1), (0.6, 0.5), (0.8, 0.9)]).unwrap();
        for (raw, probability) in [
            (-1.0, 0.1),
            (0.0, 0.1),
            (0.2, 0.1),
            (0.4, 0.3),
            (0.6, 0.5),
            (0.7, 0.7),
            (0.8, 0.9),
            (1.0, 0.9),
            (f64::INFINITY, 0.9),
            (f64::NAN, 0.0),
        ] {
            let said = curve.probability(raw);
            assert!((said - probability).abs() < 1e-12, "{raw}: {said}");
        }
    }

    #[test]
    fn a_curve_that_falls_or_leaves_the_square_is_none() {
        let level = |count: u16| {
            let step = |at| (f64::from(at) / f64::from(count), 0.5);
            Calibration::new((0..count).map(step).collect())
        };
        assert!(level(1).is_err());
        assert!(level(2).is_ok());
        assert!(level(256).is_ok());
        assert!(level(257).is_err());
        for bad in [
            vec![(0.0, 0.5), (1.0, 0.4)],
            vec![(0.5, 0.5), (0.5, 0.6)],
            vec![(0.6, 0.5), (0.5, 0.6)],
            vec![(-0.1, 0.5), (1.0, 0.6)],
            vec![(0.0, 0.5), (1.0, 1.1)],
            vec![(0.0, 0.5), (f64::NAN, 0.6)],
        ] {
            assert!(Calibration::new(bad.clone()).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn more_confidence_never_counts_for_less(
            xs in proptest::collection::btree_set(0u32..=1000, 2..20),
            mut ys in proptest::collection::vec(0u32..=1000, 20),
            a in -0.5f64..1.5,
            b in -0.5f64..1.5,
        ) {
            ys.sort_unstable();
            let points = xs.iter().zip(&ys);
            let points = points.map(|(x, y)| (f64::from(*x) / 1e3, f64::from(*y) / 1e3));
            let curve = Calibration::new(points.collect()).unwrap();
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(curve.probability(low) <= curve.probability(high));
            prop_assert!((0.0..=1.0).contains(&curve.probability(a)));
        }
    }
}
