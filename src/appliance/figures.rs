//! The figures on their way to the broker: the sampler, the reporter's task, and who sorts the
//! store's answers.
//!
//! ```text
//!  meters, status ─► sampler ─┬─► reporter ─► store ─► reporter ─► broker's connection
//!                             └─► neighbours, in their own words
//! ```

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::CHANNEL;
use super::neighbours::{Ears, Neighbours};
use crate::broker;
use crate::clock::Clock;
use crate::config::Settings;
use crate::console::commands::Counter;
use crate::dispatch::{Answer, Inquiry, StatusReport};
use crate::spool::shell as spool;
use crate::spool::{Disk, DiskError, Spool, Tree};
use crate::telemetry::batch::{Figures, Sample, Serving};
use crate::telemetry::meters::CLASSES_US;
use crate::telemetry::reporter::{Left, Plan, Reporter, TOKEN, Tally};
use crate::telemetry::shell::{self, Inlets, Outlets};
use crate::telemetry::{By, Meters, Outcome, Shape, sparkplug};

/// How long the last batch may take to the disk, and a neighbour's goodbye.
pub(super) const GOODBYE: Duration = Duration::from_secs(2);
/// Of the tree's room, what the reporter fills: a batch that replaces others comes before they go.
const OWN_PERCENT: u64 = 90;
/// Records that one look into the tree brings at the start.
const PAGE: usize = 256;

/// What the disk holds of earlier lives.
pub(super) fn left<D: Disk>(spool: &Spool<D>) -> Result<Vec<Left>, DiskError> {
    let mut left = Vec::new();
    let mut from = 0;
    loop {
        let page = spool.look(Tree::Telemetry, from, u64::MAX, PAGE)?;
        let Some((last, _)) = page.last() else {
            return Ok(left);
        };
        from = last + 1;
        left.extend(page.iter().filter_map(|(seq, body)| Left::of(*seq, body)));
    }
}

/// Whose answer of the store this is.
pub(super) fn is_ours(event: &spool::Event) -> bool {
    match event {
        spool::Event::Committed { token, .. }
        | spool::Event::Refused { token, .. }
        | spool::Event::Failed { token }
        | spool::Event::Records { token, .. } => token.0 & TOKEN != 0,
        spool::Event::Restored { .. } => false,
    }
}

/// The store's side of it.
pub(super) struct Shelf {
    /// What earlier lives left.
    pub left: Vec<Left>,
    /// Answers of the store, by [`is_ours`]; and that it is back.
    pub events: mpsc::Receiver<spool::Event>,
    /// To the store.
    pub commands: Sender<spool::Command>,
}

/// What others hold of it.
pub(super) struct Told {
    /// Takes the news of the line, where somebody wants them.
    pub tap: Option<mpsc::Sender<broker::Event>>,
    /// What became of samples.
    pub tally: watch::Receiver<(Tally, usize, u64)>,
    /// What became of Sparkplug's messages, where there are any.
    pub node: Option<watch::Receiver<sparkplug::Tally>>,
}

/// Sampler, reporter and neighbours, at work.
pub(super) struct Reporting {
    sampler: Option<JoinHandle<()>>,
    reporter: Option<JoinHandle<()>>,
    neighbours: Neighbours,
}

/// Starts them where the settings want it.
pub(super) fn start(
    settings: &Settings,
    shelf: Shelf,
    counter: &Counter,
    meters: &Arc<Meters>,
    commands: mpsc::Sender<broker::Command>,
    clock: Clock,
) -> (Reporting, Told) {
    let (tally, tallied) = watch::channel((Tally::default(), 0, 0));
    let (neighbours, beside) = Neighbours::start(settings, commands.clone(), clock);
    let mut news: Vec<_> = beside.news.into_iter().collect();
    let mut samples = None;
    let reporter = settings.telemetry.samples.map(|per_batch| {
        let plan = Plan {
            appliance: settings.name.to_string(),
            topics: settings.topics.telemetry(),
            samples: per_batch,
            cap_bytes: settings.spool.telemetry_bytes / 100 * OWN_PERCENT,
            pause: settings.telemetry.pause,
        };
        let reporter = Reporter::new(plan, &shelf.left);
        let (to_reporter, inlet) = mpsc::channel(CHANNEL);
        let (to_line, line) = mpsc::channel(CHANNEL);
        samples = Some(to_reporter);
        news.push(to_line);
        let inlets = Inlets {
            samples: inlet,
            spool: shelf.events,
            broker: line,
        };
        let outlets = Outlets {
            spool: shelf.commands,
            broker: commands,
            tally,
        };
        tokio::spawn(shell::run(reporter, inlets, outlets, clock))
    });
    let is_wanted = reporter.is_some() || neighbours.are_there();
    let sampler = is_wanted.then(|| {
        let (counter, meters) = (counter.clone(), Arc::clone(meters));
        let (every, ears) = (settings.telemetry.every, neighbours.ears());
        tokio::spawn(sample(every, counter, meters, (samples, ears), clock))
    });
    let told = Told {
        tap: fork(news),
        tally: tallied,
        node: beside.node,
    };
    let reporting = Reporting {
        sampler,
        reporter,
        neighbours,
    };
    (reporting, told)
}

/// One way in for the news of the line, to all who want them.
fn fork(mut all: Vec<mpsc::Sender<broker::Event>>) -> Option<mpsc::Sender<broker::Event>> {
    if all.len() < 2 {
        return all.pop();
    }
    let (tap, mut news) = mpsc::channel::<broker::Event>(CHANNEL);
    tokio::spawn(async move {
        while let Some(event) = news.recv().await {
            for one in &all {
                let _ = one.try_send(event.clone()); // few parcels are under way, and there is room
            }
        }
    });
    Some(tap)
}

impl Reporting {
    /// Ends the sampler; what was gathered goes to the disk, and neighbours hear a goodbye.
    pub(super) async fn close(self) {
        let Self {
            sampler,
            reporter,
            neighbours,
        } = self;
        if let Some(sampler) = sampler {
            sampler.abort();
            let _ = sampler.await; // with it go the ways to the others
        }
        let reported = async {
            if let Some(mut reporter) = reporter
                && timeout(GOODBYE, &mut reporter).await.is_err()
            {
                reporter.abort(); // the store does not answer
            }
        };
        tokio::join!(reported, neighbours.close());
    }
}

async fn sample(
    every: Duration,
    counter: Counter,
    meters: Arc<Meters>,
    (samples, ears): (Option<mpsc::Sender<Sample>>, Ears),
    clock: Clock,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let Some(Answer::Status(status)) = counter.inquire(Inquiry::Status).await else {
            continue; // its silence is told by the watchdog
        };
        let served = status.package.as_deref().zip(status.standing.as_ref());
        let sample = Sample {
            at: clock.now().wall,
            serving: served.map(|(package, standing)| Serving::of(package, standing)),
            figures: figures(&status, &meters),
        };
        ears.tell(&sample, &status, &meters);
        if let Some(samples) = &samples {
            let _ = samples.try_send(sample); // a reporter that is stuck has enough
        }
    }
}

/// The same figures that the metrics have, as whole numbers.
pub(super) fn figures(status: &StatusReport, meters: &Meters) -> Figures {
    let mut all = Figures::new();
    let mut put = |name: String, value: u64| {
        all.insert(name, i64::try_from(value).unwrap_or(i64::MAX));
    };
    for (rule, outcome, count) in meters.requests() {
        put(
            match outcome {
                Outcome::Answered(by) => format!("requests.{rule}.{}", by.word()),
                Outcome::Refused(code) => format!("requests.{rule}.refused.{}", code.word()),
            },
            count,
        );
    }
    let mut histogram = |name: &str, shape: &Shape| {
        put(format!("{name}.count"), shape.count());
        put(format!("{name}.sum_us"), shape.sum_us);
        for (us, count) in CLASSES_US.iter().zip(shape.counts) {
            if count > 0 {
                put(format!("{name}.class_{us}_us"), count);
            }
        }
    };
    for by in By::ALL {
        histogram(&format!("answer.{}", by.word()), &meters.answers(by));
    }
    histogram("first_token", &meters.first_token());
    histogram("spool.write", &meters.writes());
    histogram("spool.sync", &meters.syncs());
    for (kind, count) in meters.tokens() {
        put(format!("tokens.{kind}"), count);
    }
    for (queue, depth) in [
        ("open", status.open as u64),
        ("running", u64::from(status.running)),
        ("waiting", status.waiting),
        ("cloud", status.away as u64),
        ("review", status.pending as u64),
        ("outbox", status.outbox),
    ] {
        put(format!("queue.{queue}"), depth);
    }
    for (tree, bytes) in &status.bytes {
        put(format!("spool.{tree}_bytes"), *bytes);
    }
    for (what, why, count) in &status.counts {
        put(format!("counts.{what}.{why}"), *count);
    }
    for (name, word) in &status.cloud {
        put(format!("cloud.{name}.open"), u64::from(*word == "open"));
    }
    put("broker.connected".into(), u64::from(status.broker_online));
    put("store.healthy".into(), u64::from(status.store != "failing"));
    put("engine.ready".into(), u64::from(status.engine == "ready"));
    put("engine.restarts".into(), status.engine_crashes);
    put(
        "governor.rest_permille".into(),
        status.governor.rest_permille.into(),
    );
    for (name, celsius) in [
        ("celsius", status.governor.celsius),
        ("limit", status.governor.limit_celsius),
        ("ahead", status.governor.ahead_celsius),
    ] {
        if let Some(celsius) = celsius {
            all.insert(format!("governor.{name}_millicelsius"), milli(celsius));
        }
    }
    all
}

#[expect(clippy::cast_possible_truncation, reason = "temperatures of a board")]
fn milli(celsius: f32) -> i64 {
    (f64::from(celsius) * 1000.0).round() as i64
}
