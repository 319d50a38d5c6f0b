//! `lineside trace ID`: what became of a request.

use std::fmt::Write as _;
use std::io::Write;

use serde::Deserialize;
use serde_json::json;

use super::reach::{ReachError, Target};
use crate::clock::{DAY_MS, Wall};
use crate::console::client;

/// Arguments of `lineside trace`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The request's id.
    pub id: String,
    /// Which appliance.
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, Deserialize)]
struct Timeline {
    id: String,
    client: String,
    ticket: u64,
    state: String,
    rule: Option<String>,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Step {
    at_ms: u64,
    what: String,
}

/// The exit code when nothing is known of the id.
const EXIT_UNKNOWN: u8 = 1;

/// Runs the subcommand and returns the exit code.
pub async fn command(args: &Args) -> Result<u8, ReachError> {
    let socket = args.target.socket()?;
    let line = json!({ "cmd": "trace", "id": args.id });
    let data = client::command(&socket, &line).await?;
    let timelines: Vec<Timeline> = client::read(&data)?;
    let text = if args.target.json {
        format!("{data}\n")
    } else if timelines.is_empty() {
        format!(
            "nothing is known of '{}': it never arrived, was refused at the door, or left the \
             window of recorded outcomes\n",
            args.id
        )
    } else {
        timelines
            .iter()
            .map(Timeline::told)
            .collect::<Vec<_>>()
            .join("\n")
    };
    // A reader that hung up is no fault of the appliance.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(if timelines.is_empty() {
        EXIT_UNKNOWN
    } else {
        0
    })
}

impl Timeline {
    fn told(&self) -> String {
        let rule = self.rule.as_deref().unwrap_or("none yet");
        let mut text = format!(
            "{} of {} (ticket {}): {}, rule {rule}\n",
            self.id, self.client, self.ticket, self.state
        );
        let start = self.steps.first().map_or(0, |step| step.at_ms);
        for step in &self.steps {
            let _ = writeln!(
                text,
                "  {}  +{:>6} ms  {}",
                utc(step.at_ms),
                step.at_ms.saturating_sub(start),
                step.what
            ); // writing to a String cannot fail
        }
        text
    }
}

/// A moment as people write it: `2026-11-21 12:00:00.123Z`.
fn utc(at_ms: u64) -> String {
    let in_day = at_ms % DAY_MS;
    let (year, month, day) = Wall(at_ms).date();
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, ms) = (in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00.000Z");
        assert_eq!(utc(951_782_400_123), "2000-02-29 00:00:00.123Z");
        assert_eq!(utc(1_795_262_399_999), "2026-11-21 11:59:59.999Z");
        assert_eq!(utc(4_102_444_799_000), "2099-12-31 23:59:59.000Z");
    }
}
