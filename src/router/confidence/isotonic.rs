//! The closest line that never falls: pool adjacent violators.
//!
//! 1. **Ties.** Labels of equal raw confidence are one block from the start: no order among them
//!    is earned.
//! 2. From the left, a block whose share is not above that of the block before it is pooled with
//!    it, and so on back.
//! 3. **Few labels.** A block of less weight than [`LEAST`] says something of those labels alone:
//!    it is pooled with the neighbour whose share is nearer.
//! 4. **Many blocks.** Those whose pooling costs the least squared error are pooled, until there
//!    are as few as wanted.
//!
//! Invariant: the blocks' places rise, their shares never fall, and the weight stays as it was.

use crate::package::Calibration;

/// Weight that a block holds at least, in labels.
pub const LEAST: f64 = 20.0;
/// Points of a curve that is fitted: a manifest stays readable, and no sample of a suite tells
/// more of them apart. Far below what a package may hold.
pub const POINTS: usize = 24;

/// Labels of like raw confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// How many labels, or what they weigh.
    pub weight: f64,
    /// Their mean raw confidence.
    pub at: f64,
    /// The share that is right.
    pub right: f64,
}

impl Block {
    fn with(self, other: Self) -> Self {
        let weight = self.weight + other.weight;
        let mean = |a: f64, b: f64| (self.weight * a + other.weight * b) / weight;
        Self {
            weight,
            at: mean(self.at, other.at),
            right: mean(self.right, other.right),
        }
    }

    /// The squared error that pooling adds.
    fn cost(self, other: Self) -> f64 {
        let apart = self.right - other.right;
        self.weight * other.weight / (self.weight + other.weight) * apart * apart
    }
}

/// Steps 1 and 2: blocks whose shares rise. What weighs nothing is left out.
pub fn pooled(mut labels: Vec<Block>) -> Vec<Block> {
    labels.retain(|label| label.weight > 0.0);
    labels.sort_by(|a, b| a.at.total_cmp(&b.at));
    let ties = labels.chunk_by(|a, b| a.at.total_cmp(&b.at).is_eq());
    let mut blocks: Vec<Block> = Vec::new();
    for equals in ties {
        let Some(mut block) = equals.iter().copied().reduce(Block::with) else {
            continue;
        };
        block.at = equals[0].at; // as it was, without the rounding of a mean
        while let Some(before) = blocks.pop_if(|before| before.right >= block.right) {
            block = before.with(block);
        }
        blocks.push(block);
    }
    blocks
}

/// Steps 3 and 4: of rising blocks, at most `most`, none lighter than [`LEAST`] but an only one.
pub fn thinned(mut blocks: Vec<Block>, most: usize) -> Vec<Block> {
    while blocks.len() > 1
        && let Some(light) = blocks.iter().position(|block| block.weight < LEAST)
    {
        let gap = |a: usize, b: usize| (blocks[a].right - blocks[b].right).abs();
        let left = match light {
            0 => 0,
            last if last + 1 == blocks.len() => last - 1,
            inner if gap(inner - 1, inner) <= gap(inner, inner + 1) => inner - 1,
            inner => inner,
        };
        pool(&mut blocks, left);
    }
    while blocks.len() > most.max(1) {
        let pairs = blocks.windows(2).map(|pair| pair[0].cost(pair[1]));
        let cheapest = pairs.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        let Some((left, _)) = cheapest else {
            break; // one block has no pair
        };
        pool(&mut blocks, left);
    }
    blocks
}

fn pool(blocks: &mut Vec<Block>, left: usize) {
    let right = blocks.remove(left + 1);
    blocks[left] = blocks[left].with(right);
}

/// The curve through the middles of rising blocks. No share comes nearer to certainty than one
/// more label of its block, right or wrong, could tell; the two ends go as far as one more label
/// of all could. So the surest and the least sure are still told apart, where their block says
/// nothing of them.
pub fn curve(blocks: &[Block]) -> Option<Calibration> {
    let nearest = |weight: f64| (1.0 / (weight + 2.0)).min(0.5);
    let inside = |block: &Block| {
        let nearest = nearest(block.weight);
        (block.at, block.right.clamp(nearest, 1.0 - nearest))
    };
    let end = nearest(blocks.iter().map(|block| block.weight).sum());
    let first = (0.0, end.min(inside(blocks.first()?).1));
    let last = (1.0, (1.0 - end).max(inside(blocks.last()?).1));
    let middle = blocks.iter().map(inside);
    rising([first].into_iter().chain(middle).chain([last]))
}

/// The curve through points that rise and never fall, but for their rounding: so many digits as
/// a manifest shows. Of points that share a place after that, the first counts.
pub(super) fn rising(points: impl IntoIterator<Item = (f64, f64)>) -> Option<Calibration> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for (x, y) in points {
        let (x, y) = (rounded(x), rounded(y));
        if kept.last().is_none_or(|before| before.0 < x) {
            let floor = kept.last().map_or(0.0, |before| before.1);
            kept.push((x, y.max(floor)));
        }
    }
    Calibration::new(kept).ok()
}

fn rounded(share: f64) -> f64 {
    (share.clamp(0.0, 1.0) * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn label(at: f64, right: bool) -> Block {
        Block {
            weight: 1.0,
            at,
            right: f64::from(u8::from(right)),
        }
    }

    #[test]
    fn violators_are_pooled_as_reckoned_by_hand() {
        let labels = [(0.1, 0), (0.2, 1), (0.3, 0), (0.4, 0), (0.5, 1), (0.6, 1)];
        let blocks = pooled(labels.map(|(at, right)| label(at, right == 1)).to_vec());
        let shares: Vec<_> = blocks.iter().map(|it| (it.weight, it.right)).collect();
        // The 1 at 0.2 is pooled with the two 0 behind it; the last two are equal, thus one.
        assert_eq!(shares, [(1.0, 0.0), (3.0, 1.0 / 3.0), (2.0, 1.0)]);
        assert!((blocks[1].at - 0.3).abs() < 1e-12);
    }

    #[test]
    fn equal_raw_confidence_is_one_block_whatever_came_first() {
        for rights in [[true, false], [false, true]] {
            let blocks = pooled(rights.map(|right| label(0.5, right)).to_vec());
            assert_eq!(blocks.len(), 1);
            assert!((blocks[0].right - 0.5).abs() < 1e-12);
        }
    }

    #[test]
    fn a_light_block_goes_to_the_neighbour_that_is_like_it() {
        let block = |weight, at, right| Block { weight, at, right };
        let blocks = vec![
            block(50.0, 0.1, 0.2),
            block(5.0, 0.5, 0.8),
            block(50.0, 0.9, 0.9),
        ];
        let thin = thinned(blocks, 9);
        assert_eq!(thin.len(), 2);
        assert_eq!((thin[0].weight, thin[1].weight), (50.0, 55.0));
        assert_eq!(thinned(thin, 1).len(), 1);
        assert_eq!(thinned(vec![block(2.0, 0.5, 0.5)], 9).len(), 1);
    }

    #[test]
    fn the_curve_claims_no_certainty() {
        let block = |at, right| Block {
            weight: 48.0,
            at,
            right,
        };
        let curve = curve(&[block(0.3, 0.0), block(0.7, 1.0)]).unwrap();
        let end = 1.0 / 98.0;
        let wanted = [(0.0, end), (0.3, 0.02), (0.7, 0.98), (1.0, 1.0 - end)];
        for (found, wanted) in curve.points().iter().zip(wanted) {
            assert!((found.0 - wanted.0).abs() + (found.1 - wanted.1).abs() < 1e-6);
        }
        assert_eq!(super::curve(&[]), None);
    }

    proptest! {
        #[test]
        fn whatever_the_labels_the_blocks_rise_and_the_curve_is_one(
            labels in proptest::collection::vec((0u16..=200, any::<bool>()), 1..300),
            most in 1usize..30,
        ) {
            let labels: Vec<_> = labels.iter().map(|&(at, right)| label(f64::from(at) / 200.0, right)).collect();
            let blocks = pooled(labels.clone());
            prop_assert!(blocks.windows(2).all(|pair| pair[0].right < pair[1].right && pair[0].at < pair[1].at));
            let thin = thinned(blocks, most);
            prop_assert!(thin.len() <= most);
            prop_assert!(thin.len() == 1 || thin.iter().all(|block| block.weight >= LEAST));
            let weight: f64 = thin.iter().map(|block| block.weight).sum();
            prop_assert!((weight - labels.iter().map(|it| it.weight).sum::<f64>()).abs() < 1e-6);
            prop_assert!(curve(&thin).is_some());
        }

        #[test]
        fn no_rising_step_is_closer_to_the_labels(
            labels in proptest::collection::vec((0u8..=20, any::<bool>()), 1..60),
            edge in 0u8..=20,
            low in 0.0f64..=1.0,
            high in 0.0f64..=1.0,
        ) {
            let labels: Vec<_> = labels.iter().map(|&(at, right)| label(f64::from(at), right)).collect();
            let blocks = pooled(labels.clone());
            let mut error = 0.0;
            let mut step = 0.0;
            let (low, high) = (low.min(high), low.max(high));
            let mut ends = Vec::new();
            let mut sorted = labels.clone();
            sorted.sort_by(|a, b| a.at.total_cmp(&b.at));
            let mut taken = 0.0;
            for block in &blocks {
                taken += block.weight;
                ends.push((taken, block.right));
            }
            let mut place = 0.5;
            for it in &sorted {
                let own = ends.iter().find(|(end, _)| place < *end).unwrap().1;
                place += 1.0;
                error += (it.right - own).powi(2);
                let other = if it.at < f64::from(edge) { low } else { high };
                step += (it.right - other).powi(2);
            }
            prop_assert!(error <= step + 1e-9, "{error} {step}");
        }
    }
}
