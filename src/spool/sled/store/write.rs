//! The way in: a batch of records becomes runs, masks, records of their own and pieces.

use std::collections::BTreeSet;

use ::sled::Batch;

use super::super::super::{DiskError, Tree, Write};
use super::super::runs::{self, Rest, Run};
use super::super::{calm, keys};
use super::{Store, running};

/// Longer records gain little from a run and would make it short.
const RUN_RECORD_BYTES: usize = keys::PIECE_BYTES / 4;

impl Store {
    /// What is known in memory changes as the batch is made. After an error it is wrong; but
    /// after an error the store is not used again.
    pub(in super::super) fn write(&mut self, writes: Vec<Write>) -> Result<(), DiskError> {
        let mut batch = Batch::default();
        let mut thinned = BTreeSet::new();
        let mut run = Vec::new();
        let mut run_bytes = 0;
        let mut run_tree = None;
        for Write { tree, seq, value } in writes {
            let highest = self.highest.entry(tree).or_default();
            let behind_all = seq > *highest;
            *highest = seq.max(*highest);
            let short = value
                .as_ref()
                .is_some_and(|value| value.len() <= RUN_RECORD_BYTES);
            let joins = short && behind_all;
            let bytes = value.as_ref().map_or(0, |value| runs::cost(value.len()));
            if !joins || run_tree != Some(tree) || run_bytes + bytes > keys::PIECE_BYTES {
                self.end_run(&mut batch, run_tree, std::mem::take(&mut run))?;
                (run_tree, run_bytes) = (None, 0);
            }
            match value {
                Some(value) if joins => {
                    run_tree = Some(tree);
                    run_bytes += bytes;
                    run.push((seq, value));
                }
                value => {
                    if let Some(first) = self.runs.holding(tree, seq) {
                        self.runs.remove(tree, first, seq);
                        thinned.insert((tree, first));
                        if value.is_none() {
                            continue; // nothing of it is elsewhere
                        }
                    }
                    self.single(&mut batch, tree, seq, value)?;
                }
            }
        }
        self.end_run(&mut batch, run_tree, run)?;
        for (tree, first) in thinned {
            self.thin_out(&mut batch, tree, first)?;
        }
        calm::caught(|| self.db.apply_batch(batch)).map_err(running)
    }

    fn end_run(
        &mut self,
        batch: &mut Batch,
        tree: Option<Tree>,
        mut records: Vec<(u64, Vec<u8>)>,
    ) -> Result<(), DiskError> {
        match (tree, records.len()) {
            (Some(tree), 1) => match records.pop() {
                Some((seq, value)) => self.single(batch, tree, seq, Some(value)),
                None => Ok(()),
            },
            (Some(tree), 2..) => {
                let first = records[0].0;
                let (run, value) = Run::of(&records);
                batch.insert(&keys::run_key(tree, first), value);
                self.runs.insert(tree, first, run);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Writes what is left of a run: a mask, or the records themselves.
    fn thin_out(&mut self, batch: &mut Batch, tree: Tree, first: u64) -> Result<(), DiskError> {
        let left = match self.runs.rest(tree, first) {
            Some(Rest::Sparse(left)) => left,
            Some(Rest::Mask(mask)) => {
                batch.insert(&keys::mask_key(tree, first), mask);
                return Ok(());
            }
            None => return Ok(()),
        };
        if !left.is_empty() {
            let value = self.run_value(tree, first)?;
            for (seq, body) in runs::members(&value).into_iter().flatten() {
                if left.contains(&seq) {
                    self.single(batch, tree, seq, Some(body.to_vec()))?;
                }
            }
        }
        batch.remove(&keys::run_key(tree, first));
        batch.remove(&keys::mask_key(tree, first));
        self.runs.forget(tree, first);
        Ok(())
    }

    /// A record under a key of its own, in pieces where it is long; or its removal.
    fn single(
        &mut self,
        batch: &mut Batch,
        tree: Tree,
        seq: u64,
        value: Option<Vec<u8>>,
    ) -> Result<(), DiskError> {
        let before = self.long.remove(&(tree, seq)).unwrap_or(0);
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
        if after > 0 {
            self.long.insert((tree, seq), after);
        }
        Ok(())
    }
}
