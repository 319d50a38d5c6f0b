//! A file whose only use is that it can be deleted.
//!
//! On a full disk even a removal needs space first. The ballast is that space: given up when the
//! store says that the disk is full, taken back when there is plenty again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::place;

/// The ballast is taken back only when this many times its size is free.
const PLENTY: u64 = 4;

/// Syncs between two looks at the free space.
const SYNCS_BETWEEN_LOOKS: u32 = 256;

#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    bytes: u64,
    syncs: u32,
}

impl Ballast {
    /// The ballast that belongs to the store in `dir`.
    pub(super) fn beside(dir: &Path, bytes: u64) -> Self {
        Self {
            path: place::beside(dir, "ballast"),
            bytes,
            syncs: 0,
        }
    }

    /// Frees its space. That it may be gone already is no fault.
    pub(super) fn give_up(&mut self) {
        let _ = fs::remove_file(&self.path);
    }

    /// Takes its space, if there is plenty. Without it the spool works all the same, until the
    /// disk is full; so a failure here is not reported further.
    pub(super) fn take_if_room(&mut self) {
        let there = fs::metadata(&self.path).map_or(0, |meta| meta.len());
        if there >= self.bytes || place::free_bytes(&self.path) < self.bytes * PLENTY {
            return;
        }
        if self.take().is_err() {
            self.give_up();
        }
    }

    /// The same, but cheap enough to be called after each sync.
    pub(super) fn take_if_room_now_and_then(&mut self) {
        self.syncs += 1;
        if self.syncs >= SYNCS_BETWEEN_LOOKS {
            self.syncs = 0;
            self.take_if_room();
        }
    }

    fn take(&self) -> io::Result<()> {
        let file = File::create(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Ok(()) => Ok(()),
            // A file system without fallocate reserves only what is written.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                io::copy(&mut io::Read::take(io::repeat(0), self.bytes), &mut &file).map(|_| ())
            }
            Err(error) => Err(error.into()),
        }
    }
}
