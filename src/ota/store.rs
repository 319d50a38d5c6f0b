//! The store: objects by their digest, packages made of them, and what is on its way in.
//!
//! ```text
//!  models/objects/sha256/ab/HASH         whole and verified
//!         objects/sha256/ab/HASH.sealed  the same encrypted, for this device alone; see [`seal`]
//!         objects/sha256/ab/HASH.root    by which chunks, where there was more than one
//!         incoming/HASH.ROOT.part        on its way; its length says how far
//!         packages/NAME/SEQ/manifest.json
//!         packages/NAME/SEQ/package/     a folder that `Package::open` serves, of hard links
//!         current ─► packages/NAME/SEQ/package    derived; the journal decides
//!         lock
//!
//!  part ──put──► put ──put──► whole ──keep──► object ──stage──► package ──point──► current
//!   ▲             │                              │                 │
//!   └── a break ──┘                              └──── collect ────┘
//! ```
//!
//! The layout below `objects` is also what a source has to offer: a store can be copied to a USB
//! stick as it is, or be served to other appliances.
//!
//! Invariants:
//!
//! - What has its final name is whole, verified and durable. A package's folder appears in one step.
//! - A crash between any two operations leaves what was there, and perhaps leavings that the next
//!   attempt uses or [`Store::collect`] removes.
//! - The headroom of the disk stays free: the spool's last bytes are never a model's.
//! - One process holds the store.
//!
//! How it fails: [`StoreError`] with the path and what was done to it. A full disk is told apart.

mod collect;
mod ground;
mod part;
mod seal;
mod stage;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

pub use collect::{Collected, Keep};
pub use ground::{Disk, Ground, Op};
pub use part::{Part, Put};
pub use stage::{PackageId, Parcel, StageError, folder_in, packages_in, signed_in};

use super::manifest::Manifest;
use super::object::{Assembly, Object, Verdict};
use crate::config::AtRest;
use crate::package::{Digest, Faults, Package};
use crate::safe::ENDING;
use ground::Hand;
use seal::Sealing;

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 1 << 17;
/// How long somebody else may hold the store before it counts as theirs: far longer than a process
/// takes to start.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// The pause between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Where in a store or a source an object lies.
pub fn object_path(sha256: Digest) -> String {
    let hex = sha256.to_string();
    format!("objects/sha256/{}/{hex}", &hex[..2])
}

/// The store in a folder.
#[derive(Debug)]
pub struct Store<G = Disk> {
    root: PathBuf,
    hand: Hand<G>,
    headroom_bytes: u64,
    sealing: Sealing,
    /// Held as long as the store is.
    _lock: File,
}

/// Why the store did not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk.
    #[error("{}: {error}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Too little room, now or already before anything was fetched.
    #[error(
        "the disk has {free} bytes free; {needed} are needed, and {headroom} stay free for the spool"
    )]
    NoRoom {
        /// Bytes that are to be written.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes that must stay so.
        headroom: u64,
    },
    /// Somebody else uses it.
    #[error("{}: another process uses the store", .0.display())]
    Locked(PathBuf),
    /// An object that other packages were made of has this digest, and the manifest's chunks are
    /// not its.
    #[error(
        "object {0}: it is in the store, and the chunks in the manifest are not its: the manifest lies"
    )]
    Clash(Digest),
}

impl StoreError {
    /// For `map_err`.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |error| Self::Io { path, error }
    }

    /// Whether there is no room left.
    pub fn is_full(&self) -> bool {
        match self {
            Self::NoRoom { .. } => true,
            Self::Io { error, .. } => matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            Self::Locked(_) | Self::Clash(_) => false,
        }
    }
}

impl Store<Disk> {
    /// Opens the store in a folder, which is made if it is not there.
    pub fn open(root: &Path, headroom_bytes: u64) -> Result<Self, StoreError> {
        Self::on(Disk, root, headroom_bytes)
    }
}

impl<G: Ground> Store<G> {
    /// The same, on other ground.
    pub fn on(ground: G, root: &Path, headroom_bytes: u64) -> Result<Self, StoreError> {
        let mut hand = Hand(ground);
        for folder in ["objects/sha256", "incoming", "packages"] {
            let folder = root.join(folder);
            hand.folder(&folder).map_err(StoreError::at(&folder))?;
        }
        let path = root.join("lock");
        let lock = hand.open(&path).map_err(StoreError::at(&path))?;
        hold(&lock).map_err(|()| StoreError::Locked(root.to_owned()))?;
        Ok(Self {
            root: root.to_owned(),
            hand,
            headroom_bytes,
            sealing: Sealing::default(),
            _lock: lock,
        })
    }

    /// The same, with models that lie so from now on, and with what opens those that do already.
    #[must_use]
    pub fn lying(self, at_rest: AtRest) -> Self {
        Self {
            sealing: Sealing::new(at_rest),
            ..self
        }
    }

    /// From now on the models of this package count as such.
    pub fn note(&mut self, manifest: &Manifest) {
        self.sealing.note(manifest);
    }

    /// Opens a package, with the key of the device where there is one.
    fn open_package(&self, folder: &Path) -> Result<Package, Faults> {
        Package::open_with(folder, self.sealing.key())
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where an object lies, if it is there.
    pub fn object_file(&self, object: &Object) -> PathBuf {
        let mut path = object_path(object.sha256());
        path.push_str(self.ending(object));
        self.root.join(path)
    }

    /// What the names of an object's files have behind its digest.
    fn ending(&self, object: &Object) -> &'static str {
        match self.sealing.key_of(object) {
            Some(_) => ENDING,
            None => "",
        }
    }

    /// Reads the plain bytes of an object, or of what there is of it: in this file, where it lies.
    pub fn reader(&self, object: &Object, file: &Path) -> io::Result<Box<dyn io::Read>> {
        seal::reader(file, object, self.sealing.key_of(object))
    }

    fn root_file(&self, object: &Object) -> PathBuf {
        let mut path = self.object_file(object).into_os_string();
        path.push(".root");
        path.into()
    }

    fn part_file(&self, object: &Object) -> PathBuf {
        let ending = self.ending(object);
        let name = format!("{}.{}{ending}.part", object.sha256(), object.root());
        self.root.join("incoming").join(name)
    }

    /// Whether an object is there, whole and by the same chunks. Where it is there by others, the
    /// digest of the whole decides who lied: the object goes, or the manifest is refused.
    pub fn has(&mut self, object: &Object) -> Result<bool, StoreError> {
        let path = self.object_file(object);
        let bytes = match fs::symlink_metadata(&path) {
            Ok(about) if about.is_file() => about.len(),
            Ok(_) => 0,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(StoreError::at(&path)(e)),
        };
        let key = self.sealing.key_of(object);
        // One that was sealed with another key is none.
        let opens = key.map_or(Ok(true), |key| seal::is_ours(&path, object, key));
        let opens = opens.map_err(StoreError::at(&path))?;
        let whole = bytes == seal::file_bytes(object, key);
        if whole && opens {
            match self.root_of(object) {
                Some(root) if root == object.root() => return Ok(true),
                None if self.is_sound(object)? => {
                    self.vouch(object)?;
                    return Ok(true);
                }
                Some(_) | None => {}
            }
        }
        if opens {
            let read = self.reader(object, &path).and_then(digest_of);
            match read {
                Ok(sha256) if sha256 == object.sha256() => return Err(StoreError::Clash(sha256)),
                Ok(_) => {}
                // Damaged where it is sealed.
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {}
                Err(e) => return Err(StoreError::at(&path)(e)),
            }
        }
        self.hand.remove(&path).map_err(StoreError::at(&path))?;
        Ok(false)
    }

    /// The root of the chunks by which an object was verified; none where nothing that can be read
    /// says so, as after a power cut between the two.
    fn root_of(&self, object: &Object) -> Option<Digest> {
        if object.chunks().is_empty() {
            return Some(object.root());
        }
        let mut text = String::new();
        let file = File::open(self.root_file(object)).ok()?;
        // Longer than a digest is none.
        file.take(80).read_to_string(&mut text).ok()?;
        Digest::parse(text.trim_end())
    }

    /// Writes down by which chunks an object was verified.
    fn vouch(&mut self, object: &Object) -> Result<(), StoreError> {
        if object.chunks().is_empty() {
            return Ok(());
        }
        let path = self.root_file(object);
        let text = format!("{}\n", object.root());
        let written = self.hand.replace(&path, text.as_bytes());
        written.map_err(StoreError::at(&path))
    }

    /// Whether every chunk of an object that is there is still what it was: reads all of it.
    pub fn is_sound(&self, object: &Object) -> Result<bool, StoreError> {
        let path = self.object_file(object);
        let mut assembly = Assembly::begin(object.clone());
        let file = self.reader(object, &path);
        let mut file = match file {
            Err(e) if e.kind() == io::ErrorKind::InvalidData => return Ok(false),
            file => file.map_err(StoreError::at(&path))?,
        };
        let mut piece = Zeroizing::new(vec![0; PIECE_BYTES]);
        loop {
            let read = match file.read(&mut piece) {
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::InvalidData => return Ok(false),
                Err(e) => return Err(StoreError::at(&path)(e)),
            };
            let mut bytes = &piece[..read];
            if bytes.is_empty() || assembly.is_whole() {
                return Ok(bytes.is_empty() && assembly.is_whole());
            }
            while !bytes.is_empty() && !assembly.is_whole() {
                let (taken, verdict) = assembly.take(bytes);
                if matches!(verdict, Some(Verdict::Bad { .. })) {
                    return Ok(false);
                }
                bytes = &bytes[taken..];
            }
            if !bytes.is_empty() {
                return Ok(false);
            }
        }
    }

    /// Begins an object, or goes on with it.
    pub fn part(&mut self, object: &Object) -> Result<Part, StoreError> {
        let path = self.part_file(object);
        let key = self.sealing.key_of(object);
        let part = Part::open(&mut self.hand, path.clone(), object, key);
        part.map_err(StoreError::at(&path))
    }

    /// Bytes of an object that are on the disk already.
    pub fn begun_bytes(&self, object: &Object) -> u64 {
        let about = fs::symlink_metadata(self.part_file(object));
        let key = self.sealing.key_of(object);
        about.map_or(0, |about| seal::there(object, key, about.len()))
    }

    /// Puts bytes into an object.
    pub fn put(&mut self, part: &mut Part, bytes: &[u8]) -> Result<Put, StoreError> {
        let put = part.put(&mut self.hand, bytes);
        put.map_err(StoreError::at(part.path()))
    }

    /// Gives a whole object its final name.
    pub fn keep(&mut self, part: Part) -> Result<(), StoreError> {
        debug_assert!(part.assembly().is_whole());
        let object = part.assembly().object();
        let path = self.object_file(object);
        let folder = path.parent().unwrap_or(&self.root).to_owned();
        self.hand.folder(&folder).map_err(StoreError::at(&folder))?;
        // Before the object: without it, it would have to be read anew.
        self.vouch(object)?;
        let named = self.hand.rename(part.path(), &path);
        named.map_err(StoreError::at(part.path()))?;
        for folder in [&folder, &self.root.join("incoming")] {
            self.hand
                .sync_folder(folder)
                .map_err(StoreError::at(folder))?;
        }
        drop(part); // nobody writes into it any more
        Ok(())
    }

    /// Whether so many bytes fit, and the headroom stays free.
    pub fn room(&self, needed: u64) -> Result<(), StoreError> {
        let free = self.hand.0.free_bytes(&self.root);
        let free = free.map_err(StoreError::at(&self.root))?;
        let headroom = self.headroom_bytes;
        if free.saturating_sub(headroom) < needed {
            return Err(StoreError::NoRoom {
                needed,
                free,
                headroom,
            });
        }
        Ok(())
    }
}

/// Takes the lock. A process that is being started shares it with its parent for a moment, until
/// it becomes the other program; so a refusal counts only if it lasts.
fn hold(lock: &File) -> Result<(), ()> {
    let mut waited = Duration::ZERO;
    while flock(lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if waited >= LOCK_PATIENCE {
            return Err(());
        }
        std::thread::sleep(LOCK_PAUSE);
        waited += LOCK_PAUSE;
    }
    Ok(())
}

/// The digest of a whole file.
fn digest(path: &Path) -> io::Result<Digest> {
    digest_of(crate::package::open_plain(path)?)
}

fn digest_of(mut file: impl io::Read) -> io::Result<Digest> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut piece = Zeroizing::new(vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(Digest::finished(&context.finish())),
            Ok(read) => context.update(&piece[..read]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
