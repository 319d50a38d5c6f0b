//! Runs: records that were written together, under one key.
//!
//! sled's cost is by the entry, not by the byte: it copies the leaf for each. So records that
//! come in one batch, in order, go into one value, and what is removed later is marked in a mask
//! beside it.
//!
//! ```text
//!  run   tag │ 0x40, first number → count, then for each record: number, length; then the records
//!  mask  tag │ 0x20, first number → one bit for each record of the run that is gone
//! ```
//!
//! A run goes when its last record goes. When little of it is left, what is left moves out under
//! keys of its own, so that a straggler does not hold a whole run on the disk.

use std::collections::BTreeMap;

use super::super::Tree;

/// A run moves out when less than one part in so many of its records is left.
const SPARSE: usize = 4;

const COUNT_BYTES: usize = 2;
const ENTRY_BYTES: usize = 12;

/// What a record takes of a run's value.
pub(super) fn cost(record_bytes: usize) -> usize {
    ENTRY_BYTES + record_bytes
}

/// What is known in memory of one run.
#[derive(Debug)]
pub(super) struct Run {
    seqs: Vec<u64>,
    gone: Vec<u8>,
    left: usize,
}

impl Run {
    /// A run as it is written.
    pub(super) fn of(records: &[(u64, Vec<u8>)]) -> (Self, Vec<u8>) {
        let bodies: usize = records.iter().map(|(_, record)| record.len()).sum();
        let mut value = Vec::with_capacity(COUNT_BYTES + records.len() * ENTRY_BYTES + bodies);
        let count = u16::try_from(records.len()).expect("a run is shorter than a piece");
        value.extend_from_slice(&count.to_le_bytes());
        for (seq, record) in records {
            let len = u32::try_from(record.len()).expect("a run is shorter than a piece");
            value.extend_from_slice(&seq.to_le_bytes());
            value.extend_from_slice(&len.to_le_bytes());
        }
        for (_, record) in records {
            value.extend_from_slice(record);
        }
        let seqs: Vec<u64> = records.iter().map(|(seq, _)| *seq).collect();
        (Self::whole(seqs), value)
    }

    /// A run as it is read, none of it gone. `None` if it does not read.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let seqs: Vec<u64> = members(value)?.map(|(seq, _)| seq).collect();
        Some(Self::whole(seqs))
    }

    fn whole(seqs: Vec<u64>) -> Self {
        Self {
            gone: vec![0; seqs.len().div_ceil(8)],
            left: seqs.len(),
            seqs,
        }
    }

    /// Takes over a mask that was read.
    pub(super) fn mask(&mut self, mask: &[u8]) {
        for at in 0..self.seqs.len() {
            if mask
                .get(at / 8)
                .is_some_and(|byte| byte & (1 << (at % 8)) != 0)
            {
                self.remove(at);
            }
        }
    }

    fn remove(&mut self, at: usize) {
        let bit = 1 << (at % 8);
        self.left -= usize::from(self.gone[at / 8] & bit == 0);
        self.gone[at / 8] |= bit;
    }

    pub(super) fn last(&self) -> u64 {
        self.seqs.last().copied().unwrap_or_default()
    }

    /// Whether the record is there.
    pub(super) fn holds(&self, seq: u64) -> bool {
        self.find(seq).is_some()
    }

    fn find(&self, seq: u64) -> Option<usize> {
        let at = self.seqs.binary_search(&seq).ok()?;
        (self.gone[at / 8] & (1 << (at % 8)) == 0).then_some(at)
    }
}

/// What a removal makes of the run on the disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rest<'run> {
    /// This mask.
    Mask(&'run [u8]),
    /// These records move out, and the run goes.
    Sparse(Vec<u64>),
}

/// The numbers and bytes of all records in a run's value.
pub(super) fn members(value: &[u8]) -> Option<impl Iterator<Item = (u64, &[u8])>> {
    let (count, rest) = value.split_first_chunk::<COUNT_BYTES>()?;
    let table_bytes = usize::from(u16::from_le_bytes(*count)) * ENTRY_BYTES;
    let (table, mut bodies) = rest.split_at_checked(table_bytes)?;
    let entries = table.chunks_exact(ENTRY_BYTES).map(|entry| {
        let (seq, len) = entry.split_at(8);
        let seq = seq.try_into().map_or(0, u64::from_le_bytes);
        (seq, len.try_into().map_or(0, u32::from_le_bytes) as usize)
    });
    let whole = entries.clone().map(|(_, len)| len).sum::<usize>() == bodies.len();
    whole.then(|| {
        entries.map(move |(seq, len)| {
            let (body, rest) = bodies.split_at(len);
            bodies = rest;
            (seq, body)
        })
    })
}

/// The runs of all trees, by their first number. They never overlap within a tree.
#[derive(Debug, Default)]
pub(super) struct Runs(BTreeMap<(Tree, u64), Run>);

impl Runs {
    pub(super) fn insert(&mut self, tree: Tree, first: u64, run: Run) {
        self.0.insert((tree, first), run);
    }

    pub(super) fn get_mut(&mut self, tree: Tree, first: u64) -> Option<&mut Run> {
        self.0.get_mut(&(tree, first))
    }

    /// The first number of the run that holds `seq`.
    pub(super) fn holding(&self, tree: Tree, seq: u64) -> Option<u64> {
        let (key, run) = self.0.range((tree, 0)..=(tree, seq)).next_back()?;
        run.holds(seq).then_some(key.1)
    }

    /// The runs that may hold numbers from `from` on.
    pub(super) fn from(&self, tree: Tree, from: u64) -> impl Iterator<Item = (u64, &Run)> {
        let before = self.0.range((tree, 0)..=(tree, from)).next_back();
        let first = before.map_or(from, |((_, first), _)| *first);
        self.0
            .range((tree, first)..=(tree, u64::MAX))
            .map(|((_, first), run)| (*first, run))
    }

    /// Marks a record of a run as gone.
    pub(super) fn remove(&mut self, tree: Tree, first: u64, seq: u64) {
        if let Some(run) = self.0.get_mut(&(tree, first))
            && let Some(at) = run.find(seq)
        {
            run.remove(at);
        }
    }

    /// What the disk should hold of a run now.
    pub(super) fn rest(&self, tree: Tree, first: u64) -> Option<Rest<'_>> {
        let run = self.0.get(&(tree, first))?;
        if run.left * SPARSE >= run.seqs.len() {
            return Some(Rest::Mask(&run.gone));
        }
        let left = run.seqs.iter().copied();
        Some(Rest::Sparse(left.filter(|seq| run.holds(*seq)).collect()))
    }

    pub(super) fn forget(&mut self, tree: Tree, first: u64) {
        self.0.remove(&(tree, first));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_run_reads_as_it_was_written_and_forgets_what_its_mask_says() {
        let records = [
            (3, b"three".to_vec()),
            (5, Vec::new()),
            (9, b"nine".to_vec()),
        ];
        let (_, value) = Run::of(&records);
        let read: Vec<_> = members(&value)
            .unwrap()
            .map(|(seq, body)| (seq, body.to_vec()))
            .collect();
        assert_eq!(read, records);

        let mut run = Run::read(&value).unwrap();
        run.mask(&[0b010]);
        assert_eq!(
            [3, 4, 5, 9].map(|seq| run.holds(seq)),
            [true, false, false, true]
        );
    }

    #[test]
    fn a_run_cut_anywhere_does_not_read() {
        let (_, value) = Run::of(&[(3, b"three".to_vec()), (5, b"five".to_vec())]);
        for end in 0..value.len() {
            assert!(Run::read(&value[..end]).is_none(), "cut at {end}");
        }
    }

    #[test]
    fn what_little_is_left_of_a_run_moves_out() {
        let records: Vec<_> = (1..=8).map(|seq| (seq, vec![7])).collect();
        let mut runs = Runs::default();
        runs.insert(Tree::Inbox, 1, Run::of(&records).0);
        for seq in 1..=6 {
            runs.remove(Tree::Inbox, 1, seq);
        }
        assert_eq!(runs.rest(Tree::Inbox, 1), Some(Rest::Mask(&[0b0011_1111])));
        runs.remove(Tree::Inbox, 1, 8);
        assert_eq!(runs.rest(Tree::Inbox, 1), Some(Rest::Sparse(vec![7])));
    }
}
