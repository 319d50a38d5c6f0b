//! The metrics: every figure in the text format of `OpenMetrics`.
//!
//! What is counted on the path of a request is read from the meters; the rest is that of the last
//! look, so a scrape asks nobody for anything. Labels take words of this program and names that the
//! site's settings hold (rules, upstreams): never a client, a request or a text. So the number of
//! series has a limit that is known at the start.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};

use super::door::Traffic;
use super::facts::Seen;
use crate::dispatch::StatusReport;
use crate::telemetry::meters::CLASSES_US;
use crate::telemetry::reporter::Tally;
use crate::telemetry::{By, Meters, Outcome, Shape, sparkplug};
use crate::uplink::Spending;

/// The text format, and what it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `OpenMetrics`.
    Open,
    /// What Prometheus had before it, for tools that read nothing else.
    Plain,
}

impl Format {
    /// As the header `Accept` wants it.
    pub(super) fn wanted(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or_default();
        if accept.contains("text/plain") && !accept.contains("openmetrics") {
            Self::Plain
        } else {
            Self::Open
        }
    }

    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Open => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

const STATES: [&str; 4] = ["online", "offline", "maintenance", "draining"];
const HEAT: [&str; 4] = ["nominal", "warm", "hot", "critical"];
const ENGINE: [&str; 6] = [
    "absent",
    "starting",
    "ready",
    "unloaded",
    "restarting",
    "unloadable",
];
const REACH: [&str; 3] = ["open", "resting", "spent"];
const KEEPER: [&str; 4] = ["idle", "asking", "downloading", "verifying"];
const LOOKS: [&str; 6] = [
    "ready",
    "nothing",
    "later",
    "halted",
    "taken_back",
    "failed",
];
const ROLLOUT: [&str; 8] = [
    "idle",
    "staged",
    "gate",
    "gated",
    "trial",
    "committed",
    "rolled_back",
    "withdrawn",
];
/// Counts of what was lost to somebody.
const DROPS: [&str; 4] = ["dropped", "lost", "undeliverable", "unaddressable"];

/// What a scrape tells.
#[derive(Debug)]
pub(super) struct Figures {
    pub seen: Arc<Seen>,
    pub alive: bool,
    pub meters: Arc<Meters>,
    pub limits: Vec<(&'static str, u64)>,
    pub traffic: Arc<Traffic>,
    pub streams: usize,
    pub tally: (Tally, usize, u64),
    pub node: Option<sparkplug::Tally>,
    pub spent: Vec<(String, Spending)>,
}

/// All of it.
pub(super) fn text(figures: Figures, format: Format) -> String {
    let mut registry = Registry::with_prefix("lineside");
    registry.register_collector(Box::new(figures));
    let mut out = String::new();
    let written = match format {
        Format::Open => text::encode(&mut out, &registry),
        Format::Plain => prometheus_text::encode(&mut out, &registry),
    };
    written.expect("a string takes whatever is written");
    out
}

type Labels<'a> = &'a [(&'static str, &'a str)];

/// Writes families.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn family(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        kind: MetricType,
        each: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, unit, kind)?;
        each(&mut encoder)
    }

    fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (Vec<(&'static str, &'l str)>, u64)>,
    ) -> fmt::Result {
        self.family(name, help, None, MetricType::Counter, |encoder| {
            for (labels, value) in all {
                let none: Option<&Exemplar<NoLabelSet, f64>> = None;
                encoder
                    .encode_family(&labels)?
                    .encode_counter(&value, none)?;
            }
            Ok(())
        })
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.family(name, help, None, MetricType::Counter, |encoder| {
            let none: Option<&Exemplar<NoLabelSet, f64>> = None;
            encoder.encode_counter(&value, none)
        })
    }

    fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        all: impl IntoIterator<Item = (Vec<(&'static str, &'l str)>, f64)>,
    ) -> fmt::Result {
        self.family(name, help, unit, MetricType::Gauge, |encoder| {
            for (labels, value) in all {
                encoder.encode_family(&labels)?.encode_gauge(&value)?;
            }
            Ok(())
        })
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
        self.family(name, help, unit, MetricType::Gauge, |encoder| {
            encoder.encode_gauge(&value)
        })
    }

    /// One series for each word; that of the current one is 1, all others 0.
    fn one_of(&mut self, name: &str, help: &str, words: &[&str], now: &str) -> fmt::Result {
        let all = words.iter().map(|word| {
            let is = if *word == now { 1.0 } else { 0.0 };
            (vec![("state", *word)], is)
        });
        self.gauges(name, help, None, all)
    }

    fn histograms<'l>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (Labels<'l>, Shape)>,
    ) -> fmt::Result {
        let kind = MetricType::Histogram;
        self.family(name, help, Some(&Unit::Seconds), kind, |encoder| {
            for (labels, shape) in all {
                let classes = CLASSES_US.iter().zip(shape.counts);
                let mut buckets: Vec<_> =
                    classes.map(|(us, count)| (seconds(*us), count)).collect();
                buckets.push((f64::INFINITY, shape.beyond));
                let (sum, count) = (seconds(shape.sum_us), shape.count());
                if labels.is_empty() {
                    encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
                } else {
                    let mut encoder = encoder.encode_family(&labels)?;
                    encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
                }
            }
            Ok(())
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people and graphs")]
fn real(value: u64) -> f64 {
    value as f64
}

fn seconds(us: u64) -> f64 {
    real(us) / 1e6
}

fn truth(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let page = &mut Page(encoder);
        page.family(
            "build",
            "The software.",
            None,
            MetricType::Info,
            |encoder| encoder.encode_info(&[("version", env!("CARGO_PKG_VERSION"))]),
        )?;
        let help = "Whether the dispatcher answers.";
        page.gauge("alive", help, None, truth(self.alive))?;
        self.requests(page)?;
        self.spool_times(page)?;
        self.panel(page)?;
        self.telemetry(page)?;
        self.packages(page)?;
        self.budgets(page)?;
        match &self.seen.status {
            Some(status) => {
                serving(status, page)?;
                service(status, page)?;
                heat(status, page)
            }
            None => Ok(()),
        }
    }
}

impl Figures {
    fn requests(&self, page: &mut Page<'_>) -> fmt::Result {
        let ended = self.meters.requests().map(|(rule, outcome, count)| {
            let (source, status, reason) = match outcome {
                Outcome::Answered(by) => (by.word(), "answered", ""),
                Outcome::Refused(code) => ("none", "refused", code.word()),
            };
            let labels = vec![
                ("source", source),
                ("rule", rule),
                ("status", status),
                ("reason", reason),
            ];
            (labels, count)
        });
        let help = "Requests with an outcome, by who answered and the rule that decided.";
        page.counters("requests", help, ended)?;
        let labels = By::ALL.map(|by| [("source", by.word())]);
        let answers = By::ALL.iter().zip(&labels);
        let answers = answers.map(|(by, label)| (label.as_slice(), self.meters.answers(*by)));
        let help = "Time from acceptance to the final answer.";
        page.histograms("answer", help, answers)?;
        let help = "Time from the start of a job to its first token.";
        let first = [([].as_slice(), self.meters.first_token())];
        page.histograms("first_token", help, first)?;
        let tokens = self.meters.tokens();
        let tokens = tokens.map(|(kind, count)| (vec![("kind", kind)], count));
        page.counters("tokens", "Tokens of the local model.", tokens)
    }

    fn spool_times(&self, page: &mut Page<'_>) -> fmt::Result {
        let help = "Time that a write of records into the store took.";
        page.histograms("spool_write", help, [([].as_slice(), self.meters.writes())])?;
        let help = "Time that a commit took to be safe from a power cut.";
        page.histograms("spool_sync", help, [([].as_slice(), self.meters.syncs())])?;
        let limits = self.limits.iter();
        let limits = limits.map(|(tree, limit)| (vec![("tree", *tree)], real(*limit)));
        let help = "Bytes that records may take.";
        page.gauges("spool_limit", help, Some(&Unit::Bytes), limits)
    }

    fn packages(&self, page: &mut Page<'_>) -> fmt::Result {
        let rollout = self.seen.rollout.state;
        page.one_of("rollout_state", "How a roll-out stands.", &ROLLOUT, rollout)?;
        let Some(report) = &self.seen.packages else {
            return Ok(());
        };
        let help = "What the keeper of packages does.";
        page.one_of("ota_state", help, &KEEPER, report.state)?;
        let last = report.outcome.as_ref().map_or("", |it| it.state);
        page.one_of(
            "ota_last_look_state",
            "How its last look ended.",
            &LOOKS,
            last,
        )?;
        page.counter(
            "ota_looks",
            "Looks for new packages that ended.",
            report.looks,
        )?;
        let at = report.looked_ms.map_or(0.0, |ms| real(ms) / 1000.0);
        let help = "When the last one ended; 0 if none did.";
        page.gauge("ota_last_look_timestamp", help, Some(&Unit::Seconds), at)
    }

    fn telemetry(&self, page: &mut Page<'_>) -> fmt::Result {
        let (tally, batches, bytes) = &self.tally;
        let samples = [("taken", tally.taken), ("sent", tally.sent)];
        let samples = samples.map(|(what, n)| (vec![("what", what)], n));
        let help = "Samples of figures for the broker.";
        page.counters("telemetry_samples", help, samples)?;
        let dropped = tally.dropped.iter();
        let dropped = dropped.map(|(reason, n)| (vec![("reason", *reason)], *n));
        let help = "Samples that were dropped.";
        page.counters("telemetry_dropped", help, dropped)?;
        let help = "Batches that the broker has.";
        page.counter("telemetry_batches", help, tally.batches)?;
        let help = "Of those, replays after an outage.";
        page.counter("telemetry_replays", help, tally.replays)?;
        let help = "Packed bytes that went to the broker.";
        page.counter("telemetry_sent_bytes", help, tally.bytes)?;
        let help = "Batches that wait on the disk.";
        page.gauge("telemetry_backlog", help, None, real(*batches as u64))?;
        let help = "Their bytes.";
        page.gauge("telemetry_backlog", help, Some(&Unit::Bytes), real(*bytes))?;
        let Some(node) = self.node else {
            return Ok(());
        };
        let said = [("birth", node.births), ("data", node.messages)];
        let said = said.map(|(kind, n)| (vec![("kind", kind)], n));
        page.counters("sparkplug_messages", "Messages to SCADA systems.", said)?;
        let help = "Changes that wait for a broker and a primary host.";
        page.gauge("sparkplug_held", help, None, real(node.held as u64))?;
        let help = "Changes that gave way to newer ones.";
        page.counter("sparkplug_dropped", help, node.dropped)
    }

    fn budgets(&self, page: &mut Page<'_>) -> fmt::Result {
        let each = |amount: fn(&Spending) -> Option<f64>| {
            self.spent.iter().filter_map(move |(upstream, it)| {
                let place = [("upstream", upstream.as_str()), ("span", it.span)];
                let labels = place.into_iter().chain([("what", it.what)]);
                Some((labels.collect(), amount(it)?))
            })
        };
        let help = "Used of a budget: requests, tokens, or cost in the currency's unit.";
        page.gauges("upstream_spent", help, None, each(|it| Some(it.spent)))?;
        let help = "Left of it; absent where there is no limit.";
        page.gauges("upstream_left", help, None, each(|it| it.left))
    }

    fn panel(&self, page: &mut Page<'_>) -> fmt::Result {
        let traffic = &self.traffic;
        let open = real(traffic.open.load(Ordering::Relaxed));
        page.gauge("panel_connections", "Connections to the panel.", None, open)?;
        let help = "Windows that show the page.";
        page.gauge("panel_streams", help, None, real(self.streams as u64))?;
        let refused = [
            ("connections", &traffic.crowded),
            ("streams", &traffic.streams_full),
            ("denied", &traffic.denied),
        ];
        let refused =
            refused.map(|(reason, n)| (vec![("reason", reason)], n.load(Ordering::Relaxed)));
        page.counters("panel_refused", "What the panel turned away.", refused)
    }
}

fn service(status: &StatusReport, page: &mut Page<'_>) -> fmt::Result {
    page.one_of("state", "How the appliance is.", &STATES, status.state)?;
    let help = "Whether there is a broker.";
    page.gauge("broker_connected", help, None, truth(status.broker_online))?;
    page.one_of("engine_state", "How the engine is.", &ENGINE, status.engine)?;
    let help = "Ends of the engine's process that nobody asked for.";
    page.counter("engine_restarts", help, status.engine_crashes)?;
    let healthy = truth(status.store != "failing");
    page.gauge("store_healthy", "Whether the store works.", None, healthy)?;
    let depths = [
        ("open", status.open as u64),
        ("running", u64::from(status.running)),
        ("waiting", status.waiting),
        ("cloud", status.away as u64),
        ("review", status.pending as u64),
        ("outbox", status.outbox),
    ];
    let depths = depths.map(|(queue, depth)| (vec![("queue", queue)], real(depth)));
    page.gauges(
        "queue_depth",
        "Requests and replies that wait.",
        None,
        depths,
    )?;
    let bytes = status.bytes.iter();
    let bytes = bytes.map(|(tree, bytes)| (vec![("tree", *tree)], real(*bytes)));
    let help = "Bytes of records alive.";
    page.gauges("spool", help, Some(&Unit::Bytes), bytes)?;
    let help = "Outcomes on record.";
    page.gauge("outcomes", help, None, real(status.outcomes as u64))?;
    let counted = |drops: bool| {
        let counts = status.counts.iter();
        let counts = counts.filter(move |(what, _, _)| DROPS.contains(what) == drops);
        counts.map(|(what, why, n)| (vec![("what", *what), ("reason", *why)], *n))
    };
    page.counters("drops", "What was lost to somebody.", counted(true))?;
    page.counters("events", "What else was counted.", counted(false))?;
    let reach = status.cloud.iter().flat_map(|(upstream, now)| {
        REACH.iter().map(move |word| {
            let labels = vec![("upstream", upstream.as_str()), ("state", *word)];
            (labels, truth(word == now))
        })
    });
    let help = "Whether a model elsewhere can be asked; spent is a used-up budget.";
    page.gauges("upstream_state", help, None, reach)
}

/// One series, whose labels change with the package.
fn serving(status: &StatusReport, page: &mut Page<'_>) -> fmt::Result {
    let (Some(package), Some(standing)) = (&status.package, &status.standing) else {
        return Ok(());
    };
    let labels = [
        ("package", package.as_str()),
        ("variant", standing.variant.as_str()),
        ("board", standing.board.as_str()),
        ("ring", standing.ring.as_deref().unwrap_or_default()),
    ];
    let help = "The package that answers, and on what.";
    page.family("serving", help, None, MetricType::Info, |encoder| {
        encoder.encode_info(&labels)
    })?;
    let Some((right, of)) = standing.gate else {
        return Ok(());
    };
    let all = [("right", right), ("wrong", of.saturating_sub(right))];
    let all = all.map(|(mark, items)| (vec![("mark", mark)], real(items as u64)));
    let help = "Items of the package's gate on this device.";
    page.gauges("gate_items", help, None, all)
}

fn heat(status: &StatusReport, page: &mut Page<'_>) -> fmt::Result {
    let governor = &status.governor;
    page.one_of(
        "governor_state",
        "How near the limits are.",
        &HEAT,
        governor.state,
    )?;
    let shortages = ["hot", "memory"].map(|it| {
        let short = truth(governor.short == Some(it));
        (vec![("cause", it)], short)
    });
    let help = "What keeps the edge from taking everything.";
    page.gauges("governor_short", help, None, shortages)?;
    let rest = f64::from(governor.rest_permille) / 1000.0;
    let help = "Rest after each pass, as a share of its time.";
    page.gauge("governor_rest", help, Some(&Unit::Ratios), rest)?;
    for (name, help, celsius) in [
        (
            "temperature",
            "Of the sensor nearest to its limit.",
            governor.celsius,
        ),
        (
            "temperature_limit",
            "The limit of that sensor.",
            governor.limit_celsius,
        ),
        (
            "temperature_forecast",
            "In a minute, if everything stays as it is.",
            governor.ahead_celsius,
        ),
    ] {
        if let Some(celsius) = celsius {
            page.gauge(name, help, Some(&Unit::Celsius), f64::from(celsius))?;
        }
    }
    match governor.limit_in_s {
        Some(seconds) => {
            let help = "When the limit would be reached; absent if never.";
            page.gauge(
                "temperature_limit_in",
                help,
                Some(&Unit::Seconds),
                real(seconds),
            )
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Governed;
    use crate::engine::Standing;
    use crate::intake::Code;

    fn figures(meters: Meters) -> Figures {
        let status = StatusReport {
            state: "online",
            engine: "ready",
            store: "well",
            broker_online: true,
            package: Some("p 2".into()),
            standing: Some(Standing {
                variant: "Q8_0".into(),
                board: "a board".into(),
                ring: Some("pilot".into()),
                gate: Some((9, 10)),
            }),
            cloud: vec![("plant \"x\"\n".into(), "spent")],
            counts: vec![("dropped", "stream", 3), ("requests", "accepted", 9)],
            governor: Governed {
                celsius: Some(61.5),
                ..Governed::default()
            },
            ..StatusReport::default()
        };
        Figures {
            seen: Arc::new(Seen {
                status: Some(status),
                ..Seen::default()
            }),
            alive: true,
            meters: Arc::new(meters),
            limits: vec![("inbox", 1000)],
            traffic: Arc::default(),
            streams: 2,
            tally: Default::default(),
            node: None,
            spent: vec![(
                "plant".into(),
                Spending {
                    span: "hour",
                    what: "requests",
                    spent: 12.0,
                    left: Some(588.0),
                },
            )],
        }
    }

    #[test]
    fn figures_are_told_in_the_text_format() {
        let meters = Meters::new(["default".into()]);
        meters.ended("default", Outcome::Answered(By::Edge));
        meters.ended("default", Outcome::Refused(Code::Hot));
        meters.answered(By::Edge, std::time::Duration::from_millis(40));
        let told = text(figures(meters), Format::Open);
        for line in [
            "# TYPE lineside_requests counter",
            r#"lineside_requests_total{source="edge",rule="default",status="answered",reason=""} 1"#,
            r#"lineside_requests_total{source="none",rule="default",status="refused",reason="hot"} 1"#,
            r#"lineside_answer_seconds_bucket{le="0.05",source="edge"} 1"#,
            r#"lineside_answer_seconds_bucket{le="+Inf",source="edge"} 1"#,
            r#"lineside_answer_seconds_count{source="edge"} 1"#,
            r#"lineside_state{state="online"} 1.0"#,
            r#"lineside_serving_info{package="p 2",variant="Q8_0",board="a board",ring="pilot"} 1"#,
            r#"lineside_gate_items{mark="wrong"} 1.0"#,
            r#"lineside_state{state="draining"} 0.0"#,
            r#"lineside_upstream_spent{upstream="plant",span="hour",what="requests"} 12.0"#,
            r#"lineside_upstream_left{upstream="plant",span="hour",what="requests"} 588.0"#,
            r#"lineside_upstream_state{upstream="plant \"x\"\n",state="spent"} 1.0"#,
            r#"lineside_drops_total{what="dropped",reason="stream"} 3"#,
            r#"lineside_events_total{what="requests",reason="accepted"} 9"#,
            r#"lineside_spool_limit_bytes{tree="inbox"} 1000.0"#,
            "lineside_temperature_celsius 61.5",
            "lineside_panel_streams 2.0",
        ] {
            assert!(told.lines().any(|it| it == line), "{line}\n{told}");
        }
        assert!(told.ends_with("# EOF\n"), "{told}");
        assert!(!told.contains("temperature_forecast"), "nobody knows it");
    }

    #[test]
    fn an_appliance_that_does_not_answer_still_has_figures() {
        let mut silent = figures(Meters::default());
        silent.seen = Arc::default();
        silent.alive = false;
        let told = text(silent, Format::Open);
        assert!(told.contains("lineside_alive 0.0\n"), "{told}");
    }

    #[test]
    fn who_can_read_nothing_else_gets_the_older_format() {
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        assert_eq!(Format::wanted(Some(prometheus)), Format::Open);
        assert_eq!(Format::wanted(None), Format::Open);
        assert_eq!(Format::wanted(Some("text/plain")), Format::Plain);
        let told = text(figures(Meters::default()), Format::Plain);
        assert!(
            told.contains("# TYPE lineside_drops_total counter"),
            "{told}"
        );
    }
}
