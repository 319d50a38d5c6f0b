//! A share of errors that a site can bear, in place of a threshold.
//!
//! **What is promised.** Of all requests that come to the edge, at most the target's share is
//! answered wrongly *and* stays there; on average over samples like this one, whatever the model.
//! The share among what stays is larger, because less stays: it is told beside it, not promised,
//! because it does not rise with the threshold steadily, and only then does the promise hold.
//!
//! **How.** Conformal risk control: over `n` labelled answers, the errors that stay at a
//! threshold can only become fewer as it rises. The least threshold is taken at which
//!
//! ```text
//!   n/(n+1) · risk + 1/(n+1) ≤ target
//! ```
//!
//! where the last term counts the answer to come as if it were wrong. So `target·(n+1) − 1` wrong
//! answers may stay, and the threshold lies just above the surest of those that may not.
//!
//! A package keeps the thresholds for [`TARGETS`], found on its gate suite ([`points`]), so that a
//! device only looks up what its site asks for.
//!
//! **How it fails.** With so few labels that even no error leaves the promise open (18 for one of
//! twenty), nothing stays on the edge: [`Stays::Nothing`] says how many it takes.
//!
//! The promise is about requests like the labelled ones. A line that changes breaks it, which the
//! drift alarm of [`super::refit`] is for.

use super::{Told, TooFew, share_of};
use crate::package::RiskPoints;

/// A share of errors, more than nothing and less than all.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Target(f64);

impl Target {
    /// The target, if it is one.
    pub fn new(share: f64) -> Option<Self> {
        (share > 0.0 && share < 1.0).then_some(Self(share))
    }

    /// As a share.
    pub fn share(self) -> f64 {
        self.0
    }

    /// Labels that it takes at least.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a target is above 0, and a conversion of floats saturates"
    )]
    pub fn labels(self) -> usize {
        (1.0 / self.0 - 1.0 - ROUNDING).ceil() as usize
    }
}

/// The shares that a package has thresholds for, from the strictest that some hundred labels can
/// promise to where a threshold hardly sends anything on.
pub const TARGETS: [f64; 10] = [0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5];
/// Thresholds are rounded up to so many steps from 0 to 1: a manifest stays readable.
const STEPS: f64 = 1e6;
/// And lie above the error that must not stay by more than a reply's confidence is rounded by.
const NARROW: f64 = 1e-7;

/// What is let through for the rounding of a share such as 0.05.
const ROUNDING: f64 = 1e-9;

/// What stays on the edge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stays {
    /// Answers at least this sure.
    From(f64),
    /// No answer, because nothing can be promised.
    Nothing(TooFew),
}

impl Stays {
    /// Whether an answer stays.
    pub fn keeps(self, sure: f64) -> bool {
        match self {
            Self::From(threshold) => sure >= threshold,
            Self::Nothing(_) => false,
        }
    }
}

/// What stays, so that the errors among all requests keep to the target.
pub fn control(labels: &[Told], target: Target) -> Stays {
    if labels.len() < target.labels() {
        return Stays::Nothing(TooFew {
            have: labels.len(),
            need: target.labels(),
        });
    }
    let mut wrong: Vec<f64> = labels
        .iter()
        .filter(|it| !it.right)
        .map(|it| it.sure)
        .collect();
    wrong.sort_by(|a, b| b.total_cmp(a));
    match wrong.get(allowed(labels.len(), target)) {
        // The threshold is just above it, so that those equal to it go with it.
        Some(surest) => Stays::From(surest.next_up()),
        None => Stays::From(0.0),
    }
}

/// The thresholds for these shares and for [`TARGETS`], as a package keeps them. A share that the
/// labels are too few to promise has none, nor one that only certainty beyond 1 would keep to;
/// none at all where that is so for each.
pub fn points(labels: &[Told], also: Option<Target>) -> Option<RiskPoints> {
    let mut shares = TARGETS.to_vec();
    shares.extend(also.map(Target::share));
    shares.sort_by(f64::total_cmp);
    shares.dedup();
    let points = shares.into_iter().filter_map(|share| {
        let threshold = match control(labels, Target::new(share)?) {
            Stays::From(0.0) => 0.0,
            Stays::From(threshold) => (((threshold + NARROW) * STEPS).floor() + 1.0) / STEPS,
            Stays::Nothing(_) => return None,
        };
        (threshold <= 1.0).then_some((share, threshold))
    });
    RiskPoints::new(points.collect()).ok()
}

/// Wrong answers that may stay among so many.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "below the number of labels, and a negative one counts as none"
)]
fn allowed(labels: usize, target: Target) -> usize {
    (target.share() * (share_of(labels) + 1.0) - 1.0 + ROUNDING).floor() as usize
}

/// What became of answers under a rule about what stays.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Kept {
    /// The share that stayed.
    pub coverage: f64,
    /// The share that stayed and was wrong: what the target is about.
    pub risk: f64,
    /// The share of errors among those that stayed; none where none did.
    pub risk_among_kept: Option<f64>,
}

/// What a rule makes of these answers.
pub fn kept(told: &[Told], stays: Stays) -> Kept {
    let staying = || told.iter().filter(|it| stays.keeps(it.sure));
    let count = share_of(staying().count());
    let wrong = share_of(staying().filter(|it| !it.right).count());
    let all = share_of(told.len().max(1));
    Kept {
        coverage: count / all,
        risk: wrong / all,
        risk_among_kept: (count > 0.0).then(|| wrong / count),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(sure: f64, right: bool) -> Told {
        Told { sure, right }
    }

    fn target(share: f64) -> Target {
        Target::new(share).unwrap()
    }

    #[test]
    fn too_few_labels_promise_nothing() {
        let labels: Vec<_> = (0..18).map(|_| told(0.99, true)).collect();
        let few = TooFew { have: 18, need: 19 };
        let stays = control(&labels, target(0.05));
        assert_eq!(stays, Stays::Nothing(few));
        assert!(!stays.keeps(1.0));
        let labels = [labels, vec![told(0.99, true)]].concat();
        assert_eq!(control(&labels, target(0.05)), Stays::From(0.0));
        assert_eq!((target(0.01).labels(), target(0.5).labels()), (99, 1));
    }

    #[test]
    fn the_threshold_lies_just_above_the_surest_error_that_may_not_stay() {
        // 59 labels at 5 %: 0.05 · 60 − 1 = 2 errors may stay.
        let wrong = [0.9, 0.8, 0.7, 0.6].map(|sure| told(sure, false));
        let mut labels = wrong.to_vec();
        labels.extend((0..55).map(|_| told(0.95, true)));
        let stays = control(&labels, target(0.05));
        assert_eq!(stays, Stays::From(0.7_f64.next_up()));
        assert!(stays.keeps(0.75) && !stays.keeps(0.7));
        let kept = kept(&labels, stays);
        assert!((kept.risk - 2.0 / 59.0).abs() < 1e-12);
        assert!((kept.risk_among_kept.unwrap() - 2.0 / 57.0).abs() < 1e-12);
        // Equals are not parted: with a third error at 0.8 only the one at 0.9 can stay.
        labels[2].sure = 0.8;
        assert_eq!(
            control(&labels, target(0.05)),
            Stays::From(0.8_f64.next_up())
        );
    }

    #[test]
    fn a_target_is_more_than_nothing_and_less_than_all() {
        for share in [0.0, 1.0, -0.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Target::new(share), None, "{share}");
        }
    }

    #[test]
    fn over_many_samples_the_mean_risk_keeps_to_the_target() {
        let mut chance = fastrand::Rng::with_seed(11);
        let mut draw = |count: usize| -> Vec<Told> {
            let answer = |_| {
                let sure = chance.f64();
                // Worse than it claims.
                told(sure, chance.f64() < sure * sure)
            };
            (0..count).map(answer).collect()
        };
        let (mut risk, mut coverage) = (0.0, 0.0);
        for _ in 0..2000 {
            let labels = draw(40);
            let fresh = draw(50);
            let found = kept(&fresh, control(&labels, target(0.1)));
            risk += found.risk / 2000.0;
            coverage += found.coverage / 2000.0;
        }
        assert!(risk <= 0.1, "{risk}");
        // And it is no empty promise: less than one label's worth is given away.
        assert!(risk > 0.1 - 1.5 / 41.0, "{risk}");
        assert!(coverage > 0.2, "{coverage}");
    }

    #[test]
    fn a_package_keeps_what_can_be_promised_and_nothing_stricter() {
        // 59 labels: one error may stay at 5 %, more at 10 %; 2 % takes 49 labels, and no error.
        let mut labels = [0.9, 0.8, 0.7, 0.6].map(|sure| told(sure, false)).to_vec();
        labels.extend((0..55).map(|_| told(0.95, true)));
        let found = points(&labels, Target::new(0.06)).unwrap();
        let threshold = |share| found.threshold(share);
        assert_eq!(threshold(0.01), None);
        assert_eq!(threshold(0.02), Some(0.900_001));
        assert_eq!(threshold(0.05), Some(0.700_001));
        assert_eq!(threshold(0.06), Some(0.700_001));
        assert_eq!(threshold(0.075), Some(0.600_001));
        assert_eq!(threshold(0.1), Some(0.0));
        assert_eq!(found.points().len(), TARGETS.len());
        // An error that could not be surer leaves nothing that would stay.
        let certain = [vec![told(1.0, false)], labels].concat();
        assert_eq!(points(&certain, None).unwrap().threshold(0.02), None);
        assert_eq!(points(&labels_of(18), None).unwrap().threshold(0.05), None);
        assert_eq!(points(&[], None), None);
    }

    fn labels_of(count: usize) -> Vec<Told> {
        (0..count).map(|_| told(0.99, true)).collect()
    }

    proptest! {
        #[test]
        fn a_point_that_is_kept_is_no_laxer_than_the_threshold_that_it_stands_for(
            labels in proptest::collection::vec((0.0f64..=1.0, any::<bool>()), 1..200),
        ) {
            let labels: Vec<_> = labels.iter().map(|&(sure, right)| told(sure, right)).collect();
            for share in TARGETS {
                let kept = points(&labels, None).and_then(|it| it.threshold(share));
                if let (Some(kept), Stays::From(exact)) = (kept, control(&labels, target(share))) {
                    prop_assert!(kept >= exact && kept <= exact + 2.0 / STEPS, "{} {}", kept, exact);
                }
            }
        }

        #[test]
        fn the_bound_holds_at_the_threshold_and_not_below_the_next_error(
            labels in proptest::collection::vec((0u8..=50, any::<bool>()), 1..200),
            share in 0.01f64..0.9,
        ) {
            let labels: Vec<_> = labels.iter().map(|&(sure, right)| told(f64::from(sure) / 50.0, right)).collect();
            let n = share_of(labels.len());
            let bound = |stays| n / (n + 1.0) * kept(&labels, stays).risk + 1.0 / (n + 1.0);
            match control(&labels, target(share)) {
                Stays::Nothing(few) => {
                    prop_assert!(few.have < few.need);
                    prop_assert!(1.0 / (n + 1.0) > share - 1e-9);
                }
                Stays::From(threshold) => {
                    prop_assert!(bound(Stays::From(threshold)) <= share + 1e-6);
                    if threshold > 0.0 {
                        prop_assert!(bound(Stays::From(threshold.next_down())) > share - 1e-6);
                    }
                }
            }
        }

        #[test]
        fn a_stricter_target_keeps_no_more(
            labels in proptest::collection::vec((0u8..=50, any::<bool>()), 1..200),
            strict in 0.01f64..0.5,
            more in 0.0f64..0.4,
        ) {
            let labels: Vec<_> = labels.iter().map(|&(sure, right)| told(f64::from(sure) / 50.0, right)).collect();
            let few = kept(&labels, control(&labels, target(strict)));
            let many = kept(&labels, control(&labels, target(strict + more)));
            prop_assert!(few.coverage <= many.coverage);
        }
    }
}
