//! The disk below the spool, in sled.
//!
//! Purpose: [`SledDisk`] gives [`Disk`]'s promises on top of a store that does not quite make
//! them. What it adds, and why:
//!
//! - **A sync that reaches the medium.** sled's flush starts the write-out but does not force the
//!   disk's own cache. So a sync is a flush, then `fdatasync` on a second descriptor of the
//!   store's file.
//! - **No files beside that one.** sled puts pages above a quarter of a segment into files of
//!   their own, which would need syncs of their own. Long values are cut into pieces (`keys`), so
//!   that no page ever gets there.
//! - **Fewer entries.** sled's cost is by the entry: records that come together go into one, as a
//!   run (`runs`).
//! - **An open that cannot bring the appliance down.** A torn store may panic while it is read; it
//!   is caught, the store is moved aside ([`Opened::set_aside`]) and a fresh one started. A store
//!   that another process holds is an error instead: it is not ours to move.
//! - **A way out of a full disk.** sled keeps failing after space was freed until it is closed and
//!   opened again; and even removing a record needs room for the removal. So a
//!   ballast file is kept, given up by [`Disk::reopen`] and taken back later.
//! - **A retry that is not fooled by the page cache.** After a failed sync the kernel may count
//!   pages as clean that never reached the medium. Before such a store is used again, its file is
//!   rewritten in place with what is read from it.
//!
//! Invariant: less is written between two syncs than lies between the freeing and the reuse of a
//! segment (two whole segments), or else sled could overwrite, inside one sync, the only copy
//! that a power cut would leave. [`GROUP_BYTES`](super::shell::GROUP_BYTES) and
//! the segment's size are chosen with this in view.
//!
//! How it fails: every call gives a [`DiskError`]; [`DiskError::Broken`] is what only the next
//! start can mend, by setting the store aside.

mod ballast;
mod calm;
mod keys;
mod place;
mod runs;
mod store;

use std::path::PathBuf;

use super::{Disk, DiskError, Scan, Tree, Write};
use ballast::Ballast;
use store::Store;

/// Free space without which the store is not opened again after a fault. Opening writes, and a
/// sled that runs out of space while it opens can leave a store that does not read: of 80 stores
/// reopened on a disk without a free block, 3 were lost.
const ROOM_TO_OPEN_BYTES: u64 = 2 * store::SEGMENT_BYTES as u64;

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

    /// Hands everything written to the system, without forcing it to the medium: safe from the
    /// end of this process, not from a power cut.
    pub fn flush(&mut self) -> Result<(), DiskError> {
        let result = self.store().and_then(Store::flush);
        self.note(result)
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
        if self.free_bytes() < ROOM_TO_OPEN_BYTES {
            return Err(DiskError::Full);
        }
        if self.sync_failed {
            place::rewrite_in_place(&place::file(&self.settings.dir))?;
            self.sync_failed = false;
        }
        let store = Store::open(&self.settings.dir);
        self.store = Some(self.note(store)?);
        self.last_error = None;
        self.ballast.take_if_room();
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
