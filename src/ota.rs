//! Packages over the air: whom to believe, and the way from a signed target to a folder that lies
//! ready to be gated, and on from there to what serves.
//!
//! ```text
//!  repository ─► tuf: metadata ─► verified target ─► update ─► manifest ─► choose ─► fetch ─► stage
//!                  │                                              ▲                    ▲  │
//!                floor: nothing goes back                         └────── sources ─────┘  └─► store
//!                                                                                               │
//!                                 serves ◄─ committed ◄─ trial ◄─ gated ◄─ staged: course ◄─────┘
//! ```
//!
//! Purpose: [`tuf`] follows a repository from a root that the appliance was given to a
//! [`tuf::Target`]: a path, a length and hashes that the operator's keys vouch for; [`floor`]
//! remembers, apart from the metadata, how far everything has come. [`update::update`] is the way
//! from such a target to a package's folder. Neither knows how the other works. [`course`] decides
//! whether and when such a package serves, with [`verdict`] at its gate and [`watch`] after it.
//!
//! Owns `STATE_DIR/trust` (metadata as it was received, the history of roots), the floors in
//! `STATE_DIR/ota`, and `STATE_DIR/models`. All are reached through ports ([`disk::Disk`],
//! [`store`]'s), so that a test can cut the power at any write.
//!
//! # Invariants
//!
//! - No metadata is used before its signatures, version, expiry, length and hashes were checked, nor
//!   if they no longer hold when it is read again. Nothing that a source gave is used, or looked
//!   into, before its hash was verified against a manifest that was itself verified.
//! - A version, a package's sequence number and the floor of time never go back: not by a clock,
//!   not by a power cut, and not by trust files that are cut short, deleted or swapped. There is
//!   one way to lower versions, that of the specification (5.3.11): a newer root that takes a key
//!   from timestamp or snapshot. Sequence numbers and time have none.
//! - A refresh that fails changes nothing for what is served, and stored metadata that has expired
//!   can still be looked up.
//! - A package's folder appears whole or not at all; the one that serves is never touched. A break
//!   costs no more than the chunk in which it came.
//! - Whatever a repository sends is bounded: in bytes, in depth, in number.
//!
//! # How it fails
//!
//! With a [`tuf::TufError`] that names the file or role and the rule, or an
//! [`update::UpdateError`], which tells what will never do from what is to be tried again. Damaged
//! trust files are no fault: they are read as absent, and the chain of roots begins again from the
//! history or from the root that the appliance was given, under the same floors. A damaged copy of
//! the floors is mended from the other; without both, the floors are what the verified trust files
//! say. The store is whole after any fault.

// The ground: the disk, and what must not go back.
pub mod disk;

pub mod floor;

// Whom to believe.
pub mod tuf;

// From a target to a package's folder.
pub mod fetch;

pub mod manifest;

pub mod object;

pub mod pace;

pub mod release;

pub mod rollout;

pub mod source;

pub mod store;

pub mod update;

// All of it, for one device.
pub mod keeper;

pub mod rounds;

// Whether and when it serves.
pub mod course;

pub mod gate;

pub mod odds;

pub mod verdict;

pub mod watch;

pub mod desk;

#[cfg(test)]
mod tests;
