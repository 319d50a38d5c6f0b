//! What an answer shows of how sure the model was: the figures that a [`Calibration`] looks at.
//!
//! All of it comes from the tokens at which the model had a choice; what a rule forced says
//! nothing. An answer without any such token was certain.
//!
//! | Figure | What it is |
//! | --- | --- |
//! | product | logarithm of the probability of all that was free |
//! | least | that of the least likely token |
//! | mean | the mean over the tokens |
//! | margin | best against second best of the alternatives, where the answer was one of several |
//! | mean entropy, greatest entropy | how much the model wavered, in nats |
//! | choices | tokens at which it had a choice |
//!
//! Invariant: whatever an engine sends, each figure is a finite number within its limits.
//!
//! [`Calibration`]: super::Calibration

/// Terms of a [`Blend`]: one for each figure, and the constant.
pub const TERMS: usize = 8;
/// The names of the terms, in their order.
pub const TERM_NAMES: [&str; TERMS] = [
    "constant",
    "product",
    "least",
    "mean",
    "margin",
    "mean entropy",
    "greatest entropy",
    "choices",
];
/// Beyond this many nats nothing more is told: one answer in a million millions.
const MAX_NATS: f64 = 30.0;
/// Log-odds stay within this, some millions to one: nearer to certainty a float cannot tell.
const MAX_ODDS: f64 = 16.0;

/// How sure the model was of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Features {
    product: f64,
    least: f64,
    mean: f64,
    margin: Option<f64>,
    mean_entropy: f64,
    most_entropy: f64,
    choices: u32,
}

impl Features {
    /// Of the log-probability and the entropy at each free token, and the log-probabilities of
    /// the alternatives where the answer was one of several.
    pub fn of(
        free: impl IntoIterator<Item = (f32, f32)>,
        alternatives: impl IntoIterator<Item = f32>,
    ) -> Self {
        let mut it = Self::default();
        let (mut sum, mut entropy) = (0.0, 0.0);
        for (logprob, waver) in free {
            let (logprob, waver) = (nats(-f64::from(logprob)), nats(f64::from(waver)));
            sum += logprob;
            entropy += waver;
            it.least = f64::min(it.least, -logprob);
            it.most_entropy = it.most_entropy.max(waver);
            it.choices += 1;
        }
        let mut ranked: Vec<f64> = (alternatives.into_iter())
            .map(|logprob| -nats(-f64::from(logprob)))
            .collect();
        ranked.sort_by(f64::total_cmp);
        let best = ranked.pop();
        it.margin = best.zip(ranked.pop()).map(|(best, second)| best - second);
        if it.choices == 0 {
            // Scored, not generated: the best of the alternatives is the answer.
            let best = best.unwrap_or(0.0);
            (it.product, it.least, it.mean) = (best, best, best);
        } else {
            let count = f64::from(it.choices);
            it.product = -nats(sum);
            it.mean = -sum / count;
            it.mean_entropy = entropy / count;
        }
        it
    }

    /// The probability of all that was free in the answer: what is believed without a blend.
    pub fn product(&self) -> f64 {
        self.product.exp()
    }

    /// Mean entropy of the free tokens, in nats.
    pub fn mean_entropy(&self) -> f64 {
        self.mean_entropy
    }

    /// Its figures, for whoever stores them: product, least, mean, mean entropy, greatest entropy;
    /// the margin; the choices.
    pub fn figures(&self) -> ([f64; 5], Option<f64>, u32) {
        let Self {
            product,
            least,
            mean,
            margin,
            mean_entropy,
            most_entropy,
            choices,
        } = *self;
        let figures = [product, least, mean, mean_entropy, most_entropy];
        (figures, margin, choices)
    }

    /// Of its figures, within limits whatever they are.
    pub fn of_figures(figures: [f64; 5], margin: Option<f64>, choices: u32) -> Self {
        let [product, least, mean, mean_entropy, most_entropy] = figures;
        Self {
            product: -nats(-product),
            least: -nats(-least),
            mean: -nats(-mean),
            margin: margin.map(nats),
            mean_entropy: nats(mean_entropy),
            most_entropy: nats(most_entropy),
            choices,
        }
    }

    /// The terms that a blend weighs: probabilities as log-odds, so that the nearness of two of
    /// them to certainty counts, not to each other.
    pub fn terms(&self) -> [f64; TERMS] {
        [
            1.0,
            odds(self.product.exp()),
            odds(self.least.exp()),
            odds(self.mean.exp()),
            self.margin.unwrap_or(0.0).min(MAX_ODDS),
            self.mean_entropy,
            self.most_entropy,
            f64::from(self.choices).ln_1p(),
        ]
    }
}

/// One figure of all terms, by logistic regression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blend {
    weights: [f64; TERMS],
}

impl Blend {
    /// A weight beyond this comes from a fit that went wrong.
    pub const MAX_WEIGHT: f64 = 1000.0;

    /// With these weights; none if one of them is no number, or out of all proportion.
    pub fn new(weights: [f64; TERMS]) -> Option<Self> {
        let good = |weight: &f64| weight.abs() <= Self::MAX_WEIGHT; // false for what is no number
        weights.iter().all(good).then_some(Self { weights })
    }

    /// Its weights, in the order of the terms.
    pub fn weights(&self) -> &[f64; TERMS] {
        &self.weights
    }

    /// The figure, from 0 to 1.
    pub fn score(&self, features: &Features) -> f64 {
        let terms = features.terms();
        let pairs = self.weights.iter().zip(&terms);
        sigmoid(pairs.map(|(weight, term)| weight * term).sum())
    }
}

/// Logarithm of the odds of a probability, within limits.
pub fn odds(probability: f64) -> f64 {
    let odds = (probability / (1.0 - probability)).ln();
    if odds.is_nan() {
        -MAX_ODDS
    } else {
        odds.clamp(-MAX_ODDS, MAX_ODDS)
    }
}

/// The probability of log-odds.
pub fn sigmoid(odds: f64) -> f64 {
    1.0 / (1.0 + (-odds).exp())
}

/// A distance from certainty within limits; what is no number is the greatest.
fn nats(distance: f64) -> f64 {
    if distance.is_nan() {
        MAX_NATS
    } else {
        distance.clamp(0.0, MAX_NATS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(left: f64, right: f64) {
        assert!((left - right).abs() < 1e-6, "{left} {right}");
    }

    #[test]
    fn the_figures_are_those_of_the_free_tokens() {
        let it = Features::of([(-0.1, 0.4), (-0.3, 0.8)], []);
        near(it.product(), (-0.4_f64).exp());
        near(it.least, -0.3);
        near(it.mean, -0.2);
        near(it.mean_entropy(), 0.6);
        near(it.most_entropy, 0.8);
        assert_eq!((it.choices, it.margin), (2, None));
    }

    #[test]
    fn an_answer_that_was_scored_is_as_sure_as_the_best_of_its_alternatives() {
        let it = Features::of([], [-3.0, -0.1, -4.0]);
        near(it.product(), (-0.1_f64).exp());
        near(it.margin.unwrap(), 2.9);
        near(Features::of([], []).product(), 1.0);
        assert_eq!(Features::of([], [-0.5]).margin, None);
    }

    #[test]
    fn a_blend_of_the_product_alone_is_the_product() {
        let mut weights = [0.0; TERMS];
        weights[1] = 1.0;
        let blend = Blend::new(weights).unwrap();
        for logprob in [-0.001, -0.3, -2.0] {
            let it = Features::of([(logprob, 0.1)], []);
            near(blend.score(&it), it.product());
        }
        weights[3] = f64::NAN;
        assert_eq!(Blend::new(weights), None);
    }

    proptest! {
        #[test]
        fn whatever_an_engine_sends_every_figure_is_finite(
            free in proptest::collection::vec((any::<f32>(), any::<f32>()), 0..6),
            alternatives in proptest::collection::vec(any::<f32>(), 0..4),
            weights in proptest::array::uniform8(-1000.0..1000.0_f64),
        ) {
            let it = Features::of(free, alternatives);
            prop_assert!(it.terms().iter().all(|term| term.is_finite()), "{it:?}");
            prop_assert!((0.0..=1.0).contains(&it.product()));
            prop_assert!(it.mean_entropy().is_finite());
            let (figures, margin, choices) = it.figures();
            prop_assert_eq!(Features::of_figures(figures, margin, choices), it);
            let score = Blend::new(weights).unwrap().score(&it);
            prop_assert!((0.0..=1.0).contains(&score), "{score}");
        }
    }
}
