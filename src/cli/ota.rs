//! `lineside ota`: what the running appliance has of packages, and a look for new ones.

use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;

use super::check::EXIT_UNAVAILABLE;
use super::reach::{ReachError, Target};
use crate::console::client;
use crate::console::pages::packages::Report;

/// How often a look under way is asked after.
const LOOK: Duration = Duration::from_millis(250);

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
