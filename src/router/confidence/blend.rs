//! One figure of all features: logistic regression towards the product alone.
//!
//! Each term of [`Features`] is brought to mean 0 and deviation 1, so that the penalty means the
//! same for all. What the labels do not speak for stays as it is without a blend.
//!
//! How it fails: with fewer than [`LEAST_OF_EACH`] right or wrong answers there is none; the
//! caller then believes the product.
//!
//! [`Features`]: crate::package::Features

use super::logistic::{self, Label, Prior};
use super::{Sample, share_of};
use crate::package::Blend;
use crate::package::features::TERMS;

/// Right answers, and wrong ones, below which a blend would learn those by heart: about five for
/// each term.
pub const LEAST_OF_EACH: usize = 40;
/// How strongly the weights are held back: as if so many labels spoke for the product alone.
const PENALTY: f64 = 10.0;
/// The constant is free: how many answers are right is for the labels alone to say.
const FREE: f64 = 1e-6;

type Terms = [f64; TERMS];

/// The blend that fits these labels; none where they are too few.
pub fn fit(samples: &[Sample]) -> Option<Blend> {
    let right = samples.iter().filter(|it| it.right).count();
    if right.min(samples.len() - right) < LEAST_OF_EACH {
        return None;
    }
    let rows: Vec<Terms> = samples.iter().map(|it| it.features.terms()).collect();
    let scale = Scale::of(&rows);
    let labels: Vec<_> = rows
        .iter()
        .zip(samples)
        .map(|(row, sample)| Label {
            terms: scale.scaled(row),
            target: f64::from(u8::from(sample.right)),
        })
        .collect();
    let prior = Prior {
        weights: scale.scaled_weights(&product_alone()),
        labels: std::array::from_fn(|term| if term == 0 { FREE } else { PENALTY }),
    };
    let weights = logistic::fit(&labels, &prior)?;
    Blend::new(scale.back(&weights))
}

fn product_alone() -> Terms {
    let mut weights = [0.0; TERMS];
    weights[1] = 1.0;
    weights
}

/// Mean and deviation of each term. The constant stays; so does a term that is always the same.
struct Scale {
    mean: Terms,
    deviation: Terms,
}

impl Scale {
    fn of(rows: &[Terms]) -> Self {
        let count = share_of(rows.len());
        let (mut mean, mut deviation) = ([0.0; TERMS], [1.0; TERMS]);
        for term in 1..TERMS {
            let values = || rows.iter().map(|row| row[term]);
            let middle = values().sum::<f64>() / count;
            let spread = values().map(|it| (it - middle).powi(2)).sum::<f64>() / count;
            if spread.sqrt() > 1e-9 {
                mean[term] = middle;
                deviation[term] = spread.sqrt();
            }
        }
        Self { mean, deviation }
    }

    fn scaled(&self, row: &Terms) -> Terms {
        std::array::from_fn(|term| (row[term] - self.mean[term]) / self.deviation[term])
    }

    /// Weights for scaled terms that say what these say for plain ones.
    fn scaled_weights(&self, weights: &Terms) -> Terms {
        let mut scaled: Terms = std::array::from_fn(|term| weights[term] * self.deviation[term]);
        let moved: f64 = (1..TERMS).map(|term| weights[term] * self.mean[term]).sum();
        scaled[0] = weights[0] + moved;
        scaled
    }

    /// The way back.
    fn back(&self, scaled: &Terms) -> Terms {
        let mut weights: Terms = std::array::from_fn(|term| scaled[term] / self.deviation[term]);
        let moved: f64 = (1..TERMS).map(|term| weights[term] * self.mean[term]).sum();
        weights[0] = scaled[0] - moved;
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::Features;
    use crate::router::confidence::Told;
    use crate::router::confidence::figures::{auroc, log_loss};

    /// Answers whose truth hangs on their second token alone, while the first one only wavers.
    fn samples(count: usize, seed: u64) -> Vec<Sample> {
        let mut chance = fastrand::Rng::with_seed(seed);
        let sample = |_| {
            let doubt = chance.f32() * 3.0;
            let waver = chance.f32() * 2.0;
            Sample {
                features: Features::of([(-doubt, doubt), (-waver, 0.0)], []),
                right: chance.f32() * 3.0 > doubt,
            }
        };
        (0..count).map(sample).collect()
    }

    #[test]
    fn a_blend_ranks_better_than_the_product_where_the_entropy_knows_more() {
        let blend = fit(&samples(2000, 1)).unwrap();
        let told = |of: &dyn Fn(&Sample) -> f64| -> Vec<Told> {
            let samples = samples(2000, 2);
            let told = samples.iter().map(|it| Told {
                sure: of(it),
                right: it.right,
            });
            told.collect()
        };
        let plain = told(&|it| it.features.product());
        let blended = told(&|it| blend.score(&it.features));
        assert!(auroc(&blended).unwrap() > auroc(&plain).unwrap() + 0.02);
        assert!(log_loss(&blended).unwrap() < log_loss(&plain).unwrap());
    }

    #[test]
    fn few_labels_of_either_kind_make_no_blend() {
        let mut all = samples(500, 3);
        for sample in &mut all {
            sample.right = true;
        }
        assert_eq!(fit(&all), None);
        for sample in all.iter_mut().take(LEAST_OF_EACH - 1) {
            sample.right = false;
        }
        assert_eq!(fit(&all), None);
        all[LEAST_OF_EACH].right = false;
        assert!(fit(&all).is_some());
    }
}
