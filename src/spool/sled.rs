//! The disk below the spool, in sled.
//!
//! Purpose: [`SledDisk`] gives [`Disk`]'s promises on top of a store that does not quite make
//! them. What it adds, and why:
//!
//! - **A sync that reaches the medium.** sled's flush starts the write-out but does not force the
//!   disk's own cache. So a sync is a flush, then `fdatasync` on a second descriptor of the
//!   store's file.
//! - **No files beside that one.** sled puts pages above a quarter of a segment into files of
//!   their own, which would need syncs of their own. Long values are cut into [pieces](keys), so
//!   that no page ever gets there.
//! - **An open that cannot bring the appliance down.** A torn store may panic while it is read; it
//!   is caught, the store is moved aside ([`Opened::set_aside`]) and a fresh one started. A store
//!   that another process holds is an error instead: it is not ours to move.
//! - **A way out of a full disk.** sled keeps failing after space was freed until it is closed and
//!   opened again; and even removing a record needs room for the removal. So a
//!   [ballast](ballast) file is kept, given up by [`Disk::reopen`] and taken back later.
//! - **A retry that is not fooled by the page cache.** After a failed sync the kernel may count
//!   pages as clean that never reached the medium. Before such a store is used again, its file is
//!   rewritten in place with what is read from it.
//!
//! Invariant: less is written between two syncs than lies between the freeing and the reuse of a
//! segment (two whole segments), or else sled could overwrite, inside one sync, the only copy
//! that a power cut would leave. [`GROUP_BYTES`](super::shell::GROUP_BYTES) and
//! `SEGMENT_BYTES` are chosen with this in view.
//!
//! How it fails: every call gives a [`DiskError`]; [`DiskError::Broken`] is what only the next
//! start can mend, by setting the store aside.

mod ballast;
mod calm;
mod keys;
mod place;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::sled::{Batch, Config, Db, IVec, Mode};

use super::{Disk, DiskError, Scan, Tree, Write};
use ballast::Ballast;

/// The unit in which sled writes, frees and reuses its file; also its write buffer in memory.
const SEGMENT_BYTES: usize = 1024 * 1024;

/// Pages that sled keeps in memory. What is read again soon is what was written last.
const CACHE_BYTES: u64 = 1024 * 1024;

/// A closed store lets go of its lock a moment later, when its last page was freed.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// Pause between two looks at the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Where the store lies and what it keeps free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SledSettings {
    /// The store's own directory. The ballast and stores set aside lie beside it.
    pub dir: PathBuf,
    /// Bytes to give up when the disk is full; below the spool's headroom, so that what is given
    /// up serves removals, not new records.
    pub ballast_bytes: u64,
}

/// A store that was opened, and what happened on the way.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub disk: SledDisk,
    /// Where the store before it lies now, if that one could not be opened.
    pub set_aside: Option<PathBuf>,
}

/// [`Disk`] on one sled store.
#[derive(Debug)]
pub struct SledDisk {
    settings: SledSettings,
    ballast: Ballast,
    /// None between a failed [`Disk::reopen`] and the next.
    store: Option<Store>,
    last_error: Option<DiskError>,
    sync_failed: bool,
}

#[derive(Debug)]
struct Store {
    db: Db,
    /// A descriptor of the store's one file, for `fdatasync`.
    file: File,
    /// Which records have further pieces, and how many.
    long: BTreeMap<(Tree, u64), u8>,
}

impl SledDisk {
    /// Opens the store, or sets it aside and starts a fresh one.
    pub fn open(settings: SledSettings) -> Result<Opened, DiskError> {
        let mut ballast = Ballast::beside(&settings.dir, settings.ballast_bytes);
        let mut set_aside = None;
        let store = match Store::open(&settings.dir) {
            Err(DiskError::Full) => {
                ballast.give_up();
                Store::open(&settings.dir)?
            }
            Err(DiskError::Broken(_)) => {
                set_aside = Some(place::set_aside(&settings.dir)?);
                Store::open(&settings.dir)?
            }
            other => other?,
        };
        ballast.take_if_room();
        let disk = Self {
            settings,
            ballast,
            store: Some(store),
            last_error: None,
            sync_failed: false,
        };
        Ok(Opened { disk, set_aside })
    }

    fn store(&self) -> Result<&Store, DiskError> {
        self.store
            .as_ref()
            .ok_or_else(|| DiskError::Io("the store is closed".to_owned()))
    }

    fn note<T>(&mut self, result: Result<T, DiskError>) -> Result<T, DiskError> {
        if let Err(error) = &result {
            self.last_error = Some(error.clone());
        }
        result
    }
}

impl Disk for SledDisk {
    fn write(&mut self, batch: Vec<Write>) -> Result<(), DiskError> {
        let result = match self.store.as_mut() {
            Some(store) => store.write(batch),
            None => self.store().map(|_| ()),
        };
        self.note(result)
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        let result = self.store().and_then(Store::sync);
        self.sync_failed |= result.is_err();
        if result.is_ok() {
            self.ballast.take_if_room_now_and_then();
        }
        self.note(result)
    }

    fn get(&self, tree: Tree, seq: u64) -> Result<Option<Vec<u8>>, DiskError> {
        self.store()?.get(tree, seq)
    }

    fn scan(
        &self,
        tree: Tree,
        from: u64,
        visit: &mut dyn FnMut(u64, &[u8]) -> Scan,
    ) -> Result<(), DiskError> {
        self.store()?.scan(tree, from, visit)
    }

    fn reopen(&mut self) -> Result<(), DiskError> {
        if let Some(store) = self.store.take() {
            store.close();
        }
        if self.last_error == Some(DiskError::Full) {
            self.ballast.give_up();
        }
        if self.sync_failed {
            place::rewrite_in_place(&place::file(&self.settings.dir))?;
            self.sync_failed = false;
        }
        let store = Store::open(&self.settings.dir);
        self.store = Some(self.note(store)?);
        self.last_error = None;
        Ok(())
    }

    fn free_bytes(&self) -> u64 {
        place::free_bytes(&self.settings.dir)
    }
}

impl Drop for SledDisk {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            store.close();
        }
    }
}

impl Store {
    fn open(dir: &Path) -> Result<Self, DiskError> {
        place::wait_for_lock(dir, LOCK_PATIENCE, LOCK_PAUSE)?;
        std::fs::create_dir_all(dir)?;
        let config = Config::new()
            .path(dir)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            .mode(Mode::LowSpace)
            .flush_every_ms(None);
        let db = calm::caught(|| config.open()).map_err(|fault| {
            let locked = place::wait_for_lock(dir, Duration::ZERO, LOCK_PAUSE);
            locked.err().unwrap_or_else(|| unopened(&fault))
        })?;
        let mut store = Self {
            db,
            file: File::open(place::file(dir))?,
            long: BTreeMap::new(),
        };
        store.read_through()?;
        // What a killed process had written but not synced is readable now; nobody may act on it
        // before it is safe.
        store.sync()?;
        place::sync_directory(dir)?;
        Ok(store)
    }

    /// Closes without waiting for what a failing disk does not take.
    fn close(self) {
        let _ = calm::caught(|| {
            drop(self.db);
            Ok(())
        });
    }

    /// Reads everything once, so that a page that cannot be read shows now, while the store can
    /// still be set aside; and learns which records have further pieces.
    fn read_through(&mut self) -> Result<(), DiskError> {
        let mut entries = self.db.iter();
        loop {
            let entry = calm::caught(|| entries.next().transpose()).map_err(|f| unopened(&f))?;
            let Some((key, _)) = entry else {
                return Ok(());
            };
            if let Some((tree, seq, piece)) = keys::read_piece(&key) {
                self.long.insert((tree, seq), piece);
            }
        }
    }

    fn write(&mut self, writes: Vec<Write>) -> Result<(), DiskError> {
        let mut batch = Batch::default();
        let mut changes = Vec::new();
        for Write { tree, seq, value } in writes {
            let before = self.long.get(&(tree, seq)).copied().unwrap_or(0);
            let mut after = 0;
            match value {
                Some(value) => {
                    let (first, rest) = keys::cut(&value);
                    batch.insert(&keys::key(tree, seq), first);
                    for piece in rest {
                        after += 1;
                        batch.insert(&keys::piece_key(tree, seq, after), piece);
                    }
                }
                None => batch.remove(&keys::key(tree, seq)),
            }
            for piece in after + 1..=before {
                batch.remove(&keys::piece_key(tree, seq, piece));
            }
            if before != after {
                changes.push(((tree, seq), after));
            }
        }
        calm::caught(|| self.db.apply_batch(batch)).map_err(running)?;
        for (key, pieces) in changes {
            match pieces {
                0 => self.long.remove(&key),
                _ => self.long.insert(key, pieces),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        calm::caught(|| self.db.flush()).map_err(running)?;
        Ok(self.file.sync_data()?)
    }

    fn get(&self, tree: Tree, seq: u64) -> Result<Option<Vec<u8>>, DiskError> {
        let first = calm::caught(|| self.db.get(keys::key(tree, seq))).map_err(running)?;
        first
            .map(|first| self.whole(tree, seq, &first))
            .transpose()
            .map_err(running)
    }

    fn scan(
        &self,
        tree: Tree,
        from: u64,
        visit: &mut dyn FnMut(u64, &[u8]) -> Scan,
    ) -> Result<(), DiskError> {
        let mut entries = self
            .db
            .range(keys::key(tree, from)..=keys::key(tree, u64::MAX));
        while let Some((key, first)) =
            calm::caught(|| entries.next().transpose()).map_err(running)?
        {
            let Some(seq) = keys::read(&key) else {
                continue; // never written by us
            };
            let next = if self.long.contains_key(&(tree, seq)) {
                visit(seq, &self.whole(tree, seq, &first).map_err(running)?)
            } else {
                visit(seq, &first)
            };
            if next == Scan::Stop {
                break;
            }
        }
        Ok(())
    }

    /// Puts a record's pieces together again. One that is missing leaves the record short, which
    /// its own checksum shows.
    fn whole(&self, tree: Tree, seq: u64, first: &IVec) -> Result<Vec<u8>, calm::Fault> {
        let mut value = first.to_vec();
        let pieces = self.long.get(&(tree, seq)).copied().unwrap_or(0);
        for piece in 1..=pieces {
            let found = calm::caught(|| self.db.get(keys::piece_key(tree, seq, piece)))?;
            value.extend_from_slice(&found.unwrap_or_default());
        }
        Ok(value)
    }
}

/// An error while the store runs.
fn running(fault: calm::Fault) -> DiskError {
    match fault {
        calm::Fault::Panic(words) => DiskError::Io(words),
        calm::Fault::Sled(::sled::Error::Io(error)) => error.into(),
        calm::Fault::Sled(error @ ::sled::Error::Corruption { .. }) => {
            DiskError::Broken(error.to_string())
        }
        calm::Fault::Sled(error) => DiskError::Io(error.to_string()),
    }
}

/// An error while the store is read for the first time: what the system denies is not the
/// store's fault, anything else is.
fn unopened(fault: &calm::Fault) -> DiskError {
    let denied = [
        ErrorKind::PermissionDenied,
        ErrorKind::ReadOnlyFilesystem,
        ErrorKind::OutOfMemory,
        ErrorKind::ResourceBusy,
    ];
    match fault {
        calm::Fault::Panic(words) => DiskError::Broken(words.clone()),
        calm::Fault::Sled(::sled::Error::Io(error)) => match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DiskError::Full,
            kind if denied.contains(&kind) => DiskError::Io(error.to_string()),
            _ => DiskError::Broken(error.to_string()),
        },
        calm::Fault::Sled(error) => DiskError::Broken(error.to_string()),
    }
}
