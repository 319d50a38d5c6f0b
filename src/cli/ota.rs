//! `lineside ota`: what the running appliance has of packages, and a look for new ones.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::check::EXIT_UNAVAILABLE;
use super::reach::{ReachError, Target};
use crate::clock::{DAY_MS, Wall};
use crate::console::client;

/// How often a look under way is asked after.
const LOOK: Duration = Duration::from_millis(250);
/// Signs of the bar.
const BAR: usize = 30;

/// Arguments of `lineside ota`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Which appliance.
    #[command(flatten)]
    pub target: Target,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Say what is here, what is on its way, and when it was last looked for.
    Status,
    /// Look now, and wait for the end. Ends with 69 where no source convinced.
    Check {
        /// Take it from this folder and no other source: a USB stick, as the appliance sees it.
        #[arg(long, value_name = "FOLDER")]
        from: Option<PathBuf>,
        /// Fetch this package, whatever the ring says.
        #[arg(long, value_name = "NAME-SEQ")]
        package: Option<String>,
        /// Do not wait for the end.
        #[arg(long)]
        no_wait: bool,
    },
    /// End the look that is under way. What was fetched stays.
    Cancel,
}

#[derive(Debug, Deserialize)]
struct Report {
    ring: String,
    place: u16,
    sources: Vec<String>,
    state: String,
    source: Option<String>,
    looks: u64,
    looked_ms: Option<u64>,
    next_ms: Option<u64>,
    root: Option<Root>,
    metadata: Option<Versions>,
    outcome: Option<Outcome>,
    progress: Option<Fetching>,
    troubles: Vec<(String, String)>,
    packages: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Root {
    version: u64,
    expires: String,
}

#[derive(Debug, Deserialize)]
struct Versions {
    timestamp: u64,
    snapshot: u64,
    targets: u64,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    state: String,
    package: Option<String>,
    quantization: Option<String>,
    folder: Option<PathBuf>,
    left_out: Vec<(String, String)>,
    code: Option<String>,
    message: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Fetching {
    package: String,
    needed_bytes: u64,
    there_bytes: u64,
    reused_bytes: u64,
}

/// Runs the subcommand and returns the exit code.
pub async fn command(args: &Args) -> Result<u8, ReachError> {
    let socket = args.target.socket()?;
    match args.command.as_ref().unwrap_or(&Command::Status) {
        Command::Status => {
            let line = json!({ "cmd": "ota", "action": "status" });
            let data = client::command(&socket, &line).await?;
            show(&data, args.target.json, Report::told)?;
            Ok(0)
        }
        Command::Cancel => {
            let line = json!({ "cmd": "ota", "action": "cancel" });
            let data = client::command(&socket, &line).await?;
            let told = |_: &Report| "it ends; what was fetched stays\n".to_owned();
            show(&data, args.target.json, told)?;
            Ok(0)
        }
        Command::Check {
            from,
            package,
            no_wait,
        } => {
            let mut line = json!({ "cmd": "ota", "action": "check" });
            if let Some(from) = from {
                let from = std::path::absolute(from);
                let from = from.map_err(|error| ReachError::Usage(error.to_string()))?;
                line["from"] = json!(from);
            }
            if let Some(package) = package {
                line["package"] = json!(package);
            }
            let data = client::command(&socket, &line).await?;
            if *no_wait {
                show(&data, args.target.json, |_| "it looks\n".to_owned())?;
                return Ok(0);
            }
            let before = client::read::<Report>(&data)?.looks;
            let data = until_done(&socket, before, args.target.json).await?;
            show(&data, args.target.json, Report::ended)?;
            let report: Report = client::read(&data)?;
            let failed = report.outcome.is_some_and(|it| it.state == "failed");
            Ok(if failed { EXIT_UNAVAILABLE } else { 0 })
        }
    }
}

/// Asks until there was one look more; draws how far it is, where somebody watches.
async fn until_done(
    socket: &Path,
    before: u64,
    is_json: bool,
) -> Result<Box<RawValue>, ReachError> {
    let watched = !is_json && std::io::stderr().is_terminal();
    let mut drawn = false;
    loop {
        let line = json!({ "cmd": "ota", "action": "status" });
        let data = client::command(socket, &line).await?;
        let report: Report = client::read(&data)?;
        if report.looks > before {
            if drawn {
                eprint!("\r\x1b[K");
            }
            return Ok(data);
        }
        if watched {
            eprint!("\r\x1b[K{}", report.drawn());
            let _ = std::io::stderr().flush(); // nobody watches any more
            drawn = true;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn show(
    data: &RawValue,
    is_json: bool,
    told: impl FnOnce(&Report) -> String,
) -> Result<(), ReachError> {
    let report: Report = client::read(data)?;
    let mut out = std::io::stdout().lock();
    // A reader that hung up is no fault of the appliance.
    let _ = if is_json {
        writeln!(out, "{data}")
    } else {
        write!(out, "{}", told(&report))
    };
    Ok(())
}

impl Report {
    /// How far a look is, in a line.
    fn drawn(&self) -> String {
        match &self.progress {
            Some(it) if it.needed_bytes > 0 => {
                let there = u128::from(it.there_bytes.min(it.needed_bytes));
                let full = there * BAR as u128 / u128::from(it.needed_bytes);
                let full = usize::try_from(full).unwrap_or(BAR);
                format!(
                    "{} [{}{}] {} of {}",
                    it.package,
                    "#".repeat(full),
                    "-".repeat(BAR - full),
                    bytes(it.there_bytes),
                    bytes(it.needed_bytes)
                )
            }
            Some(it) => format!("{}: {}", it.package, self.state),
            None => format!("asking {}", self.source.as_deref().unwrap_or_default()),
        }
    }

    /// How the last look ended.
    fn ended(&self) -> String {
        let mut text = String::new();
        if let Some(outcome) = &self.outcome {
            let _ = writeln!(text, "{}", outcome.told(&self.ring)); // a String takes all
            for (variant, why) in &outcome.left_out {
                let _ = writeln!(text, "  {variant} was not taken: {why}");
            }
            if let Some(folder) = &outcome.folder {
                let _ = writeln!(text, "  it lies in {}", folder.display());
            }
        }
        if let Some(fetched) = &self.progress
            && fetched.reused_bytes > 0
        {
            let reused = bytes(fetched.reused_bytes);
            let _ = writeln!(text, "  {reused} of it were here already");
        }
        for (source, what) in &self.troubles {
            let _ = writeln!(text, "  trouble with {source}: {what}");
        }
        text
    }

    fn told(&self) -> String {
        let mut text = String::new();
        let mut line = |what: &str, value: String| {
            let _ = writeln!(text, "{what:<12}{value}"); // a String takes all
        };
        line(
            "ring",
            format!("{}, place {} of 1000", self.ring, self.place),
        );
        line("sources", self.sources.join(", "));
        match &self.root {
            Some(root) => line(
                "trust",
                format!("root {}, until {}", root.version, root.expires),
            ),
            None => line("trust", "nothing was verified since the start".into()),
        }
        if let Some(it) = &self.metadata {
            let versions = format!(
                "timestamp {}, snapshot {}, targets {}",
                it.timestamp, it.snapshot, it.targets
            );
            line("metadata", versions);
        }
        line(
            "now",
            if self.state == "idle" {
                self.next_ms.map_or_else(
                    || "waits".into(),
                    |at| format!("waits; looks again at {}", moment(at)),
                )
            } else {
                self.drawn()
            },
        );
        if let Some(at) = self.looked_ms {
            line("looked", format!("{} (look {})", moment(at), self.looks));
        }
        let here = self.packages.join(", ");
        line(
            "here",
            if here.is_empty() {
                "no package".into()
            } else {
                here
            },
        );
        if self.outcome.is_some() {
            let _ = write!(text, "{:<12}{}", "last look", self.ended());
        }
        text
    }
}

impl Outcome {
    fn told(&self, ring: &str) -> String {
        let package = self.package.as_deref().unwrap_or_default();
        match self.state.as_str() {
            "ready" => {
                let variant = self.quantization.as_deref().unwrap_or_default();
                format!("{package} is here, as {variant}")
            }
            "nothing" => format!("nothing is meant for ring {ring}"),
            "later" => format!("{package} is meant for others in ring {ring} first"),
            "halted" => format!("{package} is on offer, and ring {ring} is halted"),
            _ => format!(
                "failed ({}): {}",
                self.code.as_deref().unwrap_or_default(),
                self.message.as_deref().unwrap_or_default()
            ),
        }
    }
}

/// A moment as people read it, in UTC.
fn moment(ms: u64) -> String {
    let (year, month, day) = Wall(ms).date();
    let seconds = ms % DAY_MS / 1000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// Bytes as people read them.
fn bytes(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        10_000_000.. => format!("{} MB", bytes / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ota::desk;

    fn read(report: &desk::Report) -> Report {
        serde_json::from_value(serde_json::to_value(report).unwrap()).unwrap()
    }

    #[test]
    fn what_the_appliance_says_is_read_whole() {
        let report = desk::Report {
            ring: "canary".into(),
            place: 404,
            sources: vec!["https://models.plant/lineside".into()],
            state: "downloading",
            source: Some("https://models.plant/lineside".into()),
            looks: 2,
            looked_ms: Some(1_800_000_000_000),
            root: Some(desk::Root {
                version: 3,
                expires: "2030-01-01T00:00:00Z".into(),
            }),
            metadata: Some(desk::Versions {
                timestamp: 9,
                snapshot: 8,
                targets: 7,
            }),
            outcome: Some(desk::Outcome {
                state: "failed",
                code: Some("expired"),
                message: Some("timestamp: expired".into()),
                ..desk::Outcome::default()
            }),
            progress: Some(desk::Fetching {
                package: "plant-3".into(),
                needed_bytes: 30_000_000,
                there_bytes: 15_000_000,
                reused_bytes: 12_000,
                fetched_bytes: 15_000_100,
            }),
            packages: vec!["plant-2".into()],
            ..desk::Report::default()
        };
        let told = read(&report).told();
        for part in [
            "ring        canary, place 404 of 1000\n",
            "trust       root 3, until 2030-01-01T00:00:00Z\n",
            "metadata    timestamp 9, snapshot 8, targets 7\n",
            "now         plant-3 [###############---------------] 15 MB of 30 MB\n",
            "looked      2027-01-15 08:00:00Z (look 2)\n",
            "here        plant-2\n",
            "last look   failed (expired): timestamp: expired\n",
            "12 kB of it were here already",
        ] {
            assert!(told.contains(part), "{part:?} in {told}");
        }
    }

    #[test]
    fn each_end_of_a_look_has_its_sentence() {
        let told = |state, package: Option<&str>, variant: Option<&str>| {
            let report = desk::Report {
                ring: "canary".into(),
                state: "idle",
                outcome: Some(desk::Outcome {
                    state,
                    package: package.map(str::to_owned),
                    quantization: variant.map(str::to_owned),
                    ..desk::Outcome::default()
                }),
                ..desk::Report::default()
            };
            read(&report).ended()
        };
        assert_eq!(
            told("ready", Some("plant-3"), Some("Q8_0")),
            "plant-3 is here, as Q8_0\n"
        );
        assert_eq!(
            told("nothing", None, None),
            "nothing is meant for ring canary\n"
        );
        assert!(told("later", Some("plant-3"), None).contains("others in ring canary first"));
        assert!(told("halted", Some("plant-3"), None).contains("is halted"));
    }
}
