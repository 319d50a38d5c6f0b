//! Packages over the air: what may come, from whom, and never an older one than before.
//!
//! This is the trust's side. [`tuf`] follows a repository of TUF metadata from a root that the
//! appliance was given to a [`tuf::Target`]: a path, a length and hashes that the operator's keys
//! vouch for. [`floor`] remembers, apart from the metadata, how far everything has come. What is
//! done with a target (download, gate, commit) knows nothing of keys.
//!
//! Owns `STATE_DIR/trust` (metadata as it was received, the history of roots) and the floors in
//! `STATE_DIR/ota`. Both are reached through [`disk::Disk`] alone, so that a test can cut the power
//! at any write.
//!
//! # Invariants
//!
//! - Nothing is used before its signatures, version, expiry, length and hashes were checked, nor
//!   if they no longer hold when it is read again.
//! - A version, a package's sequence number and the floor of time never go back: not by a clock,
//!   not by a power cut, and not by trust files that are cut short, deleted or swapped. There is
//!   one way to lower versions, that of the specification (5.3.11): a newer root that takes a key
//!   from timestamp or snapshot. Sequence numbers and time have none.
//! - A refresh that fails changes nothing for what is served, and stored metadata that has expired
//!   can still be looked up.
//! - Whatever a repository sends is bounded: in bytes, in depth, in number.
//!
//! # How it fails
//!
//! With a [`tuf::TufError`] that names the file or role and the rule. Damaged trust files are no
//! fault: they are read as absent, and the chain of roots begins again from the history or from the
//! root that the appliance was given, under the same floors. A damaged copy of the floors is mended
//! from the other; without both, the floors are what the verified trust files say.

// The ground: the disk, and what must not go back.
pub mod disk;

pub mod floor;

// Whom to believe.
pub mod tuf;

#[cfg(test)]
mod tests;
