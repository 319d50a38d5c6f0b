//! How good a confidence is: honesty (ECE, Brier, log loss) and ranking (AUROC, AURC).
//!
//! | Figure | What it says | Best |
//! | --- | --- | --- |
//! | ECE | how far confidence is from the share that is right, on average over bins | 0 |
//! | Brier | mean square of confidence minus outcome | 0 |
//! | log loss | mean surprise at the outcome, in nats | 0 |
//! | AUROC | the chance that a right answer is surer than a wrong one | 1 |
//! | AURC | the mean share of errors among what is kept, over all shares that are kept | 0 |
//!
//! Answers of equal confidence are not ordered among themselves: a bin's edge does not part them,
//! they are kept or dropped together, and in AUROC each such pair counts half. So no figure
//! depends on the order in which the answers come.

use super::{Told, share_of};

/// Bins of the calibration error. With more, chance alone makes an error where labels are few.
pub const BINS: usize = 10;
/// Nearer to certainty a surprise is not counted: one outcome must not make the whole figure.
const NEAREST: f64 = 1e-6;

/// All figures of one set of answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// How many answers.
    pub count: usize,
    /// The share that is right.
    pub right: f64,
    /// The expected calibration error over bins of equal mass.
    pub ece: f64,
    /// The Brier score.
    pub brier: f64,
    /// The area under the risk-coverage curve.
    pub aurc: f64,
    /// The area under the ROC curve; none where all are right, or all wrong.
    pub auroc: Option<f64>,
}

impl Figures {
    /// Of these answers; none of nothing.
    pub fn of(told: &[Told]) -> Option<Self> {
        Some(Self {
            count: told.len(),
            right: mean(told, |it| f64::from(u8::from(it.right)))?,
            ece: calibration_error(told, BINS)?,
            brier: brier(told)?,
            aurc: aurc(told)?,
            auroc: auroc(told),
        })
    }
}

/// Some answers of like confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// How many.
    pub count: usize,
    /// Their mean confidence.
    pub sure: f64,
    /// The share that is right.
    pub right: f64,
}

/// Bins of equal mass, the least sure first. A bin that would end between equals takes all of
/// them, so there may be fewer.
pub fn bins(told: &[Told], count: usize) -> Vec<Bin> {
    let ranked = ranked(told);
    let mut bins = Vec::new();
    let mut start = 0;
    for bin in 1..=count {
        let mut end = (ranked.len() * bin).div_ceil(count.max(1));
        while end > 0 && ranked.get(end).is_some_and(|it| same(it, &ranked[end - 1])) {
            end += 1;
        }
        if end <= start {
            continue;
        }
        let inside = &ranked[start..end];
        bins.push(Bin {
            count: inside.len(),
            sure: mean(inside, |it| it.sure).unwrap_or(0.0),
            right: mean(inside, |it| f64::from(u8::from(it.right))).unwrap_or(0.0),
        });
        start = end;
    }
    bins
}

/// The expected calibration error over so many bins of equal mass; none of nothing.
pub fn calibration_error(told: &[Told], count: usize) -> Option<f64> {
    let off = bins(told, count).into_iter();
    let off: f64 = off
        .map(|bin| share_of(bin.count) * (bin.sure - bin.right).abs())
        .sum();
    (!told.is_empty()).then(|| off / share_of(told.len()))
}

/// The mean square of confidence minus outcome; none of nothing.
pub fn brier(told: &[Told]) -> Option<f64> {
    mean(told, |it| (it.sure - f64::from(u8::from(it.right))).powi(2))
}

/// The mean surprise in nats; none of nothing.
pub fn log_loss(told: &[Told]) -> Option<f64> {
    mean(told, surprise)
}

fn surprise(told: &Told) -> f64 {
    let sure = if told.right {
        told.sure
    } else {
        1.0 - told.sure
    };
    -sure.max(NEAREST).ln()
}

/// Whether the same answers surprise `one` clearly less than `other`: by more than twice the
/// standard error of the difference, taken answer by answer. Less than that may be chance.
pub fn is_clearly_better(one: &[Told], other: &[Told]) -> bool {
    let pairs = one.iter().zip(other);
    let spared: Vec<f64> = pairs
        .map(|(one, other)| surprise(other) - surprise(one))
        .collect();
    let count = share_of(spared.len());
    let mean = spared.iter().sum::<f64>() / count;
    let spread = spared.iter().map(|it| (it - mean).powi(2)).sum::<f64>();
    mean > 2.0 * (spread / count / (count - 1.0)).sqrt() // nothing, or one answer, is never clear
}

/// The chance that a right answer is surer than a wrong one; none without both.
pub fn auroc(told: &[Told]) -> Option<f64> {
    let right = told.iter().filter(|it| it.right).count();
    let wrong = told.len() - right;
    if right == 0 || wrong == 0 {
        return None;
    }
    // Of each right answer: the wrong ones that are less sure, and half of those that are as sure.
    let mut below = 0;
    let mut won = 0.0;
    for equals in ranked(told).chunk_by(same) {
        let good = equals.iter().filter(|it| it.right).count();
        let bad = equals.len() - good;
        won += share_of(good) * (share_of(below) + share_of(bad) / 2.0);
        below += bad;
    }
    Some(won / (share_of(right) * share_of(wrong)))
}

/// For each way to keep the surest answers: the share that is kept, and the share of errors in it.
pub fn risk_coverage(told: &[Told]) -> Vec<(f64, f64)> {
    let mut ranked = ranked(told);
    ranked.reverse();
    let (mut kept, mut wrong) = (0, 0);
    let mut curve = Vec::new();
    for equals in ranked.chunk_by(same) {
        kept += equals.len();
        wrong += equals.iter().filter(|it| !it.right).count();
        let coverage = share_of(kept) / share_of(ranked.len());
        curve.push((coverage, share_of(wrong) / share_of(kept)));
    }
    curve
}

/// The area under the risk-coverage curve, the mean risk over all coverages; none of nothing.
pub fn aurc(told: &[Told]) -> Option<f64> {
    let mut before = 0.0;
    let area = risk_coverage(told).into_iter().map(|(coverage, risk)| {
        let width = coverage - before;
        before = coverage;
        width * risk
    });
    let area = area.sum();
    (!told.is_empty()).then_some(area)
}

/// The least sure first.
fn ranked(told: &[Told]) -> Vec<Told> {
    let mut ranked = told.to_vec();
    ranked.sort_by(|a, b| a.sure.total_cmp(&b.sure));
    ranked
}

fn same(a: &Told, b: &Told) -> bool {
    a.sure.total_cmp(&b.sure).is_eq()
}

fn mean(told: &[Told], of: impl Fn(&Told) -> f64) -> Option<f64> {
    let sum: f64 = told.iter().map(of).sum();
    (!told.is_empty()).then(|| sum / share_of(told.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(of: &[(f64, bool)]) -> Vec<Told> {
        let of = of.iter();
        of.map(|&(sure, right)| Told { sure, right }).collect()
    }

    fn near(found: Option<f64>, wanted: f64) {
        let found = found.unwrap();
        assert!((found - wanted).abs() < 1e-12, "{found}, not {wanted}");
    }

    #[test]
    fn nothing_has_no_figures() {
        assert_eq!(Figures::of(&[]), None);
        assert_eq!(log_loss(&[]), None);
    }

    #[test]
    fn figures_are_those_reckoned_by_hand() {
        let it = told(&[(0.2, false), (0.4, true), (0.6, false), (0.8, true)]);
        // Bins of two: said 0.3 against 1/2, and 0.7 against 1/2.
        near(calibration_error(&it, 2), 0.2);
        near(brier(&it), (0.04 + 0.36 + 0.36 + 0.04) / 4.0);
        // Of the four pairs of right and wrong only 0.4 against 0.6 is in the wrong order.
        near(auroc(&it), 0.75);
        // Kept one by one from the surest: no error, 1 of 2, 1 of 3, 2 of 4.
        near(aurc(&it), (0.0 + 0.5 + 1.0 / 3.0 + 0.5) / 4.0);
        near(log_loss(&told(&[(0.5, true), (0.5, false)])), 2.0_f64.ln());
    }

    #[test]
    fn equals_are_not_parted() {
        let it = told(&[(0.5, true), (0.5, false), (0.5, true), (0.9, true)]);
        assert_eq!(bins(&it, 2).len(), 2);
        assert_eq!(bins(&it, 4)[0].count, 3);
        near(auroc(&it), (1.0 + 0.5 + 0.5) / 3.0);
        assert_eq!(risk_coverage(&it), [(0.25, 0.0), (1.0, 0.25)]);
    }

    #[test]
    fn better_by_chance_is_not_clearly_better() {
        let sure = |sure: f64, wrong: usize| -> Vec<Told> {
            let answer = |at: usize| Told {
                sure,
                right: at >= wrong,
            };
            (0..100).map(answer).collect()
        };
        // Ten wrong of a hundred: 0.9 is the truth, 0.5 is far off, 0.88 is not.
        assert!(is_clearly_better(&sure(0.9, 10), &sure(0.5, 10)));
        assert!(!is_clearly_better(&sure(0.9, 10), &sure(0.88, 10)));
        assert!(!is_clearly_better(&sure(0.5, 10), &sure(0.9, 10)));
        assert!(!is_clearly_better(&[], &[]));
        assert!(!is_clearly_better(&sure(0.9, 0)[..1], &sure(0.5, 0)[..1]));
    }

    #[test]
    fn a_sure_mistake_costs_much_but_not_all() {
        let it = told(&[(1.0, false)]);
        assert!(log_loss(&it).unwrap().is_finite());
        near(brier(&it), 1.0);
        assert_eq!(auroc(&it), None);
    }

    proptest! {
        #[test]
        fn figures_stay_in_their_limits_and_do_not_know_an_order(
            mut of in proptest::collection::vec((0u8..=20, any::<bool>()), 1..60),
            shuffle in any::<u64>(),
        ) {
            let make = |of: &[(u8, bool)]| {
                let of = of.iter();
                of.map(|&(sure, right)| Told { sure: f64::from(sure) / 20.0, right }).collect::<Vec<_>>()
            };
            let one = Figures::of(&make(&of)).unwrap();
            for share in [one.right, one.ece, one.brier, one.aurc, one.auroc.unwrap_or(0.5)] {
                prop_assert!((-1e-9..=1.0 + 1e-9).contains(&share), "{one:?}");
            }
            fastrand::Rng::with_seed(shuffle).shuffle(&mut of);
            let other = Figures::of(&make(&of)).unwrap();
            prop_assert!((one.ece - other.ece).abs() < 1e-9);
            prop_assert!((one.aurc - other.aurc).abs() < 1e-9);
            prop_assert_eq!(one.auroc.is_some(), other.auroc.is_some());
        }

        #[test]
        fn a_ranking_is_as_good_whatever_its_scale(
            of in proptest::collection::vec((1u16..1000, any::<bool>()), 2..60),
        ) {
            let scaled = |power: i32| -> Vec<Told> {
                let of = of.iter();
                of.map(|&(sure, right)| Told { sure: (f64::from(sure) / 1e3).powi(power), right }).collect()
            };
            prop_assert_eq!(auroc(&scaled(1)), auroc(&scaled(2)));
            prop_assert_eq!(aurc(&scaled(1)), aurc(&scaled(2)));
        }

        #[test]
        fn bins_hold_every_answer_once(
            of in proptest::collection::vec((0u8..=5, any::<bool>()), 1..60),
            count in 1usize..12,
        ) {
            let of: Vec<_> = of.iter().map(|&(sure, right)| Told { sure: f64::from(sure) / 5.0, right }).collect();
            let bins = bins(&of, count);
            prop_assert_eq!(bins.iter().map(|bin| bin.count).sum::<usize>(), of.len());
            prop_assert!(bins.windows(2).all(|pair| pair[0].sure < pair[1].sure));
        }
    }
}
