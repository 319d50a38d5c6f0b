//! `lineside provision`: who this appliance is, made once and kept.
//!
//! ```text
//!  STATE_DIR/identity/   name  serial  device.key   made at the first boot, never changed after
//!                        device.csr                 what a certification authority signs
//!                        device.pem  ca.pem         what it answers
//!                        drop/                      where somebody puts that: a stick, an EST client
//! ```
//!
//! Purpose: boards come out of one image. This gives each its name and a key that never leaves it,
//! asks for a certificate, and takes one that was brought. It runs at every boot, before the
//! service, and by hand.
//!
//! Invariants: what is there is kept, so that it can run any number of times and be cut off
//! anywhere; nothing depends on the time of day, for a board without a clock of its own starts in
//! 1970; a certificate is taken only if it belongs to this device's key.
//!
//! How it fails: by [`ProvisionError`], which names the file. What was brought and is of no use is
//! left where it lies, and told.

mod request;
mod serial;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use serde::Serialize;

use super::EXIT_USAGE;
use super::check::EXIT_UNAVAILABLE;
use crate::broker::{Identity, Tls, tls};
use crate::config::{self, ApplianceName, Surroundings};

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
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Files in the folder of the identity.
const NAME: &str = "name";
const SERIAL: &str = "serial";
const KEY: &str = "device.key";
const REQUEST: &str = "device.csr";
const CERTIFICATE: &str = "device.pem";
const AUTHORITY: &str = "ca.pem";
const DROP: &str = "drop";
/// Bytes of a file that is brought: a chain of certificates takes a tenth of it.
const MAX_BROUGHT_BYTES: u64 = 256 << 10;
/// Names that images give to every board.
const EVERYBODYS: [&str; 12] = [
    "localhost",
    "localhost6",
    "debian",
    "ubuntu",
    "raspberrypi",
    "jetson",
    "tegra-ubuntu",
    "nvidia-desktop",
    "yocto",
    "qemuarm64",
    "buildroot",
    "appliance",
];
/// Signs of the board's number that a name ends with.
const NAME_SIGNS: usize = 8;

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
}

impl ProvisionError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => config::EXIT_CODE,
            Self::Name(_) => EXIT_USAGE,
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
    /// `taken`, `kept` or `none`.
    pub authority: &'static str,
    /// What was brought and is of no use, and why.
    pub refused: Vec<String>,
    /// Where all this lies.
    pub folder: PathBuf,
}

/// Runs the subcommand and returns the exit code.
pub fn command(args: &Args) -> Result<u8, ProvisionError> {
    let around = Surroundings::of_process(args.config.as_deref());
    let home = config::home(&around).map_err(ProvisionError::Config)?;
    let told = provision(args, &around, &home)?;
    let mut out = io::stdout().lock();
    // A reader that hung up is no fault of the appliance.
    let _ = if args.json {
        let line = serde_json::to_string(&told).expect("plain words always serialize");
        writeln!(out, "{line}")
    } else {
        write!(out, "{told}")
    };
    Ok(0)
}

fn provision(
    args: &Args,
    around: &Surroundings,
    home: &config::Home,
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
    let certificate = folder.take(CERTIFICATE, &mut refused, |path| {
        let identity = Identity {
            cert_file: path.to_owned(),
            key_file: folder.at(KEY),
        };
        tls::is_pair(&identity)
    })?;
    Ok(Told {
        name,
        name_from,
        serial,
        serial_from,
        key,
        request,
        certificate,
        authority,
        refused,
        folder: folder.0,
    })
}

/// The folder of the identity.
struct Folder(PathBuf);

impl Folder {
    fn open(path: PathBuf) -> Result<Self, ProvisionError> {
        let folder = Self(path);
        for path in [folder.0.clone(), folder.at(DROP)] {
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path);
            made.map_err(|error| fault(&path, error))?;
        }
        Ok(folder)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A line that was written before.
    fn line(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.at(name)).ok()?;
        let line = text.trim();
        (!line.is_empty()).then(|| line.to_owned())
    }

    fn serial(
        &self,
        args: &Args,
        around: &Surroundings,
        home: &config::Home,
    ) -> Result<(Option<String>, Option<String>), ProvisionError> {
        if let Some(kept) = self.line(SERIAL) {
            return Ok((Some(kept), Some("kept".into())));
        }
        let said = args.serial.clone().map(|it| (it, "--serial".into()));
        let found = said.or_else(|| serial::find(&home.sysfs, &home.procfs, &around.etc));
        let Some((number, place)) = found else {
            return Ok((None, None));
        };
        self.put(SERIAL, format!("{number}\n").as_bytes())?;
        Ok((Some(number), Some(place)))
    }

    fn name(
        &self,
        args: &Args,
        around: &Surroundings,
        home: &config::Home,
        serial: Option<&str>,
    ) -> Result<(String, &'static str), ProvisionError> {
        let kept = self.line(NAME);
        if let Some(said) = &args.name {
            let name = ApplianceName::parse(said);
            let name = name.ok_or_else(|| ProvisionError::Name(said.clone()))?;
            if kept.as_deref() != Some(name.as_str()) {
                self.put(NAME, format!("{name}\n").as_bytes())?;
            }
            return Ok((name.to_string(), "--name"));
        }
        if let Some(configured) = &home.name {
            return Ok((configured.to_string(), "the configuration"));
        }
        if let Some(kept) = kept {
            return Ok((kept, "kept"));
        }
        let host = ApplianceName::of_host(&around.host_name);
        let (name, why) = match serial {
            Some(serial) if EVERYBODYS.contains(&host.as_str()) => {
                let end = serial.len().saturating_sub(NAME_SIGNS);
                (format!("lineside-{}", &serial[end..]), "the board's number")
            }
            Some(_) | None => (host.to_string(), "the host name"),
        };
        self.put(NAME, format!("{name}\n").as_bytes())?;
        Ok((name, why))
    }

    fn key(&self) -> Result<(EcdsaKeyPair, &'static str), ProvisionError> {
        let (path, random) = (self.at(KEY), SystemRandom::new());
        let read = |der: &[u8]| {
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random)
                .map_err(|_| ProvisionError::Key(path.clone()))
        };
        if path.exists() {
            let der = tls::key_der(&path).map_err(|_| ProvisionError::Key(path.clone()))?;
            return Ok((read(&der)?, "kept"));
        }
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|_| ProvisionError::Random)?;
        self.put(KEY, request::pem("PRIVATE KEY", made.as_ref()).as_bytes())?;
        Ok((read(made.as_ref())?, "made"))
    }

    /// A request names the appliance, so that a new name or key has a new one.
    fn request(
        &self,
        pair: &EcdsaKeyPair,
        name: &str,
        serial: Option<&str>,
        key: &str,
    ) -> Result<&'static str, ProvisionError> {
        let subject = format!("# {name} {}\n", serial.unwrap_or("-"));
        let there = fs::read_to_string(self.at(REQUEST)).unwrap_or_default();
        if key == "kept" && there.starts_with(&subject) {
            return Ok("kept");
        }
        let der = request::make(pair, name, serial).ok_or(ProvisionError::Random)?;
        let text = subject + &request::pem("CERTIFICATE REQUEST", &der);
        self.put(REQUEST, text.as_bytes())?;
        Ok("made")
    }

    /// Takes what was brought under this name, if it is good.
    fn take<E: ToString>(
        &self,
        name: &str,
        refused: &mut Vec<String>,
        is_good: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<&'static str, ProvisionError> {
        let brought = self.at(DROP).join(name);
        let before = if self.at(name).exists() {
            "kept"
        } else {
            "none"
        };
        let Ok(meta) = fs::symlink_metadata(&brought) else {
            return Ok(before);
        };
        if !meta.is_file() || meta.len() > MAX_BROUGHT_BYTES {
            refused.push(format!("{}: no file of a certificate", brought.display()));
            return Ok(before);
        }
        if let Err(why) = is_good(&brought) {
            refused.push(why.to_string());
            return Ok(before);
        }
        let bytes = fs::read(&brought).map_err(|error| fault(&brought, error))?;
        self.put(name, &bytes)?;
        // Only now: a cut before this brings it again.
        fs::remove_file(&brought).map_err(|error| fault(&brought, error))?;
        Ok("taken")
    }

    /// Whole or not at all, also through a power cut; for nobody else to read.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), ProvisionError> {
        let (path, draft) = (self.at(name), self.at(&format!(".{name}.new")));
        let write = || {
            let _ = fs::remove_file(&draft); // of a run that was cut off
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&self.0)?.sync_all()
        };
        write().map_err(|error| fault(&path, error))
    }
}

fn fault(path: &Path, error: io::Error) -> ProvisionError {
    ProvisionError::File {
        path: path.to_owned(),
        error,
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "name         {} ({})", self.name, self.name_from)?;
        match (&self.serial, &self.serial_from) {
            (Some(serial), Some(from)) => writeln!(f, "serial       {serial} ({from})")?,
            (_, _) => writeln!(f, "serial       none; give one by --serial")?,
        }
        writeln!(f, "key          {}", self.key)?;
        let request = self.folder.join(REQUEST);
        writeln!(f, "request      {}: {}", self.request, request.display())?;
        writeln!(f, "certificate  {}", self.certificate)?;
        writeln!(f, "authority    {}", self.authority)?;
        for why in &self.refused {
            writeln!(f, "refused      {why}")?;
        }
        if self.certificate == "none" {
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
