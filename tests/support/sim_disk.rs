//! A disk in memory that fails when told to, and forgets what was not synced.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use lineside::spool::{Disk, DiskError, Scan, Tree, Write};

type Records = BTreeMap<(Tree, u64), Vec<u8>>;

/// Clones are handles on the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
pub(crate) struct State {
    /// What a reader sees.
    pub(crate) seen: Records,
    /// What a power cut leaves.
    pub(crate) durable: Records,
    pub(crate) free_bytes: u64,
    /// Calls that fail from now on, and with what.
    pub(crate) failing_writes: u32,
    pub(crate) failing_syncs: u32,
    pub(crate) failing_reads: u32,
    pub(crate) failing_reopens: u32,
    pub(crate) error: DiskError,
    pub(crate) syncs: u32,
}

impl Default for State {
    fn default() -> Self {
        Self {
            seen: Records::new(),
            durable: Records::new(),
            free_bytes: u64::MAX,
            failing_writes: 0,
            failing_syncs: 0,
            failing_reads: 0,
            failing_reopens: 0,
            error: DiskError::Io("told to fail".to_owned()),
            syncs: 0,
        }
    }
}

impl State {
    fn turn(left: &mut u32, error: &DiskError) -> Result<(), DiskError> {
        if *left == 0 {
            return Ok(());
        }
        *left -= 1;
        Err(error.clone())
    }
}

impl SimDisk {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What was not synced is gone.
    pub(crate) fn cut_power(&self) {
        let mut state = self.state();
        state.seen = state.durable.clone();
    }

    /// Puts bytes where a record should be.
    pub(crate) fn plant(&self, tree: Tree, seq: u64, value: &[u8]) {
        let mut state = self.state();
        state.seen.insert((tree, seq), value.to_vec());
        state.durable.insert((tree, seq), value.to_vec());
    }
}

impl Disk for SimDisk {
    fn write(&mut self, batch: Vec<Write>) -> Result<(), DiskError> {
        let mut guard = self.state();
        let state = &mut *guard;
        State::turn(&mut state.failing_writes, &state.error)?;
        for Write { tree, seq, value } in batch {
            match value {
                Some(value) => state.seen.insert((tree, seq), value),
                None => state.seen.remove(&(tree, seq)),
            };
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        let mut guard = self.state();
        let state = &mut *guard;
        State::turn(&mut state.failing_syncs, &state.error)?;
        state.syncs += 1;
        state.durable = state.seen.clone();
        Ok(())
    }

    fn get(&self, tree: Tree, seq: u64) -> Result<Option<Vec<u8>>, DiskError> {
        let mut guard = self.state();
        let state = &mut *guard;
        State::turn(&mut state.failing_reads, &state.error)?;
        Ok(state.seen.get(&(tree, seq)).cloned())
    }

    fn scan(
        &self,
        tree: Tree,
        from: u64,
        visit: &mut dyn FnMut(u64, &[u8]) -> Scan,
    ) -> Result<(), DiskError> {
        let mut guard = self.state();
        let state = &mut *guard;
        State::turn(&mut state.failing_reads, &state.error)?;
        for ((_, seq), value) in state.seen.range((tree, from)..=(tree, u64::MAX)) {
            if visit(*seq, value) == Scan::Stop {
                break;
            }
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), DiskError> {
        let mut guard = self.state();
        let state = &mut *guard;
        State::turn(&mut state.failing_reopens, &state.error)
    }

    fn free_bytes(&self) -> u64 {
        self.state().free_bytes
    }
}
