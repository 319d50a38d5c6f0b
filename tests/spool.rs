//! The spool's record level, its thread and its store.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "spool/faults.rs"]
mod faults;
#[path = "spool/full.rs"]
mod full;
#[path = "spool/model.rs"]
mod model;
#[path = "spool/store.rs"]
mod store;
#[path = "spool/thread.rs"]
mod thread;

mod support;

use lineside::clock::Mono;
use lineside::spool::{Caps, Op, PerTree, Room, Tree, record};

/// The same cap for each tree.
fn caps(bytes: u64) -> Caps {
    let mut per_tree = PerTree::default();
    for tree in Tree::ALL {
        per_tree.set(tree, bytes);
    }
    Caps {
        bytes: per_tree,
        headroom_bytes: 0,
    }
}

fn append(tree: Tree, seq: u64, body: &[u8]) -> Op {
    Op::Append {
        tree,
        seq,
        record: record::seal(body),
        room: Room::IfFree,
        leased_until: None,
    }
}

fn ack(tree: Tree, seq: u64) -> Op {
    Op::Ack { tree, seq }
}

fn at(ms: u64) -> Mono {
    Mono(std::time::Duration::from_millis(ms))
}
