//! One open sled store: opening, closing, the sync. The ways in and out are in their own files.

mod read;
mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use ::sled::{Config, Db, Mode};
use rustix::io::Errno;

use super::super::{DiskError, Tree};
use super::keys::Kind;
use super::runs::{Run, Runs};
use super::{calm, keys, place};

/// The unit in which sled writes, frees and reuses its file; also its write buffer in memory.
pub(super) const SEGMENT_BYTES: usize = 1024 * 1024;

/// Pages that sled keeps in memory. What is read again soon is what was written last.
const CACHE_BYTES: u64 = 1024 * 1024;

/// A closed store lets go of its lock a moment later, when its last page was freed; on a busy
/// machine that moment can be long.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Pause between two looks at the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Store {
    db: Db,
    /// A descriptor of the store's one file, for `fdatasync`.
    file: File,
    /// Which records have further pieces, and how many.
    long: BTreeMap<(Tree, u64), u8>,
    runs: Runs,
    /// The highest number seen in each tree: only above it can a run begin.
    highest: BTreeMap<Tree, u64>,
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
            runs: Runs::default(),
            highest: BTreeMap::new(),
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
    /// still be set aside; and learns where everything is.
    fn read_through(&mut self) -> Result<(), DiskError> {
        let mut entries = self.db.iter();
        let mut masks = Vec::new();
        loop {
            let entry = calm::caught(|| entries.next().transpose()).map_err(|f| unopened(&f))?;
            let Some((key, value)) = entry else {
                break;
            };
            let Some((tree, seq, kind)) = keys::read(&key) else {
                return Err(DiskError::Broken("a key of unknown form".to_owned()));
            };
            let mut last = seq;
            match kind {
                Kind::Record => {}
                Kind::Piece(piece) => drop(self.long.insert((tree, seq), piece)),
                Kind::Mask => masks.push((tree, seq, value)),
                Kind::Run => {
                    let run = Run::read(&value)
                        .ok_or_else(|| DiskError::Broken("a run does not read".to_owned()))?;
                    last = run.last();
                    self.runs.insert(tree, seq, run);
                }
            }
            let highest = self.highest.entry(tree).or_default();
            *highest = last.max(*highest);
        }
        for (tree, first, mask) in masks {
            if let Some(run) = self.runs.get_mut(tree, first) {
                run.mask(&mask);
            }
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

/// An error while the store is read for the first time: what the system denies, or has no room or
/// time for just now, is not the store's fault. Anything else is, a medium that does not read
/// included: the appliance is to start.
fn unopened(fault: &calm::Fault) -> DiskError {
    let denied = [
        ErrorKind::PermissionDenied,
        ErrorKind::ReadOnlyFilesystem,
        ErrorKind::OutOfMemory,
        ErrorKind::ResourceBusy,
        ErrorKind::TimedOut,
        ErrorKind::Interrupted,
        ErrorKind::WouldBlock,
    ];
    let no_descriptor = [Errno::MFILE, Errno::NFILE].map(|it| Some(it.raw_os_error()));
    let is_denied = |error: &io::Error| {
        denied.contains(&error.kind()) || no_descriptor.contains(&error.raw_os_error())
    };
    let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded];
    match fault {
        calm::Fault::Panic(words) => DiskError::Broken(words.clone()),
        calm::Fault::Sled(::sled::Error::Io(error)) if is_denied(error) => {
            DiskError::Io(error.to_string())
        }
        calm::Fault::Sled(::sled::Error::Io(error)) if full.contains(&error.kind()) => {
            DiskError::Full
        }
        calm::Fault::Sled(error) => DiskError::Broken(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_that_is_short_of_something_just_now_costs_no_store() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::TIMEDOUT, Errno::ACCESS] {
            let fault = calm::Fault::Sled(::sled::Error::Io(errno.into()));
            let error = unopened(&fault);
            assert!(matches!(error, DiskError::Io(_)), "{errno}: {error}");
        }
        let torn = io::Error::from(ErrorKind::UnexpectedEof);
        let error = unopened(&calm::Fault::Sled(::sled::Error::Io(torn)));
        assert!(matches!(error, DiskError::Broken(_)), "{error}");
    }
}
