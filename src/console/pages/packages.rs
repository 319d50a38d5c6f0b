//! Packages over the air: what is here, what is on its way, how the last look ended.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use super::layout::{self, bytes, clean, moment};

/// Signs of the bar.
const BAR: usize = 30;

/// What the keeper says, as far as a page needs it.
#[derive(Debug, Deserialize)]
pub struct Report {
    ring: String,
    place: u16,
    sources: Vec<String>,
    state: String,
    source: Option<String>,
    /// Looks that ended since the start.
    pub looks: u64,
    looked_ms: Option<u64>,
    next_ms: Option<u64>,
    root: Option<Root>,
    metadata: Option<Versions>,
    /// How the last look ended.
    pub outcome: Option<Outcome>,
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

/// How a look ended.
#[derive(Debug, Deserialize)]
pub struct Outcome {
    /// In a word.
    pub state: String,
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

/// The page, whatever was asked: how it is now.
pub(super) fn told(data: &Value) -> String {
    match Report::deserialize(data) {
        Ok(report) => report.told(),
        Err(_) => layout::anything(data),
    }
}

impl Report {
    /// How far a look is, in a line.
    pub fn drawn(&self) -> String {
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
    pub fn ended(&self) -> String {
        let mut text = String::new();
        if let Some(outcome) = &self.outcome {
            let _ = writeln!(text, "{}", outcome.told(&self.ring)); // a String takes all
            for (variant, why) in &outcome.left_out {
                let _ = writeln!(text, "  {} was not taken: {}", clean(variant), clean(why));
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
            let _ = writeln!(text, "  trouble with {}: {}", clean(source), clean(what));
        }
        text
    }

    /// The page.
    pub fn told(&self) -> String {
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
                    || "idle".into(),
                    |at| format!("idle; looks again at {}", moment(at)),
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
            "taken_back" => format!(
                "{package} was taken back here and is not brought again: {}",
                clean(self.message.as_deref().unwrap_or_default())
            ),
            _ => format!(
                "failed ({}): {}",
                self.code.as_deref().unwrap_or_default(),
                clean(self.message.as_deref().unwrap_or_default())
            ),
        }
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
                    message: (state == "taken_back").then(|| "by hand: it chatters".into()),
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
        assert_eq!(
            told("taken_back", Some("plant-3"), None),
            "plant-3 was taken back here and is not brought again: by hand: it chatters\n"
        );
    }
}
