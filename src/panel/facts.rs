//! Facts: what the page shows, made of looks.
//!
//! ```text
//!  look (status, meters, …) ─► Record::on_look ─► Seen ─► page, metrics
//!                                  └─ curves and rates of the last minutes
//! ```
//!
//! A plain struct that is told the time. It keeps [`TRACK`] points of the curves and [`RATES`]
//! readings of the meters, and nothing else grows.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::Rollout;
use super::wellness::{Wellness, wellness};
use crate::clock::{Mono, Now};
use crate::dispatch::{Governed, Latest, StatusReport};
use crate::ota::desk::Report;
use crate::telemetry::{By, Meters, Outcome, Shape};

/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_secs(2);
/// Points of the curves: ten minutes.
const TRACK: usize = 300;
/// Between two readings of the meters for rates and percentiles.
const RATE_EVERY: Duration = Duration::from_secs(10);
/// Readings that are kept: five minutes.
const RATES: usize = 31;
/// Looks over which tokens per second are counted.
const QUICK: usize = 6;

/// What one look brought.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// None where the dispatcher did not answer.
    pub status: Option<StatusReport>,
    pub latest: Option<Latest>,
    pub memory: Option<Box<RawValue>>,
    pub packages: Option<Report>,
    pub rollout: Rollout,
}

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub status: Option<StatusReport>,
    pub packages: Option<Report>,
    pub rollout: Rollout,
    pub at: Now,
    /// For the page.
    pub json: String,
}

/// A point of the curves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Point {
    at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    celsius: Option<f32>,
    tokens_per_s: f64,
}

#[derive(Clone, Debug)]
struct Reading {
    at: Mono,
    answers: [Shape; 3],
    first_token: Shape,
    refused: u64,
}

/// How the last minutes were.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Rates {
    /// Over how long.
    seconds: u64,
    tokens_per_s: f64,
    requests_per_s: f64,
    edge: u64,
    cloud: u64,
    human: u64,
    refused: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p90_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_token_p50_ms: Option<f64>,
}

#[derive(Serialize)]
struct Page<'a> {
    at_ms: u64,
    wellness: Wellness,
    broker: &'a str,
    limits: &'a [(&'static str, u64)],
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a StatusReport>,
    rates: Rates,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packages: Option<Packages<'a>>,
    rollout: &'a Rollout,
    #[serde(skip_serializing_if = "Option::is_none")]
    latest: Option<&'a Latest>,
}

/// Of the keeper's report, what the page shows.
#[derive(Serialize)]
struct Packages<'a> {
    ring: &'a str,
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    looked_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    needed_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    there_bytes: Option<u64>,
}

/// What is remembered of earlier looks.
#[derive(Debug, Default)]
pub(super) struct Record {
    track: VecDeque<Point>,
    readings: VecDeque<Reading>,
    quick: VecDeque<(Mono, u64)>,
    /// Kept from look to look: not every look asks for them.
    latest: Option<Latest>,
    memory: Option<Box<RawValue>>,
}

impl Record {
    /// A look is done. What it did not ask for stays as it was.
    pub(super) fn on_look(
        &mut self,
        look: Look,
        meters: &Meters,
        broker: &str,
        limits: &[(&'static str, u64)],
        now: Now,
    ) -> Seen {
        let Look {
            status,
            latest,
            memory,
            packages,
            rollout,
        } = look;
        self.latest = latest.or(self.latest.take());
        self.memory = memory.or(self.memory.take());
        let rates = self.rates(meters, now.mono);
        keep(
            &mut self.track,
            TRACK,
            Point {
                at_ms: now.wall.0,
                celsius: status.as_ref().and_then(|it| it.governor.celsius),
                tokens_per_s: rates.tokens_per_s,
            },
        );
        let page = Page {
            at_ms: now.wall.0,
            wellness: wellness(status.as_ref(), limits),
            broker,
            limits,
            status: status.as_ref(),
            rates,
            memory: self.memory.as_deref(),
            packages: packages.as_ref().map(Packages::of),
            rollout: &rollout,
            latest: self.latest.as_ref(),
        };
        let json = serde_json::to_string(&page).expect("words and numbers always serialize");
        Seen {
            status,
            packages,
            rollout,
            at: now,
            json,
        }
    }

    /// The curves, and where the temperature is going.
    pub(super) fn track(&self, governor: Option<&Governed>) -> String {
        #[derive(Serialize)]
        struct Track<'a> {
            every_ms: u128,
            points: &'a VecDeque<Point>,
            #[serde(skip_serializing_if = "Option::is_none")]
            governor: Option<&'a Governed>,
        }
        let track = Track {
            every_ms: LOOK.as_millis(),
            points: &self.track,
            governor,
        };
        serde_json::to_string(&track).expect("numbers always serialize")
    }

    fn rates(&mut self, meters: &Meters, now: Mono) -> Rates {
        let completion = meters.tokens()[2].1;
        keep(&mut self.quick, QUICK, (now, completion));
        let due = self
            .readings
            .back()
            .is_none_or(|it| now.since(it.at) >= RATE_EVERY);
        let reading = Reading::of(meters, now);
        let oldest = self.readings.front().unwrap_or(&reading);
        let count = |by: By| reading.answers[by as usize].since(&oldest.answers[by as usize]);
        let [edge, cloud, human] = By::ALL.map(count);
        let all = edge.and(&cloud).and(&human);
        let refused = reading.refused.saturating_sub(oldest.refused);
        let span = now.since(oldest.at);
        let first = reading.first_token.since(&oldest.first_token);
        let rates = Rates {
            seconds: span.as_secs(),
            tokens_per_s: self.tokens_per_s(),
            requests_per_s: per_second(all.count() + refused, span),
            edge: edge.count(),
            cloud: cloud.count(),
            human: human.count(),
            refused,
            p50_ms: all.permille_ms(500),
            p90_ms: all.permille_ms(900),
            p99_ms: all.permille_ms(990),
            first_token_p50_ms: first.permille_ms(500),
        };
        if due {
            keep(&mut self.readings, RATES, reading);
        }
        rates
    }

    fn tokens_per_s(&self) -> f64 {
        let (Some((from, before)), Some((to, after))) = (self.quick.front(), self.quick.back())
        else {
            return 0.0;
        };
        per_second(after.saturating_sub(*before), to.since(*from))
    }
}

impl Reading {
    fn of(meters: &Meters, at: Mono) -> Self {
        let refused = meters
            .requests()
            .filter_map(|(_, outcome, count)| match outcome {
                Outcome::Refused(_) => Some(count),
                Outcome::Answered(_) => None,
            });
        Self {
            at,
            answers: By::ALL.map(|by| meters.answers(by)),
            first_token: meters.first_token(),
            refused: refused.sum(),
        }
    }
}

impl<'a> Packages<'a> {
    fn of(report: &'a Report) -> Self {
        let outcome = report.outcome.as_ref();
        let progress = report.progress.as_ref();
        let package = progress.map(|it| it.package.as_str());
        Self {
            ring: &report.ring,
            state: report.state,
            looked_ms: report.looked_ms,
            outcome: outcome.map(|it| it.state),
            package: package.or(outcome.and_then(|it| it.package.as_deref())),
            message: outcome.and_then(|it| it.message.as_deref()),
            needed_bytes: progress.map(|it| it.needed_bytes),
            there_bytes: progress.map(|it| it.there_bytes),
        }
    }
}

fn keep<T>(all: &mut VecDeque<T>, max: usize, one: T) {
    if all.len() == max {
        all.pop_front();
    }
    all.push_back(one);
}

fn per_second(count: u64, span: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "of minutes; far below 2^52")]
    let count = count as f64;
    let seconds = span.as_secs_f64();
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::clock::Wall;
    use crate::engine::Tokens;

    fn at(second: u64) -> Now {
        Now {
            mono: Mono(Duration::from_secs(second)),
            wall: Wall(1_795_000_000_000 + second * 1000),
        }
    }

    fn look(record: &mut Record, meters: &Meters, second: u64) -> Value {
        let look = Look {
            status: Some(StatusReport::default()),
            ..Look::default()
        };
        let seen = record.on_look(look, meters, "", &[], at(second));
        serde_json::from_str(&seen.json).unwrap()
    }

    #[test]
    fn rates_are_those_of_the_last_minutes() {
        let meters = Meters::new(["default".into()]);
        let mut record = Record::default();
        for second in (0..1000).step_by(2) {
            meters.ended("default", Outcome::Answered(By::Edge));
            meters.answered(By::Edge, Duration::from_millis(20));
            let tokens = Tokens {
                completion: 50,
                ..Tokens::default()
            };
            meters.computed(tokens, Duration::from_millis(4));
            look(&mut record, &meters, second);
        }
        let page = look(&mut record, &meters, 1000);
        let rates = &page["rates"];
        assert_eq!(rates["p50_ms"], 20.0, "{rates}");
        assert_eq!(rates["first_token_p50_ms"], 5.0);
        let tokens = rates["tokens_per_s"].as_f64().unwrap();
        assert!((20.0..=25.0).contains(&tokens), "{tokens}");
        let edge = rates["edge"].as_u64().unwrap();
        assert!((145..=155).contains(&edge), "five minutes, not all: {edge}");
        assert_eq!(rates["refused"], 0);
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let meters = Meters::default();
        let mut record = Record::default();
        for second in (0..10_000).step_by(2) {
            look(&mut record, &meters, second);
        }
        assert_eq!(record.track.len(), TRACK);
        assert_eq!(record.readings.len(), RATES);
        assert_eq!(record.quick.len(), QUICK);
        let track: Value = serde_json::from_str(&record.track(None)).unwrap();
        assert_eq!(track["points"].as_array().unwrap().len(), TRACK);
        assert_eq!(track["every_ms"], 2000);
    }

    #[test]
    fn what_one_look_did_not_ask_for_stays_from_the_one_before() {
        let mut record = Record::default();
        let with = Look {
            latest: Some(Latest {
                looked_at: 7,
                ..Latest::default()
            }),
            ..Look::default()
        };
        record.on_look(with, &Meters::default(), "", &[], at(0));
        let page = look(&mut record, &Meters::default(), 2);
        assert_eq!(page["latest"]["looked_at"], 7);
    }
}
