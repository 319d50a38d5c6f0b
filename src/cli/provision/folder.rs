//! The folder of the identity: what is made is written whole, what is there is kept, and what was
//! brought is looked at before it counts.
//!
//! The service reads it, so that it belongs to whom the state directory belongs to, also where the
//! super-user ran the program by hand.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustix::fs::OFlags;
use rustix::process::geteuid;

use super::{
    AUTHORITY, Args, CERTIFICATE, DROP, KEY, NAME, ProvisionError, REQUEST, SERIAL, request, serial,
};
use crate::broker::tls;
use crate::config::{self, ApplianceName, Surroundings};
use crate::ota::tuf::unbase64;

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

/// The folder of the identity.
pub(super) struct Folder {
    path: PathBuf,
    /// Whose it is to be, where the super-user does this for somebody else.
    owner: Option<Owner>,
}

/// A user and a group, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner(u32, u32);

impl Owner {
    /// Of a folder, where it is another's than the super-user's, who asks.
    fn of(folder: &Path) -> Option<Self> {
        let about = geteuid().is_root().then(|| fs::metadata(folder).ok());
        let about = about.flatten().filter(|about| about.uid() != 0);
        about.map(|about| Self(about.uid(), about.gid()))
    }

    /// Hands over what the super-user made.
    fn take(self, file: &File) -> io::Result<()> {
        fchown(file, Some(self.0), Some(self.1))
    }
}

impl Folder {
    pub(super) fn open(path: PathBuf) -> Result<Self, ProvisionError> {
        let owner = path.parent().and_then(Owner::of);
        let folder = Self { path, owner };
        for path in [folder.path.clone(), folder.at(DROP)] {
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path);
            made.map_err(|error| fault(&path, error))?;
            folder.hand_over(&path)?;
        }
        for name in [NAME, SERIAL, KEY, REQUEST, CERTIFICATE, AUTHORITY] {
            folder.hand_over(&folder.at(name))?;
        }
        Ok(folder)
    }

    /// Gives to the owner what the super-user made, now or in an earlier run, and nothing that only
    /// has its name here.
    fn hand_over(&self, path: &Path) -> Result<(), ProvisionError> {
        let Some(owner) = self.owner else {
            return Ok(());
        };
        if !fs::symlink_metadata(path).is_ok_and(|about| about.is_file() || about.is_dir()) {
            return Ok(()); // nothing, or a link that somebody laid
        }
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(flags).open(path);
        let file = file.map_err(|error| fault(path, error))?;
        let about = file.metadata().map_err(|error| fault(path, error))?;
        let is_plain = about.is_dir() || (about.is_file() && about.nlink() == 1);
        if is_plain && about.uid() == 0 {
            owner.take(&file).map_err(|error| fault(path, error))?;
        }
        Ok(())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A line that was written before.
    fn line(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.at(name)).ok()?;
        let line = text.trim();
        (!line.is_empty()).then(|| line.to_owned())
    }

    pub(super) fn serial(
        &self,
        args: &Args,
        around: &Surroundings,
        home: &config::Home,
    ) -> Result<(Option<String>, Option<String>), ProvisionError> {
        if let Some(kept) = self.line(SERIAL) {
            return Ok((Some(kept), Some("kept".into())));
        }
        let found = match &args.serial {
            Some(said) => {
                let number = serial::tidy(said.as_bytes());
                let number = number.ok_or_else(|| ProvisionError::Serial(said.clone()))?;
                Some((number, "--serial".into()))
            }
            None => serial::find(&home.sysfs, &home.procfs, &around.etc),
        };
        let Some((number, place)) = found else {
            return Ok((None, None));
        };
        self.put(SERIAL, format!("{number}\n").as_bytes())?;
        Ok((Some(number), Some(place)))
    }

    pub(super) fn name(
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
        let is_everybodys = EVERYBODYS.contains(&host.as_str());
        let (name, why) = match serial.filter(|_| is_everybodys).and_then(named_after) {
            Some(name) => (name, "the board's number"),
            None => (host, "the host name"),
        };
        self.put(NAME, format!("{name}\n").as_bytes())?;
        Ok((name.to_string(), why))
    }

    pub(super) fn key(&self) -> Result<(EcdsaKeyPair, &'static str), ProvisionError> {
        let (path, random) = (self.at(KEY), SystemRandom::new());
        let read = |der: &[u8]| {
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random)
                .map_err(|_| ProvisionError::Key(path.clone()))
        };
        match File::open(&path) {
            Ok(_) => {
                let der = tls::key_der(&path).map_err(|_| ProvisionError::Key(path.clone()))?;
                return Ok((read(&der)?, "kept"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A key that is another user's is one all the same.
            Err(error) => return Err(fault(&path, error)),
        }
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|_| ProvisionError::Random)?;
        self.put(KEY, request::pem("PRIVATE KEY", made.as_ref()).as_bytes())?;
        Ok((read(made.as_ref())?, "made"))
    }

    /// A request names the appliance, so that a new name or key has a new one.
    pub(super) fn request(
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

    /// The request that lies there, in DER.
    pub(super) fn request_der(&self) -> Result<Vec<u8>, ProvisionError> {
        let path = self.at(REQUEST);
        let text = fs::read_to_string(&path).map_err(|error| fault(&path, error))?;
        let signs: String = text
            .lines()
            .filter(|line| !line.starts_with(['#', '-']))
            .collect();
        unbase64(signs.as_bytes()).ok_or_else(|| {
            let why = "this is no request; move it away and one is made anew";
            fault(&path, io::Error::new(io::ErrorKind::InvalidData, why))
        })
    }

    /// Takes what was brought under this name, if it is good.
    pub(super) fn take<E: ToString>(
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
    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> Result<(), ProvisionError> {
        let (path, draft) = (self.at(name), self.at(&format!(".{name}.new")));
        let write = || {
            let _ = fs::remove_file(&draft); // of a run that was cut off
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(bytes)?;
            if let Some(owner) = self.owner {
                owner.take(&file)?;
            }
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|error| fault(&path, error))
    }
}

/// A name that ends like the board's number. A file may hold a number that nobody tidied.
fn named_after(serial: &str) -> Option<ApplianceName> {
    let number = serial::tidy(serial.as_bytes())?; // letters, digits and '-', a byte each
    let end = number.len().saturating_sub(NAME_SIGNS);
    ApplianceName::parse(&format!("lineside-{}", &number[end..]))
}

fn fault(path: &Path, error: io::Error) -> ProvisionError {
    ProvisionError::File {
        path: path.to_owned(),
        error,
    }
}
