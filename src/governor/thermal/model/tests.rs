use super::*;

const NOISE_C: f64 = 0.3;

/// Two nodes exactly as the model has them, with parameters of their own.
struct Board {
    fast: f64,
    slow: f64,
    air: f64,
    dice: fastrand::Rng,
}

const RISES: (f64, f64) = (12.0, 40.0);
const SPANS: (f64, f64) = (6.0, 300.0);

impl Board {
    fn new() -> Self {
        Self {
            fast: 0.0,
            slow: 0.0,
            air: 40.0,
            dice: fastrand::Rng::with_seed(1),
        }
    }

    fn second(&mut self, q: f64) -> f64 {
        self.fast += (RISES.0 * q - self.fast) * (1.0 - (-1.0 / SPANS.0).exp());
        self.slow += (RISES.1 * q - self.slow) * (1.0 - (-1.0 / SPANS.1).exp());
        self.air + self.fast + self.slow
    }

    fn shown(&mut self, q: f64) -> f64 {
        self.second(q) + NOISE_C * (self.dice.f64() * 2.0 - 1.0)
    }
}

fn heat(q: f64) -> Heat {
    Heat { q, capped: false }
}

/// A model that has watched this board under load that changes.
fn trained(board: &mut Board, seconds: usize) -> Model {
    let mut model = Model::new(&Prior::default());
    let mut q = 0.0;
    for second in 0..seconds {
        if second % 40 == 0 {
            q = board.dice.f64();
        }
        let shown = board.shown(q);
        model.pass(heat(q), 1.0);
        model.read(shown, NOISE_C);
    }
    model
}

#[test]
fn after_an_hour_of_changing_load_a_forecast_of_a_minute_is_right() {
    let mut board = Board::new();
    let model = trained(&mut board, 3600);
    for q in [0.0, 0.5, 1.0] {
        let mut ahead = Board {
            dice: fastrand::Rng::with_seed(2),
            ..board
        };
        let truth = (0..60).map(|_| ahead.second(q)).last().unwrap_or_default();
        let forecast = model.mean().after(heat(q), 60.0).celsius();
        assert!(
            (forecast - truth).abs() < 1.0,
            "{q}: {forecast:.2}, not {truth:.2}"
        );
    }
    let (fast, slow) = model.mean().rises();
    assert!((fast / RISES.0 - 1.0).abs() < 0.2, "{fast}");
    assert!((slow / RISES.1 - 1.0).abs() < 0.3, "{slow}");
}

#[test]
fn the_doubt_about_a_forecast_shrinks_as_it_learns() {
    let before = trained(&mut Board::new(), 2).deviation(heat(1.0), 10.0);
    let after = trained(&mut Board::new(), 900).deviation(heat(1.0), 10.0);
    assert!(after < before / 4.0, "{before:.2} to {after:.2}");
}

#[test]
fn a_load_that_never_changes_for_a_day_carries_nothing_away() {
    let mut board = Board::new();
    let mut model = trained(&mut board, 1800);
    for _ in 0..86_400 {
        let shown = board.shown(0.6);
        model.pass(heat(0.6), 1.0);
        model.read(shown, NOISE_C);
    }
    let (fast, slow) = model.mean().rises();
    let usual = Prior::default();
    let factor = |a: f64, b: f64| (a / b).max(b / a);
    assert!(factor(fast, usual.fast_rise_c) < 2.5, "{fast}");
    assert!(factor(slow, usual.slow_rise_c) < 2.5, "{slow}");
    let deviation = model.deviation(heat(0.6), 10.0);
    assert!(
        deviation < 1.0,
        "at the same load it stays sure: {deviation:.2}"
    );
    // And it still learns when the load changes again.
    let truth = (0..30)
        .map(|_| board.second(0.2))
        .last()
        .unwrap_or_default();
    let forecast = model.mean().after(heat(0.2), 30.0).celsius();
    assert!(
        (forecast - truth).abs() < 5.0,
        "{forecast:.2}, not {truth:.2}"
    );
}

#[test]
fn one_wild_reading_is_cut_and_several_move_the_air() {
    let mut board = Board::new();
    let mut model = trained(&mut board, 900);
    let before = model.mean().celsius();
    model.read(before + 60.0, NOISE_C);
    assert!(
        (model.mean().celsius() - before).abs() < 2.0,
        "{:.2}",
        model.mean().celsius()
    );
    for _ in 0..2 * STUBBORN {
        model.read(before + 60.0, NOISE_C);
    }
    assert!(
        (model.mean().celsius() - before - 60.0).abs() < 3.0,
        "another sensor governs"
    );
    let (fast, _) = model.mean().rises();
    assert!(
        (fast / RISES.0 - 1.0).abs() < 0.5,
        "the parameters are the board's, not the sensor's"
    );
}

#[test]
fn whatever_it_is_fed_it_stays_finite_and_in_its_bounds() {
    let mut model = Model::new(&Prior::default());
    let mut dice = fastrand::Rng::with_seed(3);
    for _ in 0..20_000 {
        let heat = Heat {
            q: dice.f64() * 3.0,
            capped: dice.bool(),
        };
        model.pass(
            heat,
            dice.f64() * if dice.u8(0..50) == 0 { 1000.0 } else { 2.0 },
        );
        model.read(dice.f64() * 200.0 - 50.0, 0.1 + dice.f64());
        let wide = WIDEST.ln() + 1e-9;
        for i in R_FAST..CAPPED {
            assert!(
                (model.x.0[i] - model.prior[i]).abs() <= wide + 2.0,
                "{:?}",
                model.x
            );
        }
        assert!(model.x.0.iter().all(|x| x.is_finite()), "{:?}", model.x);
        let deviation = model.deviation(heat, 10.0);
        assert!(deviation.is_finite() && deviation < 1e4, "{deviation}");
    }
}
