//! Which confidence an answer takes to stay on the edge, where a site says how many errors it can
//! bear instead.

/// Points at most. They are for people to choose from; nobody tells more of them apart.
pub const MAX_TARGETS: usize = 64;

/// For each share of wrong answers, the least confidence that keeps to it. It was found by
/// labelled answers; a share that they are too few to promise has no point.
#[derive(Clone, Debug, PartialEq)]
pub struct RiskPoints {
    /// Shares rise, confidences never do.
    points: Vec<(f64, f64)>,
}

impl RiskPoints {
    /// These points; the error says what would be right.
    pub fn new(points: Vec<(f64, f64)>) -> Result<Self, String> {
        if !(1..=MAX_TARGETS).contains(&points.len()) {
            return Err(format!("1 to {MAX_TARGETS} points"));
        }
        let good =
            |(share, sure): &(f64, f64)| 0.0 < *share && *share < 1.0 && (0.0..=1.0).contains(sure);
        if !points.iter().all(good) {
            return Err("points of a share between 0 and 1, and a confidence from 0 to 1".into());
        }
        let pairs = || points.iter().zip(points.iter().skip(1));
        if !pairs().all(|(before, after)| before.0 < after.0) {
            return Err("points whose first numbers rise".into());
        }
        if !pairs().all(|(before, after)| before.1 >= after.1) {
            return Err("points whose second numbers never rise".into());
        }
        Ok(Self { points })
    }

    /// The least confidence that keeps to a share: that of the greatest share which is no greater.
    /// None where nothing so strict is promised.
    pub fn threshold(&self, share: f64) -> Option<f64> {
        let behind = self.points.partition_point(|(point, _)| *point <= share);
        let (_, sure) = self.points[..behind].last()?;
        Some(*sure)
    }

    /// Its points.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_shares_the_stricter_one_counts() {
        let points = RiskPoints::new(vec![(0.05, 0.9), (0.1, 0.5), (0.2, 0.5)]).unwrap();
        for (share, sure) in [
            (0.049, None),
            (0.05, Some(0.9)),
            (0.09, Some(0.9)),
            (0.1, Some(0.5)),
            (0.9, Some(0.5)),
            (f64::NAN, None),
        ] {
            assert_eq!(points.threshold(share), sure, "{share}");
        }
    }

    #[test]
    fn points_that_contradict_each_other_are_none() {
        let level = |count: u8| {
            let point = |at| (f64::from(at) / 100.0, 0.5);
            RiskPoints::new((1..=count).map(point).collect())
        };
        assert!(level(0).is_err());
        assert!(level(1).is_ok());
        assert!(level(64).is_ok());
        assert!(level(65).is_err());
        for bad in [
            vec![(0.05, 0.5), (0.1, 0.6)],
            vec![(0.1, 0.5), (0.1, 0.4)],
            vec![(0.1, 0.5), (0.05, 0.4)],
            vec![(0.0, 0.5)],
            vec![(1.0, 0.5)],
            vec![(0.5, 1.1)],
            vec![(0.5, f64::NAN)],
            vec![(f64::NAN, 0.5)],
        ] {
            assert!(RiskPoints::new(bad.clone()).is_err(), "{bad:?}");
        }
    }
}
