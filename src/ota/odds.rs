//! How likely a count is by chance: the two exact tests that decide with few requests.
//!
//! Purpose: a trial is judged by some dozens of answers, where approximations by a bell curve are
//! off by factors. Both tests are exact and one-sided: only more of what is bad counts.
//!
//! Owns nothing. Invariant: what is returned is from 0 to 1, and where there is nothing to compare
//! it is 1, which alarms nobody.

/// The chance of at least `hits` in `of` draws, each a hit with chance `share`.
pub fn binomial_tail(hits: u32, of: u32, share: f64) -> f64 {
    if hits == 0 || share >= 1.0 {
        return 1.0;
    }
    if hits > of || share <= 0.0 {
        return 0.0;
    }
    let term = |k: u32| {
        let misses = f64::from(of - k);
        (ln_choose(of, k) + f64::from(k) * share.ln() + misses * (-share).ln_1p()).exp()
    };
    (hits..=of).map(term).sum::<f64>().min(1.0)
}

/// The chance of at least `hits` among `of`, if these and the `base_hits` among `base_of` had the
/// same share and only luck had dealt the hits out (Fisher's exact test, one-sided). It needs no
/// guess at the share, so it holds for a base of any size.
pub fn fisher_tail(hits: u32, of: u32, base_hits: u32, base_of: u32) -> f64 {
    let (hits, base_hits) = (hits.min(of), base_hits.min(base_of));
    let all_hits = hits.saturating_add(base_hits);
    let all = of.saturating_add(base_of);
    let most = of.min(all_hits);
    let ways = ln_choose(all, all_hits);
    let term = |k: u32| {
        if all_hits - k > base_of {
            return 0.0;
        }
        (ln_choose(of, k) + ln_choose(base_of, all_hits - k) - ways).exp()
    };
    (hits..=most).map(term).sum::<f64>().min(1.0)
}

fn ln_choose(n: u32, k: u32) -> f64 {
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
}

/// Below it the logarithms are summed; from there on Stirling's series is exact to 12 digits.
const SMALL: u32 = 64;

fn ln_factorial(n: u32) -> f64 {
    if n < SMALL {
        return (2..=n).map(|it| f64::from(it).ln()).sum();
    }
    let n = f64::from(n);
    let root = 0.5 * (2.0 * std::f64::consts::PI * n).ln();
    n * n.ln() - n + root + 1.0 / (12.0 * n) - 1.0 / (360.0 * n.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-9 * b.max(1e-3), "{a} for {b}");
    }

    #[test]
    fn known_chances_are_found() {
        near(binomial_tail(2, 2, 0.5), 0.25);
        near(binomial_tail(8, 10, 0.5), 56.0 / 1024.0);
        near(binomial_tail(1, 3, 0.1), 1.0 - 0.729);
        // The lady who tastes tea: all four right, and three or more.
        near(fisher_tail(4, 4, 0, 4), 1.0 / 70.0);
        near(fisher_tail(3, 4, 1, 4), 17.0 / 70.0);
    }

    #[test]
    fn nothing_to_compare_alarms_nobody() {
        for chance in [
            binomial_tail(0, 0, 0.5),
            binomial_tail(0, 9, 0.1),
            fisher_tail(0, 0, 0, 0),
            fisher_tail(9, 9, 0, 0),
            fisher_tail(0, 9, 5, 9),
        ] {
            near(chance, 1.0);
        }
    }

    #[test]
    fn the_whole_of_a_distribution_is_one_and_more_hits_are_never_likelier() {
        for (of, base_hits, base_of) in [(10, 3, 40), (200, 9, 100), (70, 70, 70)] {
            let tails: Vec<_> = (0..=of)
                .map(|hits| fisher_tail(hits, of, base_hits, base_of))
                .collect();
            near(tails[0], 1.0);
            assert!(tails.is_sorted_by(|a, b| *a >= b - 1e-9), "{tails:?}");
            assert!(tails[usize::try_from(of).unwrap()] > 0.0);
        }
    }

    #[test]
    fn the_series_takes_over_without_a_step() {
        let summed: f64 = (2..=SMALL).map(|it| f64::from(it).ln()).sum();
        near(ln_factorial(SMALL), summed);
    }
}
