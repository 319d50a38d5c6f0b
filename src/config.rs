//! Configuration: what the site wrote becomes [`Settings`], or [`Faults`] that name everything
//! that is wrong with it.
//!
//! ```text
//!  reference.toml ─┐
//!  config.toml ────┼─► keys: known? right kind? in range? ─► layers: last word per key ─► check ─► Settings
//!  conf.d/*.toml ──┘                 │                                                      │
//!                                    └──────────────────────► Faults ◄──────────────────────┘
//! ```
//!
//! Purpose: everything a technician or an image builder can get wrong is found before a port is
//! bound, in one go, each with its file, line, value and what would be right.
//!
//! Invariants:
//!
//! - The defaults are declared once: in the [`REFERENCE`] that people read.
//! - A later layer replaces single keys; an array is replaced as a whole.
//! - A secret is read from a file that not everyone may read, and never shown: not in a fault,
//!   not among the effective settings, not by `Debug`.
//! - No environment variable is read but through [`Surroundings`].
//!
//! How it fails: [`load`] returns [`Faults`], which the caller prints before it ends with
//! [`EXIT_CODE`].

mod admission;
mod check;
mod engine;
mod entries;
mod fault;
mod file;
mod keys;
mod layers;
mod link;
mod ota;
mod panel;
pub mod pin;
mod provision;
mod route;
mod secret;
mod settings;
mod telemetry;
#[cfg(test)]
mod tests;
mod tiers;
mod topic_rules;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use crate::fault::{Fault, Place};
pub use fault::Faults;
pub use layers::{Document, REFERENCE};
pub use ota::{RING_WANTED, is_ring};
pub use panel::{Panel, PanelIdentity};
pub use pin::Pin;
pub use provision::{Enrol, Est};
pub use secret::Secret;
pub use settings::{
    ApplianceName, AtRest, Bill, ClientCertificate, Confidence, Console, Endpoint, Engine, Entry,
    Expiry, Flow, Form, HeatLimit, KvType, Link, Log, Login, OnAlarm, Ota, PackageSource, Parity,
    Proxy, Review, Roots, Settings, SpoolLimits, Trust, Upstream,
};
pub use telemetry::{Sparkplug, Telemetry};

/// The process's exit code for a faulty configuration (`EX_CONFIG`).
pub const EXIT_CODE: u8 = 78;

/// What the configuration depends on besides its files.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The file that the command line names.
    pub config: Option<PathBuf>,
    /// Environment variables.
    pub env: BTreeMap<String, OsString>,
    /// The machine's name.
    pub host_name: String,
    /// Where the system's configuration lives.
    pub etc: PathBuf,
    /// Where a bundled model package lies if it was installed, the best place first.
    pub packages: Vec<PathBuf>,
}

/// The bundled package in a checkout, from its top, and where a distribution puts it.
const BUNDLED: [&str; 2] = [
    "models/factory-triage",
    "/usr/share/lineside/models/factory-triage",
];

/// The environment variables that matter here.
const VARIABLES: [&str; 6] = [
    "HOME",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "STATE_DIRECTORY",
    "RUNTIME_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
];

impl Surroundings {
    /// Those of this process.
    pub fn of_process(config: Option<&Path>) -> Self {
        let read = |name: &str| Some((name.to_owned(), std::env::var_os(name)?));
        Self {
            // Made absolute, because relative paths inside count from the file's folder.
            config: config.map(|file| std::path::absolute(file).unwrap_or_else(|_| file.into())),
            env: VARIABLES.into_iter().filter_map(read).collect(),
            host_name: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            etc: PathBuf::from("/etc"),
            packages: BUNDLED
                .into_iter()
                .filter_map(|folder| std::path::absolute(folder).ok())
                .collect(),
        }
    }

    /// The folder that a variable names. systemd may name several; the first is the unit's own.
    /// A relative one counts as none, as the XDG specification says.
    fn folder(&self, variable: &str) -> Option<PathBuf> {
        let value = self.env.get(variable)?;
        let first = std::env::split_paths(value).next()?;
        first.is_absolute().then_some(first)
    }
}

/// Reads and checks everything.
pub fn load(around: &Surroundings) -> Result<Settings, Faults> {
    let mut faults = Faults::default();
    let layers = layers::Layers::read(around, &mut faults);
    check::check(layers, around, faults)
}

/// What `lineside provision` needs to know.
#[derive(Clone, Debug)]
pub struct Home {
    /// The name that the site gave, if it did.
    pub name: Option<ApplianceName>,
    /// Where everything lies that outlives a restart.
    pub state_dir: PathBuf,
    /// Where sysfs is.
    pub sysfs: PathBuf,
    /// Where procfs is.
    pub procfs: PathBuf,
    /// Who signs certificates, if somebody does and is to be asked.
    pub est: Option<Est>,
}

/// The folder of the appliance's identity, below the state directory.
pub const IDENTITY: &str = "identity";

/// Reads only that, and checks nothing else of the settings.
pub fn home(around: &Surroundings, enrol: Enrol) -> Result<Home, Faults> {
    let mut faults = Faults::default();
    let layers = layers::Layers::read(around, &mut faults);
    check::home(layers, around, faults, enrol)
}

/// Checks documents as if they were the site's files, lowest first; looks for no others.
pub fn load_documents(documents: &[Document], around: &Surroundings) -> Result<Settings, Faults> {
    let mut faults = Faults::default();
    let layers = layers::Layers::of_documents(documents, &mut faults);
    check::check(layers, around, faults)
}

/// Reads where the command line reaches the running service, and checks nothing else of the
/// settings. For the subcommands that only talk to it: their users may not read its secrets.
pub fn control_socket(around: &Surroundings) -> Result<PathBuf, Faults> {
    let mut faults = Faults::default();
    let layers = layers::Layers::read(around, &mut faults);
    check::control_socket(layers, around, faults)
}
