//! From labels to a calibration, and to what it is worth on labels that it has not seen.
//!
//! | Labels | Curve |
//! | --- | --- |
//! | below [`LEAST`] | none: [`TooFew`] |
//! | below [`ISOTONIC_FROM`] | Platt's sigmoid over the log-odds: two numbers |
//! | from there on | the sigmoid, or isotonic by the rules of [`isotonic`] where that is clearly better |
//!
//! From [`BLEND_FROM`] labels on, a [`blend`] of all features is tried beside the product. Of
//! what was tried, the plainest is taken that no other beats clearly, by how little the answers
//! that it has not seen surprise it. The blocks of an isotonic curve cost ranking, and what they
//! learn of one sample's accidents costs honesty on the next; so it has to earn its place.
//!
//! Evidence is cross-fitted: the labels are dealt into [`FOLDS`] hands, and each hand is judged by
//! what the others taught ([`crossed`]). What is then handed out was fitted on all of them, so it
//! is a little better than what is told of it.

use super::figures::is_clearly_better;
use super::isotonic::{self, Block, POINTS, pooled, rising, thinned};
use super::logistic::{self, Label, Prior};
use super::{Sample, Told, TooFew, blend, share_of};
use crate::package::features::{odds, sigmoid};
use crate::package::{Blend, Calibration, Method};

/// Labels below which nothing is fitted: one wrong answer more would be a different curve.
pub const LEAST: usize = 40;
/// Labels from which a free form is more than those labels' own.
pub const ISOTONIC_FROM: usize = 200;
/// Labels from which a blend is tried.
pub const BLEND_FROM: usize = 400;
/// Hands that labels are dealt into.
pub const FOLDS: usize = 10;
/// Log-odds between which a sigmoid is drawn: a manifest tells nothing nearer to certainty apart.
const FURTHEST: f64 = 12.0;
/// A calibration that was fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// How.
    pub method: Method,
    /// The curve, and what it is over.
    pub calibration: Calibration,
}

/// What the curve is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Product,
    Blend,
}

/// The ways, the plainest first.
const WAYS: [(Over, Method); 4] = [
    (Over::Product, Method::Platt),
    (Over::Product, Method::Isotonic),
    (Over::Blend, Method::Platt),
    (Over::Blend, Method::Isotonic),
];

/// The calibration that fits these labels.
pub fn fit(samples: &[Sample]) -> Result<Fitted, TooFew> {
    if samples.len() < ISOTONIC_FROM {
        return by(samples, (Over::Product, Method::Platt));
    }
    let tried = |way: (Over, Method)| crossed(samples, |others| by(others, way)).ok();
    let mut best = WAYS[0];
    let mut told = tried(best).unwrap_or_default();
    for way in &WAYS[1..] {
        if way.0 == Over::Blend && samples.len() < BLEND_FROM {
            continue;
        }
        if let Some(other) = tried(*way)
            && is_clearly_better(&other, &told)
        {
            (best, told) = (*way, other);
        }
    }
    by(samples, best)
}

/// The calibration that fits these labels in one way.
fn by(samples: &[Sample], (over, method): (Over, Method)) -> Result<Fitted, TooFew> {
    let too_few = |need| TooFew {
        have: samples.len(),
        need,
    };
    if samples.len() < LEAST {
        return Err(too_few(LEAST));
    }
    let blend = match over {
        Over::Product => None,
        Over::Blend => Some(blend::fit(samples).ok_or(too_few(BLEND_FROM))?),
    };
    let told: Vec<Told> = samples.iter().map(|it| raw(it, blend.as_ref())).collect();
    let curve = match method {
        Method::Platt => platt(&told),
        Method::Isotonic => isotonic_curve(&told),
    };
    Ok(Fitted {
        method,
        calibration: curve.ok_or(too_few(LEAST))?.over(blend),
    })
}

fn raw(sample: &Sample, blend: Option<&Blend>) -> Told {
    Told {
        sure: match blend {
            Some(blend) => blend.score(&sample.features),
            None => sample.features.product(),
        },
        right: sample.right,
    }
}

/// What each answer is told by a calibration that has not seen it; in the order of the samples.
pub fn crossed(
    samples: &[Sample],
    fit: impl Fn(&[Sample]) -> Result<Fitted, TooFew>,
) -> Result<Vec<Told>, TooFew> {
    let taught = (0..FOLDS)
        .map(|hand| {
            let others = samples.iter().enumerate();
            let others: Vec<_> = others
                .filter(|(at, _)| at % FOLDS != hand)
                .map(|(_, sample)| *sample)
                .collect();
            fit(&others)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let told = samples.iter().enumerate().map(|(at, sample)| Told {
        sure: (taught[at % FOLDS].calibration).confidence(&sample.features),
        right: sample.right,
    });
    Ok(told.collect())
}

fn isotonic_curve(told: &[Told]) -> Option<Calibration> {
    let labels = told.iter().map(|it| Block {
        weight: 1.0,
        at: it.sure,
        right: f64::from(u8::from(it.right)),
    });
    let blocks = pooled(labels.collect());
    isotonic::curve(&thinned(blocks, POINTS - 2)) // the two ends are points too
}

/// Platt's sigmoid, with his targets: no label counts as certain, so that a separation of right
/// from wrong does not claim to be perfect. A slope that would fall is level.
fn platt(told: &[Told]) -> Option<Calibration> {
    let right = share_of(told.iter().filter(|it| it.right).count());
    let wrong = share_of(told.len()) - right;
    let (high, low) = ((right + 1.0) / (right + 2.0), 1.0 / (wrong + 2.0));
    let labels: Vec<_> = (told.iter())
        .map(|it| Label {
            terms: [1.0, odds(it.sure)],
            target: if it.right { high } else { low },
        })
        .collect();
    // As if one label said that confidence is honest as it is.
    let prior = Prior {
        weights: [0.0, 1.0],
        labels: [1e-6, 1.0],
    };
    let [shift, slope] = logistic::fit(&labels, &prior)?;
    if slope <= 0.0 {
        let level = labels.iter().map(|label| label.target).sum::<f64>();
        let level = level / share_of(labels.len());
        return rising([(0.0, level), (1.0, level)]);
    }
    let said = |raw: f64| (raw, sigmoid(slope * odds(raw) + shift));
    // Evenly over the log-odds, where the sigmoid bends.
    let inner = (0..=2 * POINTS).map(|at| {
        let way = share_of(at) / share_of(POINTS) - 1.0;
        said(sigmoid(way * FURTHEST))
    });
    rising([said(0.0)].into_iter().chain(inner).chain([said(1.0)]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::package::Features;
    use crate::router::confidence::figures::{brier, calibration_error};

    /// Answers that are right as often as the square of what they claim.
    fn overbold(count: usize, seed: u64) -> Vec<Sample> {
        let mut chance = fastrand::Rng::with_seed(seed);
        let sample = |_| {
            let claimed = 0.3 + 0.69 * chance.f32();
            Sample {
                features: Features::of([(claimed.ln(), 0.1)], []),
                right: chance.f32() < claimed * claimed,
            }
        };
        (0..count).map(sample).collect()
    }

    fn told(samples: &[Sample], by: Option<&Calibration>) -> Vec<Told> {
        let sure = |it: &Sample| match by {
            Some(by) => by.confidence(&it.features),
            None => it.features.product(),
        };
        let told = samples.iter().map(|it| Told {
            sure: sure(it),
            right: it.right,
        });
        told.collect()
    }

    #[test]
    fn few_labels_make_a_sigmoid_many_a_free_form_and_hardly_any_nothing() {
        let error = fit(&overbold(LEAST - 1, 1)).unwrap_err();
        assert_eq!((error.have, error.need), (LEAST - 1, LEAST));
        assert!(
            error.to_string().contains("39 labels are too few"),
            "{error}"
        );
        for count in [LEAST, ISOTONIC_FROM - 1] {
            let fitted = fit(&overbold(count, 1)).unwrap();
            assert_eq!(fitted.method, Method::Platt, "{count}");
        }
    }

    #[test]
    fn a_form_that_no_sigmoid_has_is_found_where_there_are_labels_for_it() {
        // Right in half of the cases up to a claim of 0.9, and always above.
        let mut chance = fastrand::Rng::with_seed(4);
        let sample = |_| {
            let claimed = 0.02 + 0.97 * chance.f32();
            Sample {
                features: Features::of([(claimed.ln(), 0.1)], []),
                right: claimed > 0.9 || chance.bool(),
            }
        };
        let samples: Vec<_> = (0..2000).map(sample).collect();
        let fitted = fit(&samples).unwrap();
        assert_eq!(fitted.method, Method::Isotonic);
        let said = |raw| fitted.calibration.probability(raw);
        assert!((said(0.5) - 0.5).abs() < 0.1 && said(0.97) > 0.98);
    }

    #[test]
    fn calibrated_confidence_is_honest_on_answers_that_were_not_fitted() {
        let unseen = overbold(20_000, 99);
        let before = calibration_error(&told(&unseen, None), 10).unwrap();
        assert!(before > 0.1, "{before}");
        for (count, most) in [(180, 0.09), (3000, 0.035)] {
            let fitted = fit(&overbold(count, 7)).unwrap();
            let after = calibration_error(&told(&unseen, Some(&fitted.calibration)), 10);
            assert!(after.unwrap() < most, "{count}: {after:?}");
        }
    }

    #[test]
    fn one_figure_alone_is_not_blended() {
        let fitted = fit(&overbold(1000, 5)).unwrap();
        assert_eq!(fitted.calibration.blend(), None);
    }

    #[test]
    fn what_is_crossed_has_not_seen_the_answer_it_judges() {
        // Every answer claims the same, and each tenth is wrong; a hand of wrong ones alone is
        // judged by others that are all right.
        let sample = |at: usize| Sample {
            features: Features::of([(-0.5, 0.1)], []),
            right: !at.is_multiple_of(FOLDS),
        };
        let samples: Vec<_> = (0..500).map(sample).collect();
        let told = crossed(&samples, fit).unwrap();
        let least = told.iter().filter(|it| !it.right).map(|it| it.sure);
        assert!(least.fold(1.0, f64::min) > 0.99);
        assert!(brier(&told).unwrap() > 0.09);
    }

    #[test]
    fn a_sigmoid_never_falls_even_where_the_surest_are_wrong() {
        let sample = |at: u8| Sample {
            features: Features::of([((f32::from(at) / 101.0).ln(), 0.1)], []),
            right: at < 50,
        };
        let samples: Vec<_> = (1..=100).map(sample).collect();
        let fitted = fit(&samples).unwrap();
        assert_eq!(fitted.method, Method::Platt);
        let points = fitted.calibration.points();
        assert!((points[0].1 - points[points.len() - 1].1).abs() < 1e-9);
        assert!((points[0].1 - 0.49).abs() < 0.02, "{points:?}");
    }

    proptest! {
        #[test]
        fn whatever_the_labels_say_there_is_a_curve(
            labels in proptest::collection::vec((-20.0f32..=0.0, 0.0f32..3.0, any::<bool>()), LEAST..500),
        ) {
            let sample = |(logprob, entropy, right): (f32, f32, bool)| Sample {
                features: Features::of([(logprob, entropy), (logprob / 3.0, 0.2)], []),
                right,
            };
            let samples: Vec<_> = labels.into_iter().map(sample).collect();
            let fitted = fit(&samples);
            prop_assert!(fitted.is_ok(), "{fitted:?}");
        }
    }
}
