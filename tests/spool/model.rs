//! The record level against a model so simple that it can be read at a glance, on the simulated
//! disk and on the real store. Numbers, sizes and caps are small, so that records are replaced,
//! trees are full and leases run out all the time.

use std::collections::BTreeMap;

use lineside::clock::Mono;
use lineside::spool::sled::{SledDisk, SledSettings};
use lineside::spool::{Disk, Op, Room, Spool, Tree, Verdict, record};
use proptest::prelude::*;

use super::support::TempDir;
use super::support::sim_disk::SimDisk;
use super::{at, caps};

const CAP_BYTES: u64 = 150;
const TREES: [Tree; 2] = [Tree::Inbox, Tree::Outbox];

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Vec<Op>>),
    Lease {
        tree: Tree,
        span_ms: u64,
        max: usize,
    },
    Wait {
        ms: u64,
    },
    /// The process ends and starts again; on the simulated disk the power goes too.
    Restart,
}

fn tree() -> impl Strategy<Value = Tree> {
    prop::sample::select(&TREES[..])
}

fn op() -> impl Strategy<Value = Op> {
    let seq = 1..10_u64;
    let append = (
        tree(),
        seq.clone(),
        prop::collection::vec(any::<u8>(), 0..50),
        prop::bool::weighted(0.8),
        prop::option::weighted(0.3, 0..100_u64),
    )
        .prop_map(|(tree, seq, body, refusable, leased)| Op::Append {
            tree,
            seq,
            record: record::seal(&body),
            room: if refusable {
                Room::IfFree
            } else {
                Room::Always
            },
            leased_until: leased.map(at),
        });
    prop_oneof![
        4 => append,
        2 => (tree(), seq.clone()).prop_map(|(tree, seq)| Op::Ack { tree, seq }),
        1 => (tree(), seq.clone(), 0..100_u64)
            .prop_map(|(tree, seq, ms)| Op::Extend { tree, seq, until: at(ms) }),
        1 => (tree(), seq).prop_map(|(tree, seq)| Op::Release { tree, seq }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let transaction = prop::collection::vec(op(), 1..4);
    prop_oneof![
        6 => prop::collection::vec(transaction, 1..5).prop_map(Step::Commit),
        3 => (tree(), 1..40_u64, 0..4_usize)
            .prop_map(|(tree, span_ms, max)| Step::Lease { tree, span_ms, max }),
        2 => (1..30_u64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Restart),
    ]
}

#[derive(Clone, Debug, Default)]
struct Model {
    records: BTreeMap<(Tree, u64), Vec<u8>>,
    leases: BTreeMap<(Tree, u64), Mono>,
}

impl Model {
    fn live(&self, tree: Tree) -> u64 {
        let of_tree = self.records.iter().filter(|((held, _), _)| *held == tree);
        of_tree.map(|(_, record)| 9 + record.len() as u64).sum()
    }

    fn commit(&mut self, ops: &[Op]) -> Verdict {
        let before = self.clone();
        for op in ops {
            match op.clone() {
                Op::Append {
                    tree,
                    seq,
                    record,
                    room,
                    leased_until,
                } => {
                    let held = self.live(tree);
                    self.records.insert((tree, seq), record);
                    let grew = self.live(tree) > held;
                    if room == Room::IfFree && grew && self.live(tree) > CAP_BYTES {
                        *self = before;
                        return Verdict::Full(tree);
                    }
                    if let Some(until) = leased_until {
                        self.leases.insert((tree, seq), until);
                    }
                }
                Op::Ack { tree, seq } => {
                    self.records.remove(&(tree, seq));
                    self.leases.remove(&(tree, seq));
                }
                Op::Extend { tree, seq, until } => {
                    self.leases.insert((tree, seq), until);
                }
                Op::Release { tree, seq } => {
                    self.leases.remove(&(tree, seq));
                }
            }
        }
        Verdict::Committed
    }

    fn lease(&mut self, tree: Tree, now: Mono, until: Mono, max: usize) -> Vec<(u64, Vec<u8>)> {
        self.leases.retain(|_, end| *end > now);
        let free = self
            .records
            .iter()
            .filter(|(key, _)| key.0 == tree && !self.leases.contains_key(key));
        let found: Vec<_> = free
            .take(max)
            .map(|((_, seq), record)| (*seq, record::unseal(record).unwrap().to_vec()))
            .collect();
        for (seq, _) in &found {
            self.leases.insert((tree, *seq), until);
        }
        found
    }
}

fn check<D: Disk>(steps: Vec<Step>, start: impl Fn() -> D, restart: impl Fn(D) -> D) {
    let mut spool = Spool::open(start(), caps(CAP_BYTES)).unwrap();
    let mut model = Model::default();
    let mut now_ms = 0;
    for step in steps {
        match step {
            Step::Commit(transactions) => {
                let expected: Vec<Verdict> =
                    transactions.iter().map(|ops| model.commit(ops)).collect();
                assert_eq!(spool.commit(transactions), expected);
            }
            Step::Lease { tree, span_ms, max } => {
                let (now, until) = (at(now_ms), at(now_ms + span_ms));
                let expected = model.lease(tree, now, until, max);
                assert_eq!(spool.lease(tree, now, until, max).unwrap(), expected);
            }
            Step::Wait { ms } => now_ms += ms,
            Step::Restart => {
                model.leases.clear();
                spool = Spool::open(restart(spool.into_disk()), caps(CAP_BYTES)).unwrap();
            }
        }
        for tree in TREES {
            assert_eq!(
                spool.live().of(tree),
                model.live(tree),
                "bytes alive in {}",
                tree.word()
            );
            let records = spool.look(tree, 0, u64::MAX, usize::MAX).unwrap();
            let expected = model.records.iter().filter(|((held, _), _)| *held == tree);
            let expected: Vec<_> = expected
                .map(|((_, seq), record)| (*seq, record::unseal(record).unwrap().to_vec()))
                .collect();
            assert_eq!(records, expected, "records in {}", tree.word());
        }
    }
    assert_eq!(spool.set_aside(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_record_level_does_what_the_model_does_even_when_power_is_cut(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        check(steps, SimDisk::default, |disk| {
            disk.cut_power();
            disk
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_record_level_does_the_same_on_the_real_store(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let place = TempDir::new("model");
        let settings = SledSettings { dir: place.path().join("spool"), ballast_bytes: 4096 };
        let open = || {
            let opened = SledDisk::open(settings.clone()).unwrap();
            assert_eq!(opened.set_aside, None);
            opened.disk
        };
        check(steps, open, |disk| {
            drop(disk);
            open()
        });
    }
}
