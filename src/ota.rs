//! Packages over the air: from a signed target to a folder that lies ready to be gated.
//!
//! ```text
//!  verified target ─► update ─► manifest ─► choose ─► fetch ─► verify ─► stage ─► package folder
//!                                  ▲                    ▲  │
//!                                  └────── sources ─────┘  └─► store: objects, parts, packages
//! ```
//!
//! Purpose: everything between the metadata that says *which* package and the engine that tries
//! it. [`update::update`] is the whole way; the parts below it can be used alone.
//!
//! Invariants:
//!
//! - Nothing that a source gave is used, or looked into, before its hash was verified against a
//!   manifest that was itself verified.
//! - A package's folder appears whole or not at all; the one that serves is never touched.
//! - A break costs no more than the chunk in which it came.
//!
//! How it fails: by [`update::UpdateError`], which tells what will never do from what is to be
//! tried again. The store is whole after any of them.

pub mod fetch;
pub mod manifest;
pub mod object;
pub mod pace;
pub mod release;
pub mod source;
pub mod store;
pub mod update;
