//! The operator's tool for signed packages over the air: keys, repositories, packages, rings.
//!
//! ```text
//!  package folder ─► gate ─► target ─┐
//!  ring, share, halt ────────────────┼─► desk ─► sign (here, or by slip elsewhere) ─► publish ─► REPO
//!  keys, terms ──────────────────────┘                                                  │
//!                                          the device's own client says yes first ──────┘
//! ```
//!
//! Purpose: a second program, `lineside-fleet`, for those who sign. Devices have none of this; it is
//! left out of images for boards with the feature `fleet`. What it writes, [`crate::ota`] reads, and
//! so does any TUF client.
//!
//! Owns a repository and its desk:
//!
//! ```text
//!  REPO/metadata/N.root.json …      what clients of TUF ask for; the folder is served as it is
//!       metadata/timestamp.json     the one file that is replaced
//!       targets/HASH.NAME-SEQ.json  manifests of packages
//!       targets/rollout/HASH.RING.json
//!       objects/sha256/ab/HASH      what the manifests name
//!  REPO.desk/                       beside it, not served: see [`desk`]
//! ```
//!
//! A device is given `REPO/metadata/1.root.json` and the address of `REPO`. Who signs what, and for
//! how long that is good: see [`post`].
//!
//! # Invariants
//!
//! - Nothing is signed that was not shown, and agreed to, as a difference to what is published.
//! - Nothing becomes visible that a device would refuse: see [`publish`].
//! - No package is signed that failed its own gate here; without a gate only with a reason, which
//!   is signed with it.
//! - A passphrase or the secret half of a key is in no message, no file but its own, no output.
//! - A command that fails leaves what is published as it was.
//!
//! # How it fails
//!
//! With a [`FleetError`] in words, and the exit code that goes with its kind.

mod fault;

// The ground: files, keys, words about documents.
mod disk;

mod diff;

pub mod key;

// A repository, and what is to become of it.
pub mod post;

pub mod settings;

pub mod papers;

mod view;

pub mod desk;

pub mod sign;

pub mod publish;

// What changes.
pub mod init;

pub mod rotate;

pub mod gate;

pub mod packages;

pub mod rings;

// What is looked at and copied.
pub mod verify;

pub mod list;

pub mod export;

// How people call it.
pub mod exam;

pub mod tiers;

pub mod args;

mod keys;

mod run;

pub use diff::diff;
pub use fault::{Done, EXIT_INTERNAL, EXIT_REFUSED, EXIT_UNAVAILABLE, EXIT_USAGE, FleetError};
pub use run::run;

#[cfg(test)]
mod tests;
