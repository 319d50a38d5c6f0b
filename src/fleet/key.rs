//! Keys: a file for each, with the public half in clear and the secret half sealed, or with the
//! command that signs in its place.
//!
//! ```json
//! {"format":1,"comment":"first safe","keytype":"ed25519","scheme":"ed25519","public":"…",
//!  "sealed":{"kdf":"pbkdf2-hmac-sha256","iterations":…,"salt":"…","cipher":"aes-256-gcm",…}}
//! ```
//!
//! A file without `sealed` and `command` is a public key: enough to entrust a role to somebody.
//! Files with a secret are written with mode 0600 and never over another file.

mod passphrase;
mod seal;
mod secret;
mod token;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

pub use passphrase::{MIN_BYTES as MIN_PASSPHRASE_BYTES, Passphrases};
pub use secret::Secret;

use super::fault::{Done, FleetError, missing, refused};
use crate::ota::tuf::metadata::Extra;
use crate::ota::tuf::write::Signer;
use crate::ota::tuf::{Key, KeyValue, canonical};

/// The version of the format.
const FORMAT: u64 = 1;
/// Bytes of a key's file: a PEM and a command line fit many times.
const MAX_KEY_FILE_BYTES: u64 = 64 << 10;
/// Nobody but its owner.
const SECRET_MODE: u32 = 0o600;
/// A public key is for all.
const PUBLIC_MODE: u32 = 0o644;

/// Which keys are made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The usual one.
    Ed25519,
    /// ECDSA on P-256, for those who must.
    P256,
}

/// A key, as its file has it.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Whose it is, in words.
    pub comment: String,
    /// Its public half.
    pub key: Key,
    /// What metadata calls it.
    pub id: String,
    hidden: Hidden,
}

/// Where the secret half is.
#[derive(Clone, Debug)]
enum Hidden {
    /// Not here.
    Nowhere,
    /// In the file.
    Sealed(seal::Sealed),
    /// Behind a command.
    Command(Vec<String>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: u64,
    #[serde(default)]
    comment: String,
    keytype: String,
    scheme: String,
    public: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<seal::Sealed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
}

impl KeyFile {
    /// Makes a new key under a passphrase.
    pub fn create(
        path: &Path,
        algorithm: Algorithm,
        comment: &str,
        passphrases: &mut Passphrases,
    ) -> Done<Self> {
        if path.exists() {
            return refused(format!("{}: is there already", path.display()));
        }
        let made = match algorithm {
            Algorithm::Ed25519 => Signer::generate(),
            Algorithm::P256 => Signer::generate_p256(),
        };
        let (signer, secret) = made.map_err(|error| FleetError::Refused(error.to_string()))?;
        let secret = Secret::new(secret);
        let key = signer.key().clone();
        let passphrase = passphrases.for_new(&path.display().to_string())?;
        let sealed = seal::seal(&secret, &bound(&key), passphrase)
            .map_err(|error| FleetError::Missing(error.to_string()))?;
        let file = Self {
            path: path.to_owned(),
            comment: comment.to_owned(),
            id: signer.id().to_owned(),
            key,
            hidden: Hidden::Sealed(sealed),
        };
        file.write(path)?;
        Ok(file)
    }

    /// Notes a key that is signed with by a command.
    pub fn external(path: &Path, public: &str, comment: &str, command: &[String]) -> Done<Self> {
        if path.exists() {
            return refused(format!("{}: is there already", path.display()));
        }
        let key = Key::from_text(public);
        let key = key.ok_or_else(|| {
            let wanted =
                "an Ed25519 key of 64 hexadecimal digits, or a PEM of Ed25519, P-256 or P-384";
            FleetError::Usage(format!("the public key: {wanted} is wanted"))
        })?;
        let file = Self {
            path: path.to_owned(),
            comment: comment.to_owned(),
            id: id(&key)?,
            key,
            hidden: Hidden::Command(command.to_vec()),
        };
        file.write(path)?;
        Ok(file)
    }

    /// Reads a key's file.
    pub fn read(path: &Path) -> Done<Self> {
        let text = super::disk::text(path, MAX_KEY_FILE_BYTES)?;
        let wrong = |why: &dyn std::fmt::Display| {
            FleetError::Refused(format!("{}: no key of this tool: {why}", path.display()))
        };
        let wire: Wire = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
        if wire.format != FORMAT {
            return Err(wrong(&format!("format {}, not {FORMAT}", wire.format)));
        }
        let key = Key {
            keytype: wire.keytype,
            scheme: wire.scheme,
            keyval: KeyValue {
                public: wire.public,
                extra: Extra::new(),
            },
            extra: Extra::new(),
        };
        let known = Key::from_text(&key.keyval.public);
        if known.is_none_or(|known| known.scheme != key.scheme) {
            return Err(wrong(&"its public half cannot be read"));
        }
        let hidden = match (wire.sealed, wire.command) {
            (Some(sealed), None) => match sealed.fault() {
                None => Hidden::Sealed(sealed),
                Some(fault) => return Err(wrong(&fault)),
            },
            (None, Some(command)) if !command.is_empty() => Hidden::Command(command),
            (None, None) => Hidden::Nowhere,
            (Some(_) | None, Some(_)) => return Err(wrong(&"a secret half and a command")),
        };
        Ok(Self {
            path: path.to_owned(),
            comment: wire.comment,
            id: id(&key)?,
            key,
            hidden,
        })
    }

    /// Where its secret half is, in a word.
    pub fn hidden(&self) -> &'static str {
        match self.hidden {
            Hidden::Nowhere => "public half only",
            Hidden::Sealed(_) => "under a passphrase",
            Hidden::Command(_) => "signs by a command",
        }
    }

    /// Makes it sign: opens what is sealed.
    pub fn signer(&self, passphrases: &mut Passphrases) -> Done<Signer> {
        let wrong = |why: &dyn std::fmt::Display| {
            FleetError::Refused(format!("{}: {why}", self.path.display()))
        };
        let signer = match &self.hidden {
            Hidden::Nowhere => {
                return missing(format!(
                    "{}: has the public half only: it cannot sign",
                    self.path.display()
                ));
            }
            Hidden::Sealed(sealed) => {
                let secret = self.opened(sealed, passphrases)?;
                let signer = match self.key.keytype.as_str() {
                    "ed25519" => Signer::ed25519(secret.bytes()),
                    _ => Signer::p256(secret.bytes()),
                };
                signer.map_err(|error| wrong(&error))?
            }
            Hidden::Command(command) => {
                let (command, key) = (command.clone(), self.key.clone());
                let sign = move |payload: &[u8]| token::sign(&command, &key, payload);
                Signer::elsewhere(self.key.clone(), Box::new(sign))
                    .map_err(|error| wrong(&error))?
            }
        };
        if signer.id() != self.id {
            return Err(wrong(&"its two halves are of two keys"));
        }
        Ok(signer)
    }

    /// Puts another passphrase in the place of the one that it has.
    pub fn change_passphrase(&self, old: &mut Passphrases, new: &mut Passphrases) -> Done<()> {
        let Hidden::Sealed(sealed) = &self.hidden else {
            return refused(format!("{}: has no passphrase", self.path.display()));
        };
        let secret = self.opened(sealed, old)?;
        let passphrase = new.for_new(&self.path.display().to_string())?;
        let sealed = seal::seal(&secret, &bound(&self.key), passphrase)
            .map_err(|error| FleetError::Missing(error.to_string()))?;
        let changed = Self {
            hidden: Hidden::Sealed(sealed),
            ..self.clone()
        };
        let beside = self.path.with_extension("new");
        changed.write(&beside)?;
        let replaced = fs::rename(&beside, &self.path);
        replaced.map_err(FleetError::at(&self.path))
    }

    /// The file of its public half, for others.
    pub fn public_text(&self) -> String {
        let public = Self {
            hidden: Hidden::Nowhere,
            ..self.clone()
        };
        public.text()
    }

    fn opened(&self, sealed: &seal::Sealed, passphrases: &mut Passphrases) -> Done<Secret> {
        let bound = bound(&self.key);
        let what = self.path.display().to_string();
        passphrases.open(&what, |passphrase| sealed.open(&bound, passphrase))
    }

    fn text(&self) -> String {
        let (sealed, command) = match &self.hidden {
            Hidden::Nowhere => (None, None),
            Hidden::Sealed(sealed) => (Some(sealed.clone()), None),
            Hidden::Command(command) => (None, Some(command.clone())),
        };
        let wire = Wire {
            format: FORMAT,
            comment: self.comment.clone(),
            keytype: self.key.keytype.clone(),
            scheme: self.key.scheme.clone(),
            public: self.key.keyval.public.clone(),
            sealed,
            command,
        };
        let text = serde_json::to_string_pretty(&wire);
        text.expect("texts and numbers have a JSON form") + "\n"
    }

    fn write(&self, path: &Path) -> Done<()> {
        let mode = match self.hidden {
            Hidden::Nowhere => PUBLIC_MODE,
            Hidden::Sealed(_) | Hidden::Command(_) => SECRET_MODE,
        };
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .and_then(|mut file| {
                file.write_all(self.text().as_bytes())?;
                file.sync_all()
            });
        written.map_err(FleetError::at(path))
    }
}

fn id(key: &Key) -> Done<String> {
    let id = key.id();
    id.map_err(|error| FleetError::Refused(format!("the key: {error}")))
}

/// What a secret half is bound to: its public half, in the one form that it has.
fn bound(key: &Key) -> Vec<u8> {
    let value = json!({"keytype": key.keytype, "scheme": key.scheme, "public": key.keyval.public});
    canonical(&value).expect("texts have a canonical form")
}

#[cfg(test)]
mod tests;
