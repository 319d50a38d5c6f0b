//! The way out: single records, and scans that merge the runs with the records of their own.

use ::sled::IVec;

use super::super::super::{DiskError, Scan, Tree};
use super::super::{calm, keys, runs};
use super::{Store, running};

impl Store {
    pub(in super::super) fn get(&self, tree: Tree, seq: u64) -> Result<Option<Vec<u8>>, DiskError> {
        if let Some(first) = self.runs.holding(tree, seq) {
            let value = self.run_value(tree, first)?;
            let mut members = runs::members(&value).into_iter().flatten();
            let found = members.find(|(member, _)| *member == seq);
            return Ok(found.map(|(_, body)| body.to_vec()));
        }
        let first = calm::caught(|| self.db.get(keys::key(tree, seq))).map_err(running)?;
        first
            .map(|first| self.whole(tree, seq, &first))
            .transpose()
            .map_err(running)
    }

    pub(super) fn run_value(&self, tree: Tree, first: u64) -> Result<IVec, DiskError> {
        calm::caught(|| self.db.get(keys::run_key(tree, first)))
            .map_err(running)?
            .ok_or_else(|| DiskError::Broken(format!("the run {} {first} is gone", tree.word())))
    }

    /// Merges the runs with the records that have keys of their own.
    pub(in super::super) fn scan(
        &self,
        tree: Tree,
        from: u64,
        visit: &mut dyn FnMut(u64, &[u8]) -> Scan,
    ) -> Result<(), DiskError> {
        let mut singles = self.singles(tree, from);
        let mut single = singles()?;
        for (first, run) in self.runs.from(tree, from) {
            let value = self.run_value(tree, first)?;
            for (seq, body) in runs::members(&value).into_iter().flatten() {
                if seq < from || !run.holds(seq) {
                    continue;
                }
                while let Some((before, value)) = single.take_if(|(before, _)| *before < seq) {
                    if visit(before, &value) == Scan::Stop {
                        return Ok(());
                    }
                    single = singles()?;
                }
                if visit(seq, body) == Scan::Stop {
                    return Ok(());
                }
            }
        }
        while let Some((seq, value)) = single {
            if visit(seq, &value) == Scan::Stop {
                return Ok(());
            }
            single = singles()?;
        }
        Ok(())
    }

    /// The records that have keys of their own, one at each call.
    fn singles(
        &self,
        tree: Tree,
        from: u64,
    ) -> impl FnMut() -> Result<Option<(u64, Vec<u8>)>, DiskError> {
        let range = keys::key(tree, from)..=keys::key(tree, u64::MAX);
        let mut entries = self.db.range(range);
        move || {
            let entry = calm::caught(|| entries.next().transpose()).map_err(running)?;
            let Some((key, first)) = entry else {
                return Ok(None);
            };
            let (_, seq, _) = keys::read(&key)
                .ok_or_else(|| DiskError::Broken("a key of unknown form".to_owned()))?;
            Ok(Some((seq, self.whole(tree, seq, &first).map_err(running)?)))
        }
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
