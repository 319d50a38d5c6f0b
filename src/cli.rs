//! The command line: one file for each subcommand.

pub mod ask;
pub mod calibrate;
pub mod check;
pub mod console;
pub mod explain;
pub mod learned;
pub mod models;
pub mod once;
pub mod ota;
pub mod pin;
pub mod plan;
mod progress;
pub mod provision;
mod reach;
pub mod review;
pub mod selfcheck;
pub mod status;
pub mod trace;

#[cfg(test)]
mod tests;

pub use reach::{EXIT_USAGE, FAILED, ReachError, Target, USAGE, refuse};

use std::path::PathBuf;

/// An inference appliance for the factory line: MQTT in, a local model, MQTT out, nothing lost.
#[derive(Debug, clap::Parser)]
#[command(name = "lineside", version, about)]
pub struct Arguments {
    /// What is to be done.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Serve until told to stop. Needs no configuration to start.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Check the configuration and this machine; change nothing.
    Check(check::Args),
    /// Say how the running appliance is.
    Status(status::Args),
    /// Put a request to the running appliance.
    Ask(ask::Args),
    /// Show what became of a request.
    Trace(trace::Args),
    /// Answer what waits for a person.
    Review(review::Args),
    /// Say where a request would go, by which rule, and what would change that.
    Explain(explain::Args),
    /// Type commands to the running appliance, as on its serial console.
    Console(console::Args),
    /// Give the running appliance one command of its console.
    Do(once::Args),
    /// Make the file that the serial console's PIN is checked against, from standard input.
    Pin(pin::Args),
    /// Make this board's name, key and request for a certificate, once; take a certificate that was
    /// brought.
    Provision(provision::Args),
    /// Look at model packages, or make one.
    Models(models::Args),
    /// Look for packages over the air, or say what came.
    Ota(ota::Args),
    /// Say what a model takes of memory, whether it fits, and how it would be run.
    Plan(plan::Args),
    /// Find out how far to believe a package's answers, by its gate suite; or show what reviewers
    /// taught the running appliance.
    Calibrate(calibrate::Args),
    /// The engine process. Started by the service, with a socket as standard input.
    #[command(hide = true)]
    Engine,
}

impl Command {
    /// Whether a program reads what it prints.
    pub fn json(&self) -> bool {
        match self {
            Self::Run { .. } | Self::Pin(_) | Self::Engine => false,
            Self::Check(args) => args.json,
            Self::Status(args) => args.target.json,
            Self::Ask(args) => args.target.json,
            Self::Trace(args) => args.target.json,
            Self::Review(args) => args.target.json,
            Self::Explain(args) => args.json,
            Self::Console(args) => args.target.json,
            Self::Do(args) => args.target.json,
            Self::Provision(args) => args.json,
            Self::Models(args) => args.target.json,
            Self::Ota(args) => args.target.json,
            Self::Plan(args) => args.json,
            Self::Calibrate(args) => args.target.json,
        }
    }
}
