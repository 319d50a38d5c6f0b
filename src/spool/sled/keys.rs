//! The keys of records and their pieces in the one sled tree.
//!
//! ```text
//!  tag        │ number, big endian │                      a record, or its first piece
//!  tag │ 0x80 │ number, big endian │ piece, from 1        what did not fit into the first
//!  tag │ 0x40 │ number, big endian │                      a [run](super::runs) of records
//!  tag │ 0x20 │ number, big endian │                      what is gone of that run
//! ```
//!
//! sled writes a leaf of up to [`LEAF_ENTRIES`] entries as one message, and puts a message above
//! a quarter of a segment into a file of its own. A piece is short enough that a leaf full of
//! them stays below that.

use super::super::{MAX_RECORD_BYTES, Tree};
use super::store::SEGMENT_BYTES;

/// What a sled leaf holds at most: it splits above 16, and two leaves of 16 and 3 may merge;
/// entries that arrive in one visit come on top.
const LEAF_ENTRIES: usize = 20;

/// Bytes of a value under one key, with room for the leaf's own fields.
pub(super) const PIECE_BYTES: usize = SEGMENT_BYTES / 4 / LEAF_ENTRIES - 64;

/// What the number of a piece, one byte, can count.
pub(super) const LONGEST_BYTES: usize = 256 * PIECE_BYTES;
const _: () = assert!(LONGEST_BYTES >= MAX_RECORD_BYTES);

const PIECE_BIT: u8 = 0x80;
/// What is left for the tree.
const TAG_BITS: u8 = 0x1f;
const RUN_BIT: u8 = 0x40;
const MASK_BIT: u8 = 0x20;

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Record,
    Piece(u8),
    Run,
    Mask,
}

pub(super) fn key(tree: Tree, seq: u64) -> [u8; 9] {
    tagged(tree.tag(), seq)
}

pub(super) fn run_key(tree: Tree, first: u64) -> [u8; 9] {
    tagged(tree.tag() | RUN_BIT, first)
}

pub(super) fn mask_key(tree: Tree, first: u64) -> [u8; 9] {
    tagged(tree.tag() | MASK_BIT, first)
}

pub(super) fn piece_key(tree: Tree, seq: u64, piece: u8) -> [u8; 10] {
    let mut key = [piece; 10];
    key[..9].copy_from_slice(&tagged(tree.tag() | PIECE_BIT, seq));
    key
}

fn tagged(tag: u8, seq: u64) -> [u8; 9] {
    let mut key = [tag; 9];
    key[1..].copy_from_slice(&seq.to_be_bytes());
    key
}

/// What a key stands for; `None` if it was not written here.
pub(super) fn read(key: &[u8]) -> Option<(Tree, u64, Kind)> {
    let (head, rest) = key.split_first_chunk::<9>()?;
    let (tag, seq) = head.split_first()?;
    let kind = match (tag & !TAG_BITS, rest) {
        (0, []) => Kind::Record,
        (RUN_BIT, []) => Kind::Run,
        (MASK_BIT, []) => Kind::Mask,
        (PIECE_BIT, [piece]) => Kind::Piece(*piece),
        _ => return None,
    };
    let tree = Tree::ALL
        .into_iter()
        .find(|tree| tree.tag() == tag & TAG_BITS)?;
    Some((tree, u64::from_be_bytes(seq.try_into().ok()?), kind))
}

/// The first piece, and the others.
pub(super) fn cut(value: &[u8]) -> (&[u8], impl Iterator<Item = &[u8]>) {
    let (first, rest) = value.split_at(value.len().min(PIECE_BYTES));
    (first, rest.chunks(PIECE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_tree_then_number_and_pieces_by_record() {
        assert!(key(Tree::Inbox, u64::MAX) < key(Tree::Outbox, 0));
        assert!(key(Tree::Inbox, 255) < key(Tree::Inbox, 256));
        assert!(piece_key(Tree::Inbox, 1, 200) < piece_key(Tree::Inbox, 2, 1));
        let (tree, seq) = (Tree::Trail, 77);
        assert_eq!(read(&key(tree, seq)), Some((tree, seq, Kind::Record)));
        assert_eq!(
            read(&piece_key(tree, seq, 3)),
            Some((tree, seq, Kind::Piece(3)))
        );
        assert_eq!(read(&run_key(tree, seq)), Some((tree, seq, Kind::Run)));
        assert_eq!(read(&mask_key(tree, seq)), Some((tree, seq, Kind::Mask)));
        assert_eq!(read(&[0x1f; 9]), None);
    }

    #[test]
    fn a_cut_value_is_whole_again_when_its_pieces_are_joined() {
        for len in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES, 262_144] {
            let value: Vec<u8> = (0..=250).cycle().take(len).collect();
            let (first, rest) = cut(&value);
            let mut joined = first.to_vec();
            rest.for_each(|piece| joined.extend_from_slice(piece));
            assert_eq!(joined, value);
        }
    }
}
