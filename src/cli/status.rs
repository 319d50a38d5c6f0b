//! `lineside status`: how the running appliance is.

use std::fmt::Write as _;
use std::io::Write;

use serde::Deserialize;
use serde_json::json;

use super::reach::{ReachError, Target};
use crate::console::{client, pages};

/// Arguments of `lineside status`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Show states in colour.
    #[arg(long)]
    pub color: bool,
    /// Which appliance.
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, Deserialize)]
struct Report {
    state: String,
    engine: String,
    engine_why: Option<String>,
    package: Option<String>,
    standing: Option<Standing>,
    engine_crashes: u64,
    #[serde(default)]
    engine_unguarded: Vec<String>,
    store: String,
    open: u64,
    running: u64,
    waiting: u64,
    away: u64,
    pending: u64,
    cloud: Vec<(String, String)>,
    reduced: Vec<String>,
    governor: Governed,
    outbox: u64,
    outcomes: u64,
    bytes: Vec<(String, u64)>,
    counts: Vec<(String, String, u64)>,
}

#[derive(Debug, Deserialize)]
struct Standing {
    variant: String,
    board: String,
    ring: Option<String>,
    gate: Option<(u64, u64)>,
}

impl Standing {
    fn told(&self) -> String {
        let mut text = format!("{} on {}", self.variant, self.board);
        if let Some(ring) = &self.ring {
            let _ = write!(text, ", ring {ring}"); // writing to a String cannot fail
        }
        if let Some((right, of)) = self.gate {
            let _ = write!(text, ", {right} of {of} right in its gate");
        }
        text
    }
}

#[derive(Debug, Deserialize)]
struct Governed {
    state: String,
    short: Option<String>,
    celsius: Option<f32>,
    limit_celsius: Option<f32>,
    ahead_celsius: Option<f32>,
    limit_in_s: Option<u64>,
    #[serde(default)]
    why: String,
}

impl Governed {
    fn told(&self) -> String {
        let mut text = self.state.clone();
        if let Some(short) = &self.short {
            let _ = write!(text, ", turns away ({short})"); // writing to a String cannot fail
        }
        match (self.celsius, self.limit_celsius, self.ahead_celsius) {
            (Some(celsius), Some(limit), Some(ahead)) => {
                let _ = write!(
                    text,
                    ", {celsius:.1} °C of {limit:.1}, in a minute {ahead:.1}"
                );
            }
            (Some(celsius), _, _) => {
                let _ = write!(text, ", {celsius:.1} °C");
            }
            (None, _, _) => text.push_str(", no temperature sensor"),
        }
        if let Some(seconds) = self.limit_in_s {
            let _ = write!(text, ", limit in {seconds} s");
        }
        if !self.why.is_empty() {
            let _ = write!(text, ": {}", self.why);
        }
        text
    }
}

/// Runs the subcommand and returns the exit code.
pub async fn command(args: &Args) -> Result<u8, ReachError> {
    let socket = args.target.socket()?;
    let data = client::command(&socket, &json!({ "cmd": "status" })).await?;
    let report: Report = client::read(&data)?;
    let mut out = std::io::stdout().lock();
    // A reader that hung up is no fault of the appliance.
    let _ = if args.target.json {
        writeln!(out, "{data}")
    } else if args.color {
        let told = report.told();
        told.lines()
            .try_for_each(|line| writeln!(out, "{}", pages::paint(line)))
    } else {
        write!(out, "{}", report.told())
    };
    Ok(0)
}

impl Report {
    fn engine(&self) -> String {
        let mut text = self.engine.clone();
        if let Some(package) = &self.package {
            let _ = write!(text, ", package {package}"); // writing to a String cannot fail
        }
        match self.engine_crashes {
            0 => {}
            1 => text.push_str(", failed once"),
            count => {
                let _ = write!(text, ", failed {count} times");
            }
        }
        if let Some(why) = &self.engine_why {
            let _ = write!(text, ": {why}");
        }
        text
    }

    fn told(&self) -> String {
        let mut text = String::new();
        let mut line = |what: &str, value: String| {
            let _ = writeln!(text, "{what:<12}{value}"); // writing to a String cannot fail
        };
        line("state", self.state.clone());
        line("engine", self.engine());
        if let Some(standing) = &self.standing {
            line("model", standing.told());
        }
        if !self.engine_unguarded.is_empty() {
            line("unguarded", self.engine_unguarded.join(", "));
        }
        line("store", self.store.clone());
        line("heat", self.governor.told());
        line(
            "requests",
            format!(
                "{} open ({} running, {} waiting, {} for the cloud, {} for a person)",
                self.open, self.running, self.waiting, self.away, self.pending
            ),
        );
        if !self.cloud.is_empty() {
            let cloud = self
                .cloud
                .iter()
                .map(|(name, reach)| format!("{name} {reach}"));
            line("cloud", cloud.collect::<Vec<_>>().join(", "));
        }
        if !self.reduced.is_empty() {
            line("reduced", self.reduced.join(", "));
        }
        line("replies", format!("{} on their way", self.outbox));
        line("outcomes", format!("{} on record", self.outcomes));
        let bytes: Vec<String> = self
            .bytes
            .iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(tree, bytes)| format!("{tree} {bytes} B"))
            .collect();
        line(
            "on disk",
            if bytes.is_empty() {
                "nothing".into()
            } else {
                bytes.join(", ")
            },
        );
        for (what, why, count) in &self.counts {
            line("counted", format!("{count:>8}  {what}: {why}"));
        }
        text
    }
}
