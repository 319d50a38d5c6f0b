//! `lineside explain`: where a request would go, by which rule, and what would change that.
//!
//! Asks the same functions as the service, without it: the request is read from a file, how things
//! stand is told by options, and nothing is sent anywhere. The request's text is never printed.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;

use super::check::{EXIT_UNAVAILABLE, faults_json, json};
use super::{EXIT_USAGE, refuse};
use crate::appliance::{self, plan};
use crate::clock::Clock;
use crate::config::{self, Settings, Surroundings};
use crate::intake::{self, Code, Message, Request};
use crate::reply::Connectivity;
use crate::router::explain::{Asked, Change, Explanation, Seen, explain};
use crate::router::{Aspect, Edge, Facts, Minute, Reach, Router, Situation, Strain, Tier};

/// Arguments of `lineside explain`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A request as JSON, as on MQTT; - for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The topic that it came on, if it is not the appliance's request topic.
    #[arg(long, value_name = "TOPIC", conflicts_with = "client")]
    topic: Option<String>,
    /// The client on whose own request topic it came.
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
    /// The time of day at the site, if it is not now.
    #[arg(long, value_name = "HH:MM", value_parser = minute)]
    at: Option<Minute>,
    /// Whether the broker is there.
    #[arg(long, default_value = "online")]
    broker: Line,
    /// Whether the configured upstreams can be reached.
    #[arg(long, default_value = "online")]
    cloud: Line,
    /// Whether the model on this appliance takes requests.
    #[arg(long, default_value = "online")]
    edge: Line,
    /// What the governor allows.
    #[arg(long, default_value = "nominal", value_parser = strain)]
    allowance: Strain,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Line {
    Online,
    Offline,
}

fn minute(text: &str) -> Result<Minute, String> {
    Minute::parse(text).ok_or_else(|| "a time of day such as 06:30".into())
}

fn strain(word: &str) -> Result<Strain, String> {
    let found = Strain::ALL.into_iter().find(|it| it.word() == word);
    found.ok_or_else(|| "nominal, warm, hot or critical".into())
}

/// Bytes of a file that is no request in any case.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// Runs the subcommand and returns the exit code.
pub fn command(args: &Args) -> io::Result<u8> {
    let settings = match config::load(&Surroundings::of_process(args.config.as_deref())) {
        Ok(settings) => settings,
        Err(faults) => {
            if args.json {
                writeln!(io::stdout(), "{}", faults_json(&faults))?;
            } else {
                write!(io::stderr(), "{faults}")?;
            }
            return Ok(config::EXIT_CODE);
        }
    };
    let payload = match read(&args.file) {
        Ok(payload) => payload,
        Err(error) => {
            let why = format!("{}: {error}", args.file.display());
            refuse(args.json, "no_file", &why);
            return Ok(EXIT_UNAVAILABLE);
        }
    };
    let topic = topic(args, &settings);
    let now = Clock::start().now().wall;
    let message = Message {
        topic: topic.clone(),
        payload,
        ..Message::default()
    };
    let request = match intake::read(&message, &settings.topics, &settings.intake, now) {
        Ok(request) => request,
        Err(refusal) => {
            let (code, what) = (refusal.code.word(), refusal.message);
            if args.json {
                refuse(true, code, &what);
            } else {
                refuse(false, code, &format!("this is no request ({code}): {what}"));
            }
            return Ok(EXIT_USAGE);
        }
    };
    let (router, source) = router(&settings);
    let clouds = vec![args.cloud.reach(); settings.clouds.len()];
    let situation = Situation {
        topic: Some(&topic),
        minute: args.at.unwrap_or_else(|| router.minute(now)),
        broker: args.broker.connectivity(),
        edge: match args.edge {
            Line::Online => Edge::Open,
            Line::Offline => Edge::Shut(Code::EngineUnavailable),
        },
        clouds: &clouds,
        review: Reach::Open,
        strain: args.allowance,
    };
    let facts = router.facts(&request, &situation);
    let told = Told {
        request: &request,
        explanation: explain(&router.policy, &facts, &situation),
        facts,
        source,
    };
    let text = if args.json {
        format!("{}\n", told.json())
    } else {
        told.text()
    };
    let _ = io::stdout().lock().write_all(text.as_bytes()); // a reader that hung up is no fault
    Ok(0)
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut payload = Vec::new();
    if file == Path::new("-") {
        io::stdin()
            .lock()
            .take(MAX_FILE_BYTES)
            .read_to_end(&mut payload)?;
    } else {
        let file = std::fs::File::open(file)?;
        file.take(MAX_FILE_BYTES).read_to_end(&mut payload)?;
    }
    Ok(payload)
}

fn topic(args: &Args, settings: &Settings) -> String {
    let topics = &settings.topics;
    let own = format!("{}/{}/request", topics.prefix, topics.appliance);
    match (&args.topic, &args.client) {
        (Some(topic), _) => topic.clone(),
        (None, Some(client)) => format!("{own}/{client}"),
        (None, None) => own,
    }
}

/// The service's router, and whose weights the estimates are made with.
fn router(settings: &Settings) -> (Router, Weights) {
    let (board, _) = plan::board(settings);
    let manifest =
        plan::folder(settings).and_then(|folder| plan::served(&folder, &board, settings));
    let weights = match &manifest {
        Some(manifest) if manifest.estimate.is_some() => Weights::Package,
        Some(_) | None => Weights::Usual,
    };
    (appliance::router(settings, manifest.as_ref()), weights)
}

/// Whose weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weights {
    Package,
    Usual,
}

impl Line {
    fn connectivity(self) -> Connectivity {
        match self {
            Self::Online => Connectivity::Online,
            Self::Offline => Connectivity::Offline,
        }
    }

    fn reach(self) -> Reach {
        match self {
            Self::Online => Reach::Open,
            Self::Offline => Reach::Shut,
        }
    }
}

/// All that there is to tell.
struct Told<'a> {
    request: &'a Request,
    facts: Facts<'a>,
    explanation: Explanation,
    source: Weights,
}

impl Told<'_> {
    /// What the rules went by; of an estimate it is said that it is one.
    fn facts(&self) -> Vec<(Aspect, String, bool)> {
        let fact = |aspect| {
            let estimated = match aspect {
                Aspect::Risk => self.request.risk.is_none(),
                Aspect::Complexity => self.request.complexity.is_none(),
                Aspect::Tokens => true,
                Aspect::Classification
                | Aspect::Task
                | Aspect::Client
                | Aspect::Topic
                | Aspect::Time
                | Aspect::Broker
                | Aspect::Cloud
                | Aspect::Allowance
                | Aspect::Text => false,
            };
            (aspect, self.facts.shown(aspect), estimated)
        };
        Aspect::ALL.into_iter().map(fact).collect()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |head: &str, rest: &str| {
            let _ = writeln!(text, "{}", format!("{head:<10}  {rest}").trim_end()); // a String takes all
        };
        let it = &self.explanation;
        line(
            "decides",
            &format!("rule {} -> {}", it.rule.rule, it.rule.to),
        );
        if it.rule.about.is_empty() {
            line("", "it asks nothing: it takes whatever comes to it");
        }
        for asked in &it.rule.about {
            line("", &fits(asked));
        }
        line("serves", &serves(&self.explanation));
        for (index, reason) in it.decision.route.reasons.iter().enumerate() {
            // Those of the rule were told; the others say why somebody else serves.
            if index >= it.rule.about.len() {
                line("", reason);
            }
        }
        for (index, seen) in it.before.iter().enumerate() {
            let head = if index == 0 { "before it" } else { "" };
            line(head, &passed(seen));
        }
        for (index, change) in it.changes.iter().enumerate() {
            let head = if index == 0 { "would" } else { "" };
            line(head, &changed(change));
        }
        for (index, (aspect, value, estimated)) in self.facts().into_iter().enumerate() {
            let head = if index == 0 { "goes by" } else { "" };
            let mark = match (estimated, self.source) {
                (false, _) => "",
                (true, Weights::Package) => ", estimated",
                (true, Weights::Usual) => ", estimated with the usual weights",
            };
            line(head, &format!("{:<14} {value}{mark}", aspect.word()));
        }
        text
    }

    fn json(&self) -> String {
        let it = &self.explanation;
        let decision = &it.decision;
        let onward = decision.onward.iter().map(tier);
        json(&Report {
            rule: SeenJson::of(&it.rule),
            tier: tier(&decision.tier),
            degraded: decision.degraded,
            owed: decision.owed.as_ref().map(tier),
            onward: onward.collect(),
            reasons: &decision.route.reasons,
            before: it.before.iter().map(SeenJson::of).collect(),
            changes: it.changes.iter().map(ChangeJson::of).collect(),
            facts: self.facts().into_iter().map(FactJson::of).collect(),
            weights: match self.source {
                Weights::Package => "package",
                Weights::Usual => "usual",
            },
        })
    }
}

fn fits(asked: &Asked) -> String {
    format!(
        "{} is {}: {}",
        asked.aspect.word(),
        asked.value,
        asked.wanted
    )
}

fn passed(seen: &Seen) -> String {
    let misses = seen.about.iter().map(|asked| {
        let (what, value, wanted) = (asked.aspect.word(), &asked.value, &asked.wanted);
        format!("{what} is {value}, wanted {wanted}")
    });
    let misses = misses.collect::<Vec<_>>().join("; ");
    format!("rule {} -> {}: {misses}", seen.rule, seen.to)
}

fn changed(change: &Change) -> String {
    let (what, value) = (change.aspect.word(), &change.value);
    format!("{what} {value} -> {} by rule {}", change.to, change.rule)
}

fn serves(explanation: &Explanation) -> String {
    let decision = &explanation.decision;
    let mut text = tier(&decision.tier);
    if decision.degraded {
        text.push_str(", degraded");
    }
    if let Some(owed) = &decision.owed {
        let _ = write!(text, ", until {} can be reached", tier(owed)); // a String takes all
    }
    let onward: Vec<_> = decision.onward.iter().map(tier).collect();
    if !onward.is_empty() {
        let _ = write!(text, "; in doubt {}", onward.join(", then "));
    }
    text
}

/// A tier, as a rule would name it.
fn tier(tier: &Tier) -> String {
    match tier {
        Tier::Cloud(name) => format!("cloud:{name}"),
        Tier::Refuse(code) => format!("refuse ({})", code.word()),
        Tier::Edge | Tier::Review(_) => tier.word().into(),
    }
}

/// The JSON of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    rule: SeenJson<'a>,
    tier: String,
    degraded: bool,
    owed: Option<String>,
    onward: Vec<String>,
    reasons: &'a [String],
    before: Vec<SeenJson<'a>>,
    changes: Vec<ChangeJson<'a>>,
    facts: Vec<FactJson>,
    weights: &'static str,
}

#[derive(Serialize)]
struct SeenJson<'a> {
    name: &'a str,
    to: String,
    about: Vec<AskedJson<'a>>,
}

#[derive(Serialize)]
struct AskedJson<'a> {
    aspect: &'static str,
    value: &'a str,
    wanted: &'a str,
}

#[derive(Serialize)]
struct ChangeJson<'a> {
    aspect: &'static str,
    value: &'a str,
    rule: &'a str,
    to: String,
}

#[derive(Serialize)]
struct FactJson {
    aspect: &'static str,
    value: String,
    estimated: bool,
}

impl<'a> SeenJson<'a> {
    fn of(seen: &'a Seen) -> Self {
        let asked = |asked: &'a Asked| AskedJson {
            aspect: asked.aspect.word(),
            value: &asked.value,
            wanted: &asked.wanted,
        };
        Self {
            name: &seen.rule,
            to: seen.to.to_string(),
            about: seen.about.iter().map(asked).collect(),
        }
    }
}

impl<'a> ChangeJson<'a> {
    fn of(change: &'a Change) -> Self {
        Self {
            aspect: change.aspect.word(),
            value: &change.value,
            rule: &change.rule,
            to: change.to.to_string(),
        }
    }
}

impl FactJson {
    fn of((aspect, value, estimated): (Aspect, String, bool)) -> Self {
        Self {
            aspect: aspect.word(),
            value,
            estimated,
        }
    }
}
