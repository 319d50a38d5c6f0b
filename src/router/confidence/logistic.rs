//! Logistic regression, held back: Newton's method with a line search.
//!
//! The penalty draws each weight to its prior, as if so many labels spoke for it; so the
//! equations always have an answer, and what the labels do not speak for stays as it was.

use crate::package::features::sigmoid;

/// Steps at most; it ends sooner where nothing moves.
const STEPS: usize = 40;
/// Halvings of a step that would lead uphill.
const HALVINGS: i32 = 30;
/// A step that gains less than this moves nothing.
const STILL: f64 = 1e-10;

/// Terms of each label, and what it says: 1 for right, 0 for wrong, or nearly so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Label<const N: usize> {
    pub(super) terms: [f64; N],
    pub(super) target: f64,
}

/// Where the weights are drawn to, and how strongly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Prior<const N: usize> {
    pub(super) weights: [f64; N],
    pub(super) labels: [f64; N],
}

/// The weights at which labels and prior agree best; none where a number ran over.
pub(super) fn fit<const N: usize>(labels: &[Label<N>], prior: &Prior<N>) -> Option<[f64; N]> {
    let mut weights = prior.weights;
    let mut cost = self::cost(labels, prior, &weights);
    for _ in 0..STEPS {
        let step = newton(labels, prior, &weights)?;
        let tried = (0..HALVINGS).find_map(|halvings| {
            let share = 0.5_f64.powi(halvings);
            let there = std::array::from_fn(|at| weights[at] - share * step[at]);
            let cost_there = self::cost(labels, prior, &there);
            (cost_there < cost).then_some((there, cost_there))
        });
        let Some((there, cost_there)) = tried else {
            break; // nothing around is better
        };
        let gained = cost - cost_there;
        (weights, cost) = (there, cost_there);
        if gained < STILL {
            break;
        }
    }
    weights.iter().all(|it| it.is_finite()).then_some(weights)
}

fn odds<const N: usize>(terms: &[f64; N], weights: &[f64; N]) -> f64 {
    let pairs = terms.iter().zip(weights);
    pairs.map(|(term, weight)| term * weight).sum()
}

/// Surprise of the labels, and distance from the prior.
fn cost<const N: usize>(labels: &[Label<N>], prior: &Prior<N>, weights: &[f64; N]) -> f64 {
    let surprise = labels.iter().map(|label| {
        let odds = odds(&label.terms, weights);
        // ln(1 + e^odds), without running over.
        let soft = odds.max(0.0) + (-odds.abs()).exp().ln_1p();
        soft - label.target * odds
    });
    let drawn = (0..N).map(|at| prior.labels[at] * (weights[at] - prior.weights[at]).powi(2) / 2.0);
    surprise.sum::<f64>() + drawn.sum::<f64>()
}

/// The step to subtract; none where the equations have no answer.
fn newton<const N: usize>(
    labels: &[Label<N>],
    prior: &Prior<N>,
    weights: &[f64; N],
) -> Option<[f64; N]> {
    let mut slope = [0.0; N];
    let mut bend = [[0.0; N]; N];
    for Label { terms, target } in labels {
        let said = sigmoid(odds(terms, weights));
        let (off, doubt) = (said - target, said * (1.0 - said));
        for a in 0..N {
            slope[a] += off * terms[a];
            for b in 0..=a {
                bend[a][b] += doubt * terms[a] * terms[b];
            }
        }
    }
    for a in 0..N {
        slope[a] += prior.labels[a] * (weights[a] - prior.weights[a]);
        bend[a][a] += prior.labels[a];
    }
    solve(&bend, &slope)
}

/// Cholesky's way, of the lower half of a symmetric matrix.
fn solve<const N: usize>(matrix: &[[f64; N]; N], wanted: &[f64; N]) -> Option<[f64; N]> {
    let mut root = [[0.0; N]; N];
    for a in 0..N {
        for b in 0..=a {
            let known: f64 = (0..b).map(|c| root[a][c] * root[b][c]).sum();
            let rest = matrix[a][b] - known;
            root[a][b] = if a == b {
                if rest <= 0.0 || rest.is_nan() {
                    return None;
                }
                rest.sqrt()
            } else {
                rest / root[b][b]
            };
        }
    }
    let mut half = [0.0; N];
    for a in 0..N {
        let known: f64 = (0..a).map(|b| root[a][b] * half[b]).sum();
        half[a] = (wanted[a] - known) / root[a][a];
    }
    let mut whole = [0.0; N];
    for a in (0..N).rev() {
        let known: f64 = (a + 1..N).map(|b| root[b][a] * whole[b]).sum();
        whole[a] = (half[a] - known) / root[a][a];
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_solved() {
        let mut matrix = [[4.0, 0.0, 0.0], [1.0, 4.0, 0.0], [0.0, 1.0, 4.0]];
        let wanted = [6.0, 12.0, 14.0]; // of 1, 2, 3 by hand
        let found = solve(&matrix, &wanted).unwrap();
        for (found, wanted) in found.iter().zip([1.0, 2.0, 3.0]) {
            assert!((found - wanted).abs() < 1e-12, "{found} {wanted}");
        }
        matrix[2][2] = -1.0;
        assert_eq!(solve(&matrix, &wanted), None);
    }

    #[test]
    fn labels_that_outnumber_the_prior_are_believed_and_others_are_not() {
        let labels = |count: usize| -> Vec<_> {
            let label = |at: usize| Label {
                terms: [1.0],
                target: if at.is_multiple_of(4) { 0.0 } else { 1.0 },
            };
            (0..count).map(label).collect()
        };
        let prior = Prior {
            weights: [0.0],
            labels: [1.0],
        };
        let shift = |count| fit(&labels(count), &prior).unwrap()[0];
        assert!((shift(40_000) - 3.0_f64.ln()).abs() < 1e-3);
        assert!(shift(4) < 0.7 * 3.0_f64.ln());
        assert!(shift(0).abs() < 1e-12);
    }

    #[test]
    fn labels_that_are_parted_cleanly_far_out_do_not_throw_it_off() {
        let label = |at: i32| Label {
            terms: [1.0, f64::from(at - 50) * 10.0],
            target: if at > 50 { 0.999 } else { 0.001 },
        };
        let labels: Vec<_> = (0..=100).map(label).collect();
        let prior = Prior {
            weights: [0.0, 1.0],
            labels: [1e-6, 1.0],
        };
        let found = fit(&labels, &prior).unwrap();
        assert!(found[1] > 0.0 && found[1] < 2.0, "{found:?}");
        assert!(cost(&labels, &prior, &found) <= cost(&labels, &prior, &prior.weights));
    }
}
