//! The client of a TUF repository (The Update Framework, specification 1.0): from a root that the
//! appliance was given to a target that the operator's keys vouch for.
//!
//! ```text
//!            open                     refresh                          find
//!  anchor ─────────► root ─► timestamp ─► snapshot ─► targets ─► delegations ─► Target
//!  history                      5.4          5.5         5.6          5.6.7
//!            5.2       5.3  └────────── held against the floors ───────┘
//! ```
//!
//! Owns `trust/` on its [`Disk`]: `roots/N.root.json`, `timestamp.json`, `snapshot.json` and one
//! file for each targets role, byte for byte as they were received. The code follows the numbered
//! steps of the specification's section 5: the order in `workflow`, the rules in `checks`.
//!
//! # Invariants
//!
//! - Trust is never read from the disk as such. Each start follows the chain of roots from the
//!   given one, and every stored file passes the checks of a received one before it is used.
//! - What a role may not go below stands in [`Floors`](super::floor::Floors), and is raised there
//!   before a file is stored.
//! - Time is the clock's, or the floor's where the clock went back.
//! - No read is without a limit, and no search.
//!
//! # How it fails
//!
//! A refresh stops at the first rule that is broken and names it; roles that were accepted before
//! that one stay accepted, as the specification wants it. [`Client::find_stored`] answers from the
//! disk as before, expired or not.

mod checks;
pub mod draft;
mod expiry;
mod json;
mod key;
pub mod metadata;
mod paths;
mod workflow;
pub mod write;

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde_json::Value;

pub use expiry::Expiry;
pub use json::{MAX_DEPTH, NotCanonical, canonical};
pub use key::{Key, KeyValue, base64, hex, unbase64, unhex};

use super::disk::Disk;
use super::floor::{Book, FloorError};
use crate::clock::Wall;
use metadata::{Kind, Root};
use workflow::Session;

/// How much a repository may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Root versions in one refresh. The next goes on from there.
    pub root_chain: u64,
    /// Bytes of a root.
    pub root_bytes: u64,
    /// Bytes of a timestamp.
    pub timestamp_bytes: u64,
    /// Bytes of a snapshot.
    pub snapshot_bytes: u64,
    /// Bytes of a targets role, delegated ones too.
    pub targets_bytes: u64,
    /// Targets in one role.
    pub targets: usize,
    /// Roles that a snapshot lists, or that one role delegates to.
    pub roles: usize,
    /// Roles that a search for one target visits.
    pub visits: usize,
    /// Delegations in each other.
    pub depth: usize,
}

impl Default for Limits {
    /// Far more than a fleet needs, far less than would trouble a board with 1 GB.
    fn default() -> Self {
        Self {
            root_chain: 256,
            root_bytes: 512 * 1024,
            timestamp_bytes: 16 * 1024,
            snapshot_bytes: 1024 * 1024,
            targets_bytes: 4 * 1024 * 1024,
            targets: 16 * 1024,
            roles: 1024,
            visits: 32,
            depth: 8,
        }
    }
}

/// Where a repository's files come from: the network, a stick, a mirror.
pub trait Transport {
    /// Opens a metadata file by its name (`timestamp.json`, `7.snapshot.json`). Signs that have a
    /// meaning in paths or addresses are encoded in it already (`%2F`). May block; the time limit
    /// is the transport's, the limit of bytes is the reader's.
    fn open(&mut self, file: &str) -> Result<Box<dyn Read + '_>, FetchError>;
}

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no such file. After the newest root, that is how it ends.
    #[error("not there")]
    NotThere,
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

/// A file that the repository's keys vouch for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What it was asked for by.
    pub path: String,
    /// Where it lies below the repository's targets: the path, with the hash in the file's name
    /// where the repository keeps several versions.
    pub file: String,
    /// Its bytes, exactly.
    pub length: u64,
    /// Its hashes in hexadecimal, by the algorithms' names; at least one is known here.
    pub hashes: BTreeMap<String, String>,
    /// What the repository adds.
    pub custom: Option<Value>,
}

impl Target {
    /// Its SHA-256; none where the repository gives other hashes only.
    pub fn sha256(&self) -> Option<[u8; 32]> {
        key::unhex(self.hashes.get("sha256")?)?.try_into().ok()
    }

    /// Whether these are its bytes.
    pub fn is(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.length && checks::hashes_match(&self.hashes, bytes)
    }
}

/// Which versions a refresh ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refreshed {
    /// Of the root.
    pub root: u64,
    /// Of the timestamp.
    pub timestamp: u64,
    /// Of the snapshot.
    pub snapshot: u64,
    /// Of the top targets role.
    pub targets: u64,
}

/// Why something is not believed.
#[derive(Debug, thiserror::Error)]
pub enum TufError {
    /// It did not come.
    #[error("{file}: {error}")]
    Fetch {
        /// Which file.
        file: String,
        /// Why.
        error: FetchError,
    },
    /// It does not end.
    #[error("{file}: more than the {limit_bytes} bytes that it may have")]
    TooLong {
        /// Which file.
        file: String,
        /// What it may have.
        limit_bytes: u64,
    },
    /// It is no metadata of this role.
    #[error("{role}: {why}")]
    Malformed {
        /// Which role.
        role: String,
        /// What is wrong with it.
        why: String,
    },
    /// Too few have signed it.
    #[error("{role}: signed by {signed} of its keys, and it takes {threshold}")]
    Threshold {
        /// Which role.
        role: String,
        /// How many did.
        signed: u64,
        /// How many must.
        threshold: u64,
    },
    /// It is not the version that was due.
    #[error("{role}: version {found}, and {expected} was due")]
    Version {
        /// Which role.
        role: String,
        /// What it says.
        found: u64,
        /// What it must say.
        expected: u64,
    },
    /// It is older than what was seen before.
    #[error("{role}: version {offered}, and {floor} was seen before")]
    Rollback {
        /// Which role.
        role: String,
        /// What it says.
        offered: u64,
        /// What was seen.
        floor: u64,
    },
    /// The snapshot no longer lists a role.
    #[error("snapshot: role {role} was there before and is no longer listed")]
    Vanished {
        /// Which role.
        role: String,
    },
    /// It is too old to be believed.
    #[error("{role}: expired at {expires}")]
    Expired {
        /// Which role.
        role: String,
        /// When.
        expires: Expiry,
    },
    /// It is another file than the one that was signed for.
    #[error("{role}: its length or hash is not the one that was signed for")]
    NotAsDescribed {
        /// Which role.
        role: String,
    },
    /// A role that somebody delegates to is not part of the snapshot.
    #[error("{role}: the snapshot does not list it")]
    NotListed {
        /// Which role.
        role: String,
    },
    /// A target has no hash that could be checked.
    #[error("{path}: none of its hashes is of a known kind")]
    NoKnownHash {
        /// Which target.
        path: String,
    },
    /// There is more of something than there may be.
    #[error("more than {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// [`Client::find`] needs a refresh that succeeded.
    #[error("the metadata has not been refreshed")]
    NotRefreshed,
    /// The disk.
    #[error("{path}: {error}")]
    Disk {
        /// Which file.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// The floors.
    #[error(transparent)]
    Floor(#[from] FloorError),
}

/// A repository, as far as it is trusted.
#[derive(Debug)]
pub struct Client<D> {
    disk: D,
    book: Book<D>,
    limits: Limits,
    root: Root,
    session: Option<Session>,
}

impl<D: Disk> Client<D> {
    /// Begins with the root that the appliance was given, and follows the stored history as far as
    /// it holds. Fails only if that first root is none, or the floors cannot be written.
    pub fn open(disk: D, book: Book<D>, anchor: &[u8], limits: Limits) -> Result<Self, TufError> {
        let mut client = Self {
            disk,
            book,
            limits,
            root: checks::first_root(anchor)?,
            session: None,
        };
        client.follow_history();
        if !client.book.was_found() {
            client.read_floors_from_files()?;
        }
        Ok(client)
    }

    /// Brings the four roles up to date.
    pub fn refresh(
        &mut self,
        clock: Wall,
        transport: &mut dyn Transport,
    ) -> Result<Refreshed, TufError> {
        self.session = None;
        // 5.1: one time for all of it.
        let time = self.book.floors().time(clock);
        self.update_root(time, transport)?;
        let timestamp = self.update_timestamp(clock, time, transport)?;
        let snapshot = self.update_snapshot(&timestamp, time, transport)?;
        let mut session = Session::new(snapshot, Some(time));
        let targets = self.top_targets(&mut session, transport)?;
        let refreshed = Refreshed {
            root: self.root.version,
            timestamp: timestamp.version,
            snapshot: session.snapshot.version,
            targets,
        };
        self.prune(&session.snapshot)?;
        self.session = Some(session);
        Ok(refreshed)
    }

    /// Looks for a target, as of the last refresh; fetches delegated roles where needed. None if
    /// nobody who may speak of this path knows it.
    pub fn find(
        &mut self,
        path: &str,
        transport: &mut dyn Transport,
    ) -> Result<Option<Target>, TufError> {
        let mut session = self.session.take().ok_or(TufError::NotRefreshed)?;
        let found = self.search(&mut session, path, transport);
        self.session = Some(session);
        found
    }

    /// Looks for a target in what is stored, expired or not: to check again what is in use.
    pub fn find_stored(&mut self, path: &str) -> Result<Option<Target>, TufError> {
        let mut session = self.stored_session()?;
        self.search(&mut session, path, &mut Nowhere)
    }

    /// The floors.
    pub fn book(&self) -> &Book<D> {
        &self.book
    }

    /// The floors, to raise those of packages.
    pub fn book_mut(&mut self) -> &mut Book<D> {
        &mut self.book
    }

    /// The root that is trusted.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// When the trusted root expires: people should hear of it in time.
    pub fn root_expires(&self) -> Expiry {
        self.root.expires
    }
}

/// A repository that has nothing.
struct Nowhere;

impl Transport for Nowhere {
    fn open(&mut self, _: &str) -> Result<Box<dyn Read + '_>, FetchError> {
        Err(FetchError::NotThere)
    }
}

/// Where a stored file of a role lies.
fn stored_path(role: &str) -> String {
    format!("trust/{}.json", quoted(role))
}

/// Where a root of the history lies.
fn root_path(version: u64) -> String {
    format!("trust/roots/{version}.{}.json", Kind::Root.name())
}

/// A role's name as part of a file's name or an address: all but letters, digits, `-`, `_`, `.`
/// and `~` as `%` and two digits.
pub fn quoted(role: &str) -> String {
    let mut out = String::new();
    for byte in role.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&key::hex(&[byte]).to_ascii_uppercase());
        }
    }
    out
}

#[cfg(test)]
mod tests;
