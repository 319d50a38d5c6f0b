//! Why the tool did not do something, told apart by what should follow.

use std::io;
use std::path::{Path, PathBuf};

/// `EX_USAGE`: the call itself is wrong.
pub const EXIT_USAGE: u8 = 64;
/// `EX_UNAVAILABLE`: something that is needed is not at hand: a file, a key, a signature, a person.
pub const EXIT_UNAVAILABLE: u8 = 69;
/// `EX_SOFTWARE`: the disk, or a defect here.
pub const EXIT_INTERNAL: u8 = 70;
/// `EX_CONFIG`: what is there is wrong, or would be: a package, a repository, a document.
pub const EXIT_REFUSED: u8 = 78;

/// Why something was not done. Nothing that is served has changed then.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The call cannot be carried out as it is.
    #[error("{0}")]
    Usage(String),
    /// Something that is needed is not at hand.
    #[error("{0}")]
    Missing(String),
    /// What is there is wrong, or what was asked for would make it so.
    #[error("{0}")]
    Refused(String),
    /// The disk.
    #[error("{}: {error}", path.display())]
    Disk {
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The terminal, or whoever reads the output.
    #[error("output: {0}")]
    Output(#[from] io::Error),
}

/// What a step of the tool comes to.
pub type Done<T> = Result<T, FleetError>;

impl FleetError {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::Missing(_) => EXIT_UNAVAILABLE,
            Self::Refused(_) => EXIT_REFUSED,
            Self::Disk { .. } | Self::Output(_) => EXIT_INTERNAL,
        }
    }

    /// For `map_err`: names the path of a fault of the disk. What is not there is missing.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |error| {
            if error.kind() == io::ErrorKind::NotFound {
                Self::Missing(format!("{}: not there", path.display()))
            } else {
                Self::Disk { path, error }
            }
        }
    }
}

pub(super) fn usage<T>(what: impl Into<String>) -> Done<T> {
    Err(FleetError::Usage(what.into()))
}

pub(super) fn missing<T>(what: impl Into<String>) -> Done<T> {
    Err(FleetError::Missing(what.into()))
}

pub(super) fn refused<T>(what: impl Into<String>) -> Done<T> {
    Err(FleetError::Refused(what.into()))
}
