//! What is there at the start, and what of it is damaged.

use super::super::{Disk, DiskError, Numbered, PerTree, Scan, Tree, Write};
use super::{Spool, body, cost};

/// Damaged records that are held in memory at once while they are moved.
pub(super) const ASIDE_AT_ONCE: usize = 64;

impl<D: Disk> Spool<D> {
    pub(super) fn take_stock(&mut self) -> Result<(), DiskError> {
        self.live = PerTree::default();
        self.highest = PerTree::default();
        for tree in Tree::ALL {
            let (live, highest) = (&mut self.live, &mut self.highest);
            self.disk.scan(tree, 0, &mut |seq, value| {
                live.add(tree, cost(value.len()));
                highest.set(tree, seq);
                Scan::More
            })?;
        }
        for tree in Tree::ALL {
            self.inspect(tree)?;
        }
        Ok(())
    }

    /// Sets every damaged record of a tree aside, a bounded number at a time.
    fn inspect(&mut self, tree: Tree) -> Result<(), DiskError> {
        loop {
            let mut damaged = Vec::new();
            self.disk.scan(tree, 0, &mut |seq, value| {
                if body(tree, value).is_err() {
                    damaged.push((seq, value.to_vec()));
                }
                if damaged.len() < ASIDE_AT_ONCE {
                    Scan::More
                } else {
                    Scan::Stop
                }
            })?;
            if damaged.is_empty() {
                return Ok(());
            }
            self.put_aside(tree, damaged)?;
        }
    }

    /// Moves damaged records out of the way, as far as the cap of [`Tree::Aside`] allows.
    pub(super) fn put_aside(
        &mut self,
        tree: Tree,
        damaged: Vec<Numbered>,
    ) -> Result<(), DiskError> {
        if damaged.is_empty() {
            return Ok(());
        }
        let found = damaged.len() as u64;
        let (mut live, mut highest) = (self.live, self.highest);
        let mut batch = Vec::new();
        for (seq, value) in damaged {
            let weight = cost(value.len());
            live.take(tree, weight);
            batch.push(Write {
                tree,
                seq,
                value: None,
            });
            if live.of(Tree::Aside) + weight <= self.caps.bytes.of(Tree::Aside) {
                live.add(Tree::Aside, weight);
                highest.add(Tree::Aside, 1);
                batch.push(Write {
                    tree: Tree::Aside,
                    seq: highest.of(Tree::Aside),
                    value: Some(value),
                });
            }
        }
        self.disk.write(batch)?;
        self.disk.sync()?;
        self.live = live;
        self.highest = highest;
        self.set_aside += found;
        Ok(())
    }
}
