//! What the subcommands that speak to a running appliance have in common: the way there.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::check::EXIT_UNAVAILABLE;
use crate::config::{self, Surroundings};
use crate::console::client::ClientError;
use crate::fault::{Fault, NOT_SET};

/// `EX_USAGE`.
pub const EXIT_USAGE: u8 = 64;

/// The same for programs.
pub const USAGE: &str = "usage";
/// What went wrong is the system's, not the caller's: a file, a stream.
pub const FAILED: &str = "failed";

/// Says why a subcommand has no answer: on the stream for errors, or as the one line of JSON that a
/// program waits for, in the form of the control socket.
pub fn refuse(as_json: bool, code: &str, message: &str) {
    let message = message.trim_end();
    // Nobody is left to tell.
    let _ = if as_json {
        writeln!(std::io::stdout(), "{}", refusal(code, message))
    } else {
        writeln!(std::io::stderr(), "lineside: {message}")
    };
}

/// A refusal in the form of the control socket.
pub(super) fn refusal(code: &str, message: &str) -> Value {
    json!({"ok": false, "error": {"code": code, "message": message}})
}

/// Where the appliance listens for commands.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Target {
    /// The configuration file of the running appliance.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Its control socket, where it is not the one of the configuration.
    #[arg(long, value_name = "PATH", global = true)]
    pub socket: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// Where an appliance that systemd started listens.
const SYSTEM_SOCKET: &str = "/run/lineside/control.sock";

/// Why there is no answer to print.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The configuration does not say where.
    #[error("{0}")]
    Config(config::Faults),
    /// The appliance did not answer, or said no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What was typed makes no sense.
    #[error("{0}")]
    Usage(String),
}

impl ReachError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => config::EXIT_CODE,
            Self::Client(_) => EXIT_UNAVAILABLE,
            Self::Usage(_) => EXIT_USAGE,
        }
    }

    /// The word for programs.
    pub fn code(&self) -> &str {
        match self {
            Self::Config(_) => "config",
            Self::Client(error) => error.code(),
            Self::Usage(_) => USAGE,
        }
    }

    /// What went wrong, without the code that stands beside it.
    pub fn message(&self) -> String {
        match self {
            Self::Client(ClientError::Refused { message, .. }) => message.clone(),
            Self::Config(_) | Self::Client(_) | Self::Usage(_) => self.to_string(),
        }
    }
}

impl Target {
    /// The control socket: the one named, the one of the configuration, or the system's.
    pub fn socket(&self) -> Result<PathBuf, ReachError> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let around = Surroundings::of_process(self.config.as_deref());
        // Not the whole settings: a technician may not read the broker's password.
        let system = Path::new(SYSTEM_SOCKET);
        let configured = match config::control_socket(&around) {
            Err(_) if system.exists() => return Ok(system.into()),
            // Root without a home, as the hook that an update tool runs: the service, which systemd
            // starts, has its own way to its state. It may not be up yet.
            Err(faults) if homeless(&faults) => return Ok(system.into()),
            told => told.map_err(ReachError::Config)?,
        };
        if !configured.exists() && system.exists() {
            return Ok(system.into());
        }
        Ok(configured)
    }
}

/// Whether nothing is wrong but that nobody's home says where the state lies.
fn homeless(faults: &config::Faults) -> bool {
    let is_that = |fault: &Fault| fault.key == "appliance.state_dir" && fault.value == NOT_SET;
    faults.0.iter().all(is_that)
}

/// The name of the login, for what is done in a person's name.
pub(super) fn login() -> String {
    let login = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    login.unwrap_or_else(|_| "console".into())
}
