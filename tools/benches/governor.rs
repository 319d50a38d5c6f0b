//! Heat: what the governor gets out of simulated boards, against the laws that others use.
//!
//! The boards are those of `tests/thermal/`: four nodes of heat, leakage, a fan's curve, a sensor
//! that lags, is noisy and shows whole steps; each seed deviates from its kind by up to a quarter in
//! every part, and nobody is told how. Time is virtual, so the figures are the same everywhere.
//!
//! | Figure | What |
//! | --- | --- |
//! | above | seconds of an hour in which the junction was above the limit: mean, and worst seed |
//! | hottest | the junction's highest temperature over all seeds |
//! | / oracle | work done against one who knows the board, its state and the future |
//! | / step-wise | work done against the kernel's `step_wise` with its trip where device trees put it |
//!
//! A "best trip" is chosen with hindsight for each kind of board: the highest, in whole degrees,
//! with which no seed was above the limit. "By frequency" slows the clock and with it the voltage,
//! so that heat falls more than work; all others take away time.
//!
//! `tools/bench governor [--quick] [--write]` draws two boards beside its figures; with `--write` it
//! puts table and pictures into tools/benches/governor/.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "seconds of an hour, seeds"
)]

#[path = "../../tests/thermal/boards.rs"]
mod boards;
#[path = "../../tests/thermal/peers.rs"]
#[allow(dead_code)]
mod peers;
#[path = "governor/picture.rs"]
mod picture;
#[path = "../../tests/thermal/plant.rs"]
mod plant;
#[path = "../../tests/thermal/race.rs"]
#[allow(dead_code)]
mod race;
#[path = "governor/table.rs"]
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use boards::{BOARDS, Board, Hour, Trouble};
use peers::{Allocator, Controller, Lineside, OnOff, States, StepWise};
use race::{Outcome, oracle, run};
use table::{Row, Table};

/// Seconds that are simulated.
const HOUR: usize = 3600;
/// Device trees put a passive trip so far below what must not be exceeded.
const USUAL_C: f64 = 10.0;
/// No trip further below is tried.
const FURTHEST_C: u32 = 20;
/// Boards that are drawn, and of which seed.
const DRAWN: [(&str, &str); 2] = [("fanless ARM", "fanless"), ("fan fails", "fan-fails")];
const DRAWN_SEED: u64 = 1;
const USUAL_STEP_WISE: &str = "step-wise, 10 °C below";

type Make = Box<dyn Fn() -> Box<dyn Controller>>;

fn main() -> Result<()> {
    let (mut seeds, mut keep) = (20, false);
    // Cargo adds `--bench` to what it runs.
    for word in std::env::args().skip(1).filter(|word| word != "--bench") {
        match word.as_str() {
            "--quick" => seeds = 4,
            "--write" => keep = true,
            other => bail!("there is no option {other}"),
        }
    }
    let file = std::env::var_os("LINESIDE_BENCH_JSON")
        .map_or_else(|| "target/bench/governor.json".into(), PathBuf::from);
    let folder = file.parent().context("figures need a folder")?.to_owned();
    fs::create_dir_all(&folder)?;
    let mut table = Table::new(seeds);
    for board in BOARDS {
        table.add(board.name, measure(board, seeds));
        table.print_last();
    }
    table.print_goals();
    fs::write(&file, serde_json::to_string_pretty(&table.json())? + "\n")?;
    let mut pictures = Vec::new();
    for (name, short) in DRAWN {
        let board = *BOARDS
            .iter()
            .find(|board| board.name == name)
            .context("no such board")?;
        pictures.push((format!("{short}.svg"), draw(board)));
    }
    let mut folders = vec![folder];
    if keep {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/benches/governor");
        fs::write(kept.join("README.md"), table.markdown(&pictures))?;
        folders.push(kept);
    }
    for folder in folders {
        for (name, picture) in &pictures {
            fs::write(folder.join(name), picture)?;
            println!("{}", folder.join(name).display());
        }
    }
    Ok(())
}

/// All controllers on all seeds of one kind of board.
fn measure(board: Board, seeds: u64) -> Vec<Row> {
    let hours: Vec<Hour> = (0..seeds)
        .map(|seed| Hour::new(board, seed, HOUR))
        .collect();
    let best: Vec<f64> = hours.iter().map(|hour| oracle(hour).work).collect();
    let usual = outcomes(&hours, &|| Box::new(StepWise::new(USUAL_C, States::Time)));
    let kernel: Vec<f64> = usual.iter().map(|outcome| outcome.work).collect();
    field(&hours)
        .into_iter()
        .map(|(name, make)| match make {
            Some(make) => Row::of(&name, &outcomes(&hours, &*make), &best, &kernel),
            None => Row::none(&name),
        })
        .collect()
}

/// Everybody who takes part; none where no trip keeps the limit.
fn field(hours: &[Hour]) -> Vec<(String, Option<Make>)> {
    let named = |name: &str, make: Make| (name.to_owned(), Some(make));
    let mut field = vec![
        named("lineside", Box::new(|| Box::new(Lineside::new()))),
        named("trip", Box::new(|| Box::new(OnOff::trip()))),
        named("hysteresis", Box::new(|| Box::new(OnOff::hysteresis()))),
        named(
            USUAL_STEP_WISE,
            Box::new(|| Box::new(StepWise::new(USUAL_C, States::Time))),
        ),
    ];
    let step_wise = |states: States| {
        move |below: f64| -> Box<dyn Controller> { Box::new(StepWise::new(below, states)) }
    };
    let pi = |below: f64| -> Box<dyn Controller> { Box::new(Allocator::new(below, States::Time)) };
    field.push(hindsight("step-wise", hours, step_wise(States::Time)));
    field.push(named("PI, 10 °C below", Box::new(move || pi(USUAL_C))));
    field.push(hindsight("PI", hours, pi));
    let by_frequency = step_wise(States::Frequency);
    field.push(named(
        "step-wise by frequency, 10 °C below",
        Box::new(move || by_frequency(USUAL_C)),
    ));
    field.push(hindsight(
        "step-wise by frequency",
        hours,
        step_wise(States::Frequency),
    ));
    field
}

/// With the highest trip that kept the limit.
fn hindsight(
    name: &str,
    hours: &[Hour],
    make: impl Fn(f64) -> Box<dyn Controller> + 'static,
) -> (String, Option<Make>) {
    let keeps = |below: f64| {
        hours
            .iter()
            .all(|hour| run(hour, &mut *make(below), |_, _| ()).above_s == 0.0)
    };
    let below = (0..=FURTHEST_C).map(f64::from).find(|below| keeps(*below));
    let words = below.map_or_else(|| "none holds".into(), |below| format!("{below} °C below"));
    let made: Option<Make> = below.map(|below| Box::new(move || make(below)) as Make);
    (format!("{name}, best trip ({words})"), made)
}

fn outcomes(hours: &[Hour], make: &dyn Fn() -> Box<dyn Controller>) -> Vec<Outcome> {
    hours
        .iter()
        .map(|hour| run(hour, &mut *make(), |_, _| ()))
        .collect()
}

fn draw(board: Board) -> String {
    let hour = Hour::new(board, DRAWN_SEED, HOUR);
    let of = |mut controller: Box<dyn Controller>| run(&hour, &mut *controller, |_, _| ());
    let curves = [
        ("oracle", oracle(&hour)),
        ("trip", of(Box::new(OnOff::trip()))),
        ("hysteresis", of(Box::new(OnOff::hysteresis()))),
        ("PI", of(Box::new(Allocator::new(USUAL_C, States::Time)))),
        (
            "step-wise",
            of(Box::new(StepWise::new(USUAL_C, States::Time))),
        ),
        ("lineside", of(Box::new(Lineside::new()))),
    ];
    let what = match board.trouble {
        Trouble::FanFails => "the fan stops after 25 minutes",
        Trouble::None => "full load for an hour",
        Trouble::WarmCabinet => "the cabinet warms up",
        Trouble::SensorBlocked => "the sensor is blocked",
        Trouble::FrequencyCapped => "the firmware caps the frequency",
    };
    picture::svg(&format!("{}: {what}", board.name), &curves)
}
