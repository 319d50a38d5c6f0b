//! Secrets: each in a file of its own, which not everyone may read.
//!
//! A `*_file` key holds a path, or `credential:NAME` for a credential that systemd hands to the
//! unit (`LoadCredential=`), found in the folder that the environment names.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// The longest password that MQTT can carry.
const MAX_SECRET_BYTES: u64 = 65_535;

/// Permission bits of users who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;

/// What stands before the name of a systemd credential.
pub(super) const CREDENTIAL: &str = "credential:";

/// A secret and where it came from. Only [`Secret::reveal`] shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    path: PathBuf,
    text: String,
}

impl Secret {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The file that holds it.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.path.display())
    }
}

/// Turns the value of a `*_file` key into a path; the fault says what would be right.
pub(super) fn resolve(
    value: &str,
    beside: Option<&Path>,
    credentials: Option<&OsStr>,
) -> Result<PathBuf, String> {
    let Some(name) = value.strip_prefix(CREDENTIAL) else {
        return Ok(beside.map_or_else(|| PathBuf::from(value), |folder| folder.join(value)));
    };
    if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
        return Err("the name of a systemd credential after \"credential:\"".into());
    }
    match credentials {
        Some(folder) => Ok(Path::new(folder).join(name)),
        None => Err(format!(
            "a path, or LoadCredential={name}:… in the unit: systemd hands over no credentials here"
        )),
    }
}

/// Reads a secret; the fault says what would be right and never quotes the content.
pub(super) fn read(path: PathBuf) -> Result<Secret, String> {
    let mut text = String::new();
    let file = open_private(&path)?;
    file.take(MAX_SECRET_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|_| "a file with a line of UTF-8 text".to_owned())?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    if text.is_empty() || text.len() as u64 > MAX_SECRET_BYTES {
        return Err(format!(
            "a file with 1 to {MAX_SECRET_BYTES} bytes of secret in it"
        ));
    }
    Ok(Secret { path, text })
}

/// Opens a file that must not be open to everyone. The mode is read from the open file, so that
/// it is that of the file which is then read.
pub(super) fn open_private(path: &Path) -> Result<File, String> {
    let file = open_plain(path)?;
    let mode = file.metadata().map_err(|e| e.to_string())?.mode();
    if mode & OTHERS != 0 {
        return Err(format!(
            "a file that not everyone may use (its mode is {:03o}): chmod 640 {}",
            mode & 0o777,
            path.display()
        ));
    }
    Ok(file)
}

/// Opens a regular file. Never waits, as opening a pipe would.
pub(super) fn open_plain(path: &Path) -> Result<File, String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let readable = |why: String| format!("a file that can be read ({why})");
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(|errno| readable(std::io::Error::from(errno).to_string()))?;
    match file.metadata() {
        Ok(about) if about.is_file() => Ok(file),
        Ok(_) => Err(readable("this is no regular file".into())),
        Err(e) => Err(readable(e.to_string())),
    }
}
