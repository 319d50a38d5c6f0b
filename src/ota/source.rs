//! Where packages come from: a server, a mirror on the line's own network, a folder, a USB stick.
//!
//! Purpose: one port for all of them. A source is asked for bytes from an offset on, and gives
//! them in pieces. It is believed in nothing: what arrives is hashed before it counts, so a source
//! can waste time and no more, and the store's limits say how much.
//!
//! How it fails: [`Fault`], told apart by what should follow: a source that is
//! [lying or useless](Fault::is_lasting) for this object is not asked again for it, one that is
//! merely in trouble is asked again after a rest.

mod folder;
mod http;
mod roster;

use std::time::Duration;

use crate::broker::Tls;
use crate::config;

pub use folder::Folder;
pub use http::{Http, HttpError, HttpSettings};
pub use roster::{MAX_STRIKES, Next, Roster};

/// Every source that the settings name, in their order. Nothing is connected or looked at yet.
pub fn all(settings: &config::Ota) -> Result<Vec<Box<dyn Source>>, HttpError> {
    let of = |source: &config::PackageSource| {
        Ok(match source {
            config::PackageSource::Folder(path) => {
                Box::new(Folder::new(path.clone())) as Box<dyn Source>
            }
            config::PackageSource::Url(url) => Box::new(Http::new(url, &http(settings))?),
        })
    };
    settings.sources.iter().map(of).collect()
}

/// How servers are reached.
pub fn http(settings: &config::Ota) -> HttpSettings {
    let tls = Tls {
        ca_file: settings.ca_file.clone(),
        identity: None,
    };
    HttpSettings { tls }
}

/// Something that packages come from.
pub trait Source: Send {
    /// What people call it.
    fn name(&self) -> &str;

    /// Opens a file of `total` bytes at an offset; it may come from earlier on.
    fn open(&mut self, path: &str, from: u64, total: u64) -> Result<Opened, Fault>;

    /// Opens a file from its beginning that nobody has said the length of: metadata. Whoever reads
    /// it stops where it gets too long.
    fn open_whole(&mut self, path: &str) -> Result<Box<dyn Body>, Fault>;
}

/// A file that gives its bytes.
pub struct Opened {
    /// Where its bytes begin: at the offset, or before it, where the source has no ranges.
    pub from: u64,
    /// The bytes.
    pub body: Box<dyn Body>,
}

/// Bytes on their way.
pub trait Body: Send {
    /// The next piece. Waits no longer than that, so that whoever waits can change their mind.
    fn next(&mut self, wait: Duration) -> Result<Piece<'_>, Fault>;
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes, at least one.
    Bytes(&'a [u8]),
    /// Nothing yet.
    Nothing,
    /// There are no more.
    End,
}

/// What is wrong with a source. Of foreign texts there is nothing in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection comes about.
    #[error("cannot be reached")]
    Unreachable,
    /// It does not prove who it is.
    #[error("its certificate does not convince")]
    Untrusted,
    /// It answers too late, or gives too little in a second.
    #[error("too slow")]
    Slow,
    /// The connection broke.
    #[error("the connection broke")]
    Cut,
    /// It does not have the file.
    #[error("does not have it")]
    Missing,
    /// Another answer than bytes.
    #[error("answers with status {0}")]
    Status(u16),
    /// It sends elsewhere: too often, or from TLS into the clear.
    #[error("sends elsewhere, too often or into the clear")]
    Elsewhere,
    /// The range is not the one that was asked for.
    #[error("gives another range than the one asked for")]
    Range,
    /// Its file is too short for the range that was asked for.
    #[error("says that its file ends before what was asked for")]
    BehindEnd,
    /// Its file has another length.
    #[error("says that the file has {said} bytes, where {wanted} are signed")]
    Length {
        /// What it says.
        said: u64,
        /// What it must be.
        wanted: u64,
    },
    /// It compressed the file, which nobody asked for.
    #[error("sends the file encoded, unasked")]
    Encoded,
    /// Its bytes end too early.
    #[error("ends after {at} of {wanted} bytes")]
    Short {
        /// Bytes that there were.
        at: u64,
        /// Bytes that there must be.
        wanted: u64,
    },
    /// A folder's disk: a stick that was pulled, a sector that cannot be read.
    #[error("cannot be read: {0}")]
    Disk(std::io::ErrorKind),
    /// A chunk all of whose bytes are its own is not what was signed.
    #[error("gave a wrong chunk at byte {from}")]
    Corrupt {
        /// Where the chunk begins.
        from: u64,
    },
    /// A chunk was wrong, but its bytes came from several.
    #[error("a chunk that came from several sources is wrong at byte {from}")]
    Mixed {
        /// Where the chunk begins.
        from: u64,
    },
}

impl Fault {
    /// Whether asking again for the same file is in vain.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Untrusted
            | Self::Missing
            | Self::Elsewhere
            | Self::Range
            | Self::BehindEnd
            | Self::Length { .. }
            | Self::Encoded
            | Self::Corrupt { .. } => true,
            Self::Status(status) => {
                (400..500).contains(status) && ![408, 425, 429].contains(status)
            }
            Self::Unreachable
            | Self::Slow
            | Self::Cut
            | Self::Short { .. }
            | Self::Disk(_)
            | Self::Mixed { .. } => false,
        }
    }

    /// Whether the source gave something that is not what was signed: it is not asked again for
    /// anything of this package.
    pub fn is_a_lie(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }
}
