//! One open sled store: records as pieces, batches, the sync.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use ::sled::{Batch, Config, Db, IVec, Mode};

use super::super::{DiskError, Scan, Tree, Write};
use super::{calm, keys, place};

/// The unit in which sled writes, frees and reuses its file; also its write buffer in memory.
pub(super) const SEGMENT_BYTES: usize = 1024 * 1024;

/// Pages that sled keeps in memory. What is read again soon is what was written last.
const CACHE_BYTES: u64 = 1024 * 1024;

/// A closed store lets go of its lock a moment later, when its last page was freed.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// Pause between two looks at the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Store {
    db: Db,
    /// A descriptor of the store's one file, for `fdatasync`.
    file: File,
    /// Which records have further pieces, and how many.
    long: BTreeMap<(Tree, u64), u8>,
}

impl Store {
    pub(super) fn open(dir: &Path) -> Result<Self, DiskError> {
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
    pub(super) fn close(self) {
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

    pub(super) fn write(&mut self, writes: Vec<Write>) -> Result<(), DiskError> {
        let mut batch = Batch::default();
        let mut changes = Vec::new();
        for Write { tree, seq, value } in writes {
            let before = self.long.get(&(tree, seq)).copied().unwrap_or(0);
            let mut after = 0;
            match value {
                Some(value) if value.len() > keys::LONGEST_BYTES => {
                    let bytes = value.len();
                    return Err(DiskError::Io(format!(
                        "a record of {bytes} bytes is too long"
                    )));
                }
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

    pub(super) fn flush(&self) -> Result<(), DiskError> {
        calm::caught(|| self.db.flush()).map_err(running)?;
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), DiskError> {
        self.flush()?;
        Ok(self.file.sync_data()?)
    }

    pub(super) fn get(&self, tree: Tree, seq: u64) -> Result<Option<Vec<u8>>, DiskError> {
        let first = calm::caught(|| self.db.get(keys::key(tree, seq))).map_err(running)?;
        first
            .map(|first| self.whole(tree, seq, &first))
            .transpose()
            .map_err(running)
    }

    pub(super) fn scan(
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
    let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded];
    match fault {
        calm::Fault::Panic(words) => DiskError::Broken(words.clone()),
        calm::Fault::Sled(::sled::Error::Io(error)) if denied.contains(&error.kind()) => {
            DiskError::Io(error.to_string())
        }
        calm::Fault::Sled(::sled::Error::Io(error)) if full.contains(&error.kind()) => {
            DiskError::Full
        }
        calm::Fault::Sled(error) => DiskError::Broken(error.to_string()),
    }
}
