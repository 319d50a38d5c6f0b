use super::*;

fn cool() -> Situation {
    Situation {
        share: 1.0,
        sustained: 1.0,
        ahead: false,
        too_hot: false,
        cooled: false,
        demand: None,
    }
}

fn at(second: u64) -> Mono {
    Mono(Duration::from_secs(second))
}

#[test]
fn it_gets_worse_on_the_second_sample_and_better_only_after_a_calm() {
    let mut levels = Levels::default();
    let hot = Situation {
        share: 0.3,
        ..cool()
    };
    levels.on(&hot, at(0));
    assert_eq!(levels.level(), Level::Nominal);
    levels.on(&hot, at(1));
    assert_eq!(levels.level(), Level::Hot);
    levels.on(&cool(), at(2));
    levels.on(&cool(), at(1 + CALM.as_secs()));
    assert_eq!(levels.level(), Level::Hot);
    levels.on(&cool(), at(2 + CALM.as_secs()));
    assert_eq!(levels.level(), Level::Nominal);
}

#[test]
fn between_the_edges_it_stays_what_it_was() {
    let mut levels = Levels::default();
    let between = Situation {
        share: f64::midpoint(HOT_BELOW, WARM_FROM),
        ..cool()
    };
    for second in 0..60 {
        levels.on(&between, at(second));
    }
    assert_eq!(levels.level(), Level::Warm);
    for second in 60..62 {
        levels.on(
            &Situation {
                share: HOT_BELOW - 0.01,
                ..cool()
            },
            at(second),
        );
    }
    for second in 62..600 {
        levels.on(&between, at(second));
    }
    assert_eq!(levels.level(), Level::Hot);
}

#[test]
fn a_pause_lasts_until_it_is_cool_enough_and_ends_at_once_then() {
    let mut levels = Levels::default();
    for second in 0..2 {
        levels.on(
            &Situation {
                share: 0.0,
                too_hot: true,
                ..cool()
            },
            at(second),
        );
    }
    assert_eq!(
        (levels.level(), levels.taken()),
        (Level::Critical, Taken::Nobody)
    );
    for second in 2..300 {
        levels.on(
            &Situation {
                share: 0.4,
                ..cool()
            },
            at(second),
        );
    }
    assert_eq!(levels.level(), Level::Critical);
    levels.on(
        &Situation {
            share: 0.4,
            cooled: true,
            ..cool()
        },
        at(300),
    );
    assert_eq!(levels.level(), Level::Hot);
    assert_ne!(levels.taken(), Taken::Nobody);
}

#[test]
fn low_priority_goes_first_then_normal_and_they_come_back_when_all_fits() {
    let mut levels = Levels::default();
    let demand = |high: f64| {
        Some(Demand {
            high,
            normal: 0.3,
            low: 0.4,
        })
    };
    let warm = Situation {
        share: 0.9,
        sustained: 0.6,
        ..cool()
    };
    for second in 0..2 {
        levels.on(
            &Situation {
                demand: demand(0.1),
                ..warm
            },
            at(second),
        );
    }
    assert_eq!(levels.taken(), Taken::NormalAndHigh);
    levels.on(
        &Situation {
            demand: demand(0.55),
            ..warm
        },
        at(2),
    );
    assert_eq!(levels.taken(), Taken::High);
    let wider = Situation {
        sustained: 1.0,
        demand: demand(0.1),
        ..warm
    };
    levels.on(&wider, at(3));
    levels.on(&wider, at(2 + CALM_AFTER_SHEDDING.as_secs()));
    assert_eq!(levels.taken(), Taken::High, "not before the calm");
    levels.on(&wider, at(3 + CALM_AFTER_SHEDDING.as_secs()));
    assert_eq!(levels.taken(), Taken::All);
}

#[test]
fn nobody_is_shed_while_nothing_is_slowed() {
    let mut levels = Levels::default();
    let much = Some(Demand {
        high: 2.0,
        normal: 2.0,
        low: 2.0,
    });
    for second in 0..100 {
        levels.on(
            &Situation {
                demand: much,
                ..cool()
            },
            at(second),
        );
    }
    assert_eq!(
        (levels.level(), levels.taken()),
        (Level::Nominal, Taken::All)
    );
}

#[test]
fn without_figures_low_priority_is_shed_when_it_is_hot() {
    let mut levels = Levels::default();
    for second in 0..2 {
        levels.on(
            &Situation {
                share: 0.7,
                ..cool()
            },
            at(second),
        );
    }
    assert_eq!(levels.taken(), Taken::All);
    for second in 2..4 {
        levels.on(
            &Situation {
                share: 0.3,
                ..cool()
            },
            at(second),
        );
    }
    assert_eq!(levels.taken(), Taken::NormalAndHigh);
}
