//! The keys of records and their pieces in the one sled tree.
//!
//! ```text
//!  tag        │ number, big endian │                      a record, or its first piece
//!  tag │ 0x80 │ number, big endian │ piece, from 1        what did not fit into the first
//! ```
//!
//! sled writes a leaf of up to [`LEAF_ENTRIES`] entries as one message, and puts a message above
//! a quarter of a segment into a file of its own. A piece is short enough that a leaf full of
//! them stays below that.

use super::super::Tree;
use super::store::SEGMENT_BYTES;

/// What a sled leaf holds at most: it splits above 16, and two leaves of 16 and 3 may merge;
/// entries that arrive in one visit come on top.
const LEAF_ENTRIES: usize = 20;

/// Bytes of a value under one key, with room for the leaf's own fields.
pub(super) const PIECE_BYTES: usize = SEGMENT_BYTES / 4 / LEAF_ENTRIES - 64;

/// What the number of a piece, one byte, can count.
pub(super) const LONGEST_BYTES: usize = 256 * PIECE_BYTES;

const PIECE_BIT: u8 = 0x80;

pub(super) fn key(tree: Tree, seq: u64) -> [u8; 9] {
    let mut key = [tree.tag(); 9];
    key[1..].copy_from_slice(&seq.to_be_bytes());
    key
}

pub(super) fn read(key: &[u8]) -> Option<u64> {
    let (_, seq) = key.split_first()?;
    seq.try_into().ok().map(u64::from_be_bytes)
}

fn piece_tag(tree: Tree) -> u8 {
    tree.tag() | PIECE_BIT
}

pub(super) fn piece_key(tree: Tree, seq: u64, piece: u8) -> [u8; 10] {
    let mut key = [piece; 10];
    key[0] = piece_tag(tree);
    key[1..9].copy_from_slice(&seq.to_be_bytes());
    key
}

/// The record and the piece's number, counted from one; `None` for any other key.
pub(super) fn read_piece(key: &[u8]) -> Option<(Tree, u64, u8)> {
    let (piece, head) = key.split_last()?;
    let seq = read(head)?;
    let tree = Tree::ALL
        .into_iter()
        .find(|tree| piece_tag(*tree) == key[0])?;
    Some((tree, seq, *piece))
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
        assert_eq!(read(&key(Tree::Trail, 77)), Some(77));
        assert_eq!(
            read_piece(&piece_key(Tree::Trail, 77, 3)),
            Some((Tree::Trail, 77, 3))
        );
        assert_eq!(read_piece(&key(Tree::Trail, 77)), None);
    }

    #[test]
    fn a_cut_value_is_whole_again_when_its_pieces_are_joined() {
        for len in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES, 262_144] {
            let value: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let (first, rest) = cut(&value);
            let mut joined = first.to_vec();
            rest.for_each(|piece| joined.extend_from_slice(piece));
            assert_eq!(joined, value);
        }
    }
}
