//! A disk that says how long it took.

use std::time::Duration;

use super::{Disk, DiskError, Scan, Tree, Write};
use crate::clock::Clock;

/// What took its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Records were handed over.
    Write,
    /// Everything written before is safe from a power cut.
    Sync,
}

/// A disk, and who wants to know how long it takes. What fails is not told: it is a fault, no time.
pub struct Timed<D, F> {
    disk: D,
    clock: Clock,
    note: F,
}

impl<D: Disk, F: Fn(Work, Duration)> Timed<D, F> {
    /// This disk; `note` hears of each write and each sync.
    pub fn new(disk: D, clock: Clock, note: F) -> Self {
        Self { disk, clock, note }
    }

    fn time(
        &mut self,
        work: Work,
        done: impl FnOnce(&mut D) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let begun = self.clock.now().mono;
        done(&mut self.disk)?;
        (self.note)(work, self.clock.now().mono.since(begun));
        Ok(())
    }
}

impl<D: Disk, F: Fn(Work, Duration)> Disk for Timed<D, F> {
    fn write(&mut self, batch: Vec<Write>) -> Result<(), DiskError> {
        self.time(Work::Write, |disk| disk.write(batch))
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        self.time(Work::Sync, Disk::sync)
    }

    fn get(&self, tree: Tree, seq: u64) -> Result<Option<Vec<u8>>, DiskError> {
        self.disk.get(tree, seq)
    }

    fn scan(
        &self,
        tree: Tree,
        from: u64,
        visit: &mut dyn FnMut(u64, &[u8]) -> Scan,
    ) -> Result<(), DiskError> {
        self.disk.scan(tree, from, visit)
    }

    fn reopen(&mut self) -> Result<(), DiskError> {
        self.disk.reopen()
    }

    fn free_bytes(&self) -> u64 {
        self.disk.free_bytes()
    }
}
