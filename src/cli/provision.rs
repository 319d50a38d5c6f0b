//! `lineside provision`: who this appliance is, made once and kept.
//!
//! ```text
//!  STATE_DIR/identity/   name  serial  device.key   made at the first boot, never changed after
//!                        device.csr                 what a certification authority signs
//!                        device.pem  ca.pem         what it answers
//!                        drop/                      where somebody puts that: a person with a stick
//! ```
//!
//! Purpose: boards come out of one image. This gives each its name and a key that never leaves it,
//! asks for a certificate, and takes one: that was brought, or that a server signs ([`est`]). It runs
//! at every boot, before the service, without the network; with it, some times a day; and by hand.
//!
//! Invariants: what is there is kept, so that it can run any number of times and be cut off
//! anywhere; nothing but the asking depends on the time of day, for a board without a clock of its own
//! starts in 1970; a certificate is taken only if it belongs to this device's key.
//!
//! How it fails: by [`ProvisionError`], which names the file. What was brought and is of no use is
//! left where it lies, and told. A server that gives no certificate leaves all else as it is, and what
//! it answered is told.

mod bundle;
mod certificate;
mod der;
mod est;
mod folder;
mod line;
mod request;
mod serial;

use std::fmt;
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ring::signature::EcdsaKeyPair;
use rustix::process::geteuid;
use serde::Serialize;

use super::EXIT_USAGE;
use super::check::EXIT_UNAVAILABLE;
use crate::broker::{Identity, Tls, tls};
use crate::clock::{Clock, Wall};
use crate::config::{self, Enrol, Est, Surroundings};
use crate::ota::tuf::Expiry;
use est::{Device, Enrolled, Step};
use folder::Folder;

/// Arguments of `lineside provision`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What this appliance is called. Without: the host name, or after the board's number where
    /// the host is called like any other.
    #[arg(long)]
    pub name: Option<String>,
    /// The board's number, where it does not say so itself.
    #[arg(long, value_name = "NUMBER")]
    pub serial: Option<String>,
    /// Ask nobody over the network.
    #[arg(long)]
    pub offline: bool,
    /// Have the certificate renewed now, though it lasts.
    #[arg(long, conflicts_with = "offline")]
    pub renew: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Where a service that systemd starts has its state.
const SYSTEM_STATE: &str = "/var/lib/lineside";
/// The variable by which systemd says so.
const STATE_DIRECTORY: &str = "STATE_DIRECTORY";

/// Files in the folder of the identity.
const NAME: &str = "name";
const SERIAL: &str = "serial";
const KEY: &str = "device.key";
const REQUEST: &str = "device.csr";
const CERTIFICATE: &str = "device.pem";
const AUTHORITY: &str = "ca.pem";
const DROP: &str = "drop";

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The configuration is faulty.
    #[error("{0}")]
    Config(config::Faults),
    /// A file or folder of the identity.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// In the system's words.
        error: io::Error,
    },
    /// The key that is there is none.
    #[error("{0} is no private key in PKCS #8; move it away and one is made anew")]
    Key(PathBuf),
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// The name on the command line.
    #[error("--name {0:?}: letters, digits, '-', '_' or '.', and not \"pool\"")]
    Name(String),
    /// The number on the command line.
    #[error("--serial {0:?}: the number that the board's maker gave it, of three signs or more")]
    Serial(String),
}

impl ProvisionError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => config::EXIT_CODE,
            Self::Name(_) | Self::Serial(_) => EXIT_USAGE,
            Self::File { .. } | Self::Key(_) | Self::Random => EXIT_UNAVAILABLE,
        }
    }
}

/// What was found and done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The appliance's name.
    pub name: String,
    /// Whether it was there, or chosen now and why.
    pub name_from: &'static str,
    /// The board's number.
    pub serial: Option<String>,
    /// Where it stands.
    pub serial_from: Option<String>,
    /// `made` or `kept`.
    pub key: &'static str,
    /// `made` or `kept`.
    pub request: &'static str,
    /// `taken`, `kept` or `none`.
    pub certificate: &'static str,
    /// The end of its life, if there is one.
    pub until: Option<String>,
    /// `taken`, `kept` or `none`.
    pub authority: &'static str,
    /// What was asked of a server, and what came of it; absent where none is named, or none to be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enrolment: Option<Enrolment>,
    /// What was brought and is of no use, and why.
    pub refused: Vec<String>,
    /// Where all this lies.
    pub folder: PathBuf,
}

/// What came of asking a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Enrolment {
    /// `needless`, `enrolled`, `renewed`, `later` or `failed`.
    pub outcome: &'static str,
    /// Why, where there is something to say.
    pub why: Option<String>,
}

/// Runs the subcommand and returns the exit code.
pub fn command(args: &Args) -> Result<u8, ProvisionError> {
    let around = Surroundings::of_process(args.config.as_deref());
    let around = in_system(around, Path::new(SYSTEM_STATE));
    let enrol = if args.offline { Enrol::No } else { Enrol::Yes };
    let home = config::home(&around, enrol).map_err(ProvisionError::Config)?;
    let told = provision(args, &around, &home, Clock::start().now().wall)?;
    let mut out = io::stdout().lock();
    // A reader that hung up is no fault of the appliance.
    let _ = if args.json {
        let line = serde_json::to_string(&told).expect("plain words always serialize");
        writeln!(out, "{line}")
    } else {
        write!(out, "{told}")
    };
    let outcome = told.enrolment.map(|it| it.outcome);
    Ok(match outcome {
        Some("later" | "failed") => EXIT_UNAVAILABLE,
        Some(_) | None => 0,
    })
}

/// By hand there is no word of systemd's about where the service has its state, and the folder of
/// whoever runs this would be another one.
fn in_system(mut around: Surroundings, state: &Path) -> Surroundings {
    let me = geteuid();
    let is_ours = |about: &Metadata| me.is_root() || about.uid() == me.as_raw();
    let is_there = fs::metadata(state).is_ok_and(|about| about.is_dir() && is_ours(&about));
    if is_there && !around.env.contains_key(STATE_DIRECTORY) {
        around.env.insert(STATE_DIRECTORY.into(), state.into());
    }
    around
}

fn provision(
    args: &Args,
    around: &Surroundings,
    home: &config::Home,
    now: Wall,
) -> Result<Told, ProvisionError> {
    let folder = Folder::open(home.state_dir.join(config::IDENTITY))?;
    let (serial, serial_from) = folder.serial(args, around, home)?;
    let (name, name_from) = folder.name(args, around, home, serial.as_deref())?;
    let (pair, key) = folder.key()?;
    let request = folder.request(&pair, &name, serial.as_deref(), key)?;
    let mut refused = Vec::new();
    let authority = folder.take(AUTHORITY, &mut refused, |path| {
        let tls = Tls {
            ca_file: Some(path.to_owned()),
            identity: None,
        };
        tls::client_config(&tls).map(drop)
    })?;
    let identity = Identity {
        cert_file: folder.at(CERTIFICATE),
        key_file: folder.at(KEY),
    };
    let certificate = folder.take(CERTIFICATE, &mut refused, |path| {
        let brought = Identity {
            cert_file: path.to_owned(),
            ..identity.clone()
        };
        tls::is_pair(&brought)
    })?;
    let mut told = Told {
        name,
        name_from,
        serial,
        serial_from,
        key,
        request,
        certificate,
        until: None,
        authority,
        enrolment: None,
        refused,
        folder: folder.path().to_owned(),
    };
    if let Some(est) = &home.est {
        let is_forced = args.renew;
        told.enrolment = Some(enrol(
            &folder,
            (&pair, &identity),
            est,
            (now, is_forced),
            &mut told,
        )?);
    }
    told.until = present(&folder)
        .as_deref()
        .and_then(certificate::Certificate::read)
        .map(|it| Expiry::at(it.until).to_string());
    Ok(told)
}

/// The device's certificate in DER, if it has one that can be read.
fn present(folder: &Folder) -> Option<Vec<u8>> {
    let chain = tls::chain_der(&folder.at(CERTIFICATE)).ok()?;
    chain.into_iter().next()
}

/// Asks the server, if that is called for, and keeps what it signs.
fn enrol(
    folder: &Folder,
    (pair, identity): (&EcdsaKeyPair, &Identity),
    est: &Est,
    (now, is_forced): (Wall, bool),
    told: &mut Told,
) -> Result<Enrolment, ProvisionError> {
    let present = present(folder);
    let request = folder.request_der()?;
    let device = Device {
        pair,
        request: &request,
        identity,
        present: present.as_deref(),
    };
    let step = device.step(now, is_forced);
    let ask = || match step {
        Step::Nothing => None,
        Step::First => Some((device.enrol(est, now), "enrolled")),
        Step::Again => Some((device.renew(est, now), "renewed")),
    };
    // The client waits by a runtime of its own, and there is one on this thread already.
    let asked = std::thread::scope(|scope| scope.spawn(ask).join());
    let asked = asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let Some((heard, done)) = asked else {
        return Ok(Enrolment::of("needless"));
    };
    let signed = match heard {
        Ok(Enrolled::Signed(signed)) => signed,
        Ok(Enrolled::Later { after }) => {
            return Ok(Enrolment {
                outcome: "later",
                why: Some(format!(
                    "somebody has to look at it first; it is to be asked for again after {after}"
                )),
            });
        }
        Err(why) => {
            return Ok(Enrolment {
                outcome: "failed",
                why: Some(format!("{}: {why}", est.url)),
            });
        }
    };
    // The authority first: a certificate whose authority is not there could not be shown to anybody.
    let pem = |chain: &[Vec<u8>]| {
        let each = chain.iter().map(|der| request::pem("CERTIFICATE", der));
        each.collect::<String>()
    };
    folder.put(AUTHORITY, pem(&signed.authorities).as_bytes())?;
    folder.put(CERTIFICATE, pem(&signed.chain).as_bytes())?;
    (told.authority, told.certificate) = ("taken", "taken");
    Ok(Enrolment::of(done))
}

impl Enrolment {
    fn of(outcome: &'static str) -> Self {
        Self { outcome, why: None }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "name         {} ({})", self.name, self.name_from)?;
        match (&self.serial, &self.serial_from) {
            (Some(serial), Some(from)) => writeln!(f, "serial       {serial} ({from})")?,
            (_, _) => writeln!(f, "serial       none; give one by --serial")?,
        }
        writeln!(f, "key          {}", self.key)?;
        let request = self.folder.join(REQUEST);
        writeln!(f, "request      {}: {}", self.request, request.display())?;
        match &self.until {
            Some(until) => writeln!(f, "certificate  {}, until {until}", self.certificate)?,
            None => writeln!(f, "certificate  {}", self.certificate)?,
        }
        writeln!(f, "authority    {}", self.authority)?;
        match &self.enrolment {
            Some(Enrolment { outcome, why: None }) => writeln!(f, "enrolment    {outcome}")?,
            Some(Enrolment {
                outcome,
                why: Some(why),
            }) => {
                writeln!(f, "enrolment    {outcome}: {why}")?;
            }
            None => {}
        }
        for why in &self.refused {
            writeln!(f, "refused      {why}")?;
        }
        if self.certificate == "none" && self.enrolment.is_none() {
            let drop = self.folder.join(DROP);
            writeln!(
                f,
                "do           have {REQUEST} signed, put the answer into {} as {CERTIFICATE} \
                 (and the authority's as {AUTHORITY}), run this again",
                drop.display()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
