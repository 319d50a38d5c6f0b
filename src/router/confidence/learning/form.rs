//! All that was learnt, as bytes.
//!
//! ```text
//!  version │ postcard: task, mark and what was learnt of each │ SHA-256 of all before
//!  1 byte  │                                                  │ 32 bytes
//! ```
//!
//! What was learnt of a task has a version of its own, inside. The digest finds a torn or rotten
//! file; who may write it may also replace the program.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Mark;
use crate::package::{Digest, MAX_TASKS};
use crate::router::confidence::refit::{self, Learnt};

/// The version that is written, and the only one that was ever shipped.
const VERSION: u8 = 1;
const DIGEST_BYTES: usize = 32;

/// Why stored bytes cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Not as it was written.
    #[error("what was learnt is damaged")]
    Damaged,
    /// Written by a version unknown here.
    #[error("what was learnt has version {0}, which is unknown here")]
    Version(u8),
    /// Whole, but not what it should be.
    #[error("what was learnt does not decode")]
    Content,
    /// That of one task.
    #[error(transparent)]
    Task(#[from] refit::FormError),
}

#[derive(Serialize, Deserialize)]
struct WireBend {
    task: String,
    mark: [u8; DIGEST_BYTES],
    learnt: Vec<u8>,
}

pub(super) fn bytes<'a>(tasks: impl Iterator<Item = (&'a str, &'a Mark, &'a Learnt)>) -> Vec<u8> {
    let wire = tasks.map(|(task, mark, learnt)| WireBend {
        task: task.to_owned(),
        mark: mark.0,
        learnt: learnt.bytes(),
    });
    let wire: Vec<_> = wire.collect();
    let mut bytes = postcard::to_extend(&wire, vec![VERSION]).expect("a Vec takes all");
    bytes.extend(Digest::of(&bytes).0);
    bytes
}

pub(super) fn read(bytes: &[u8]) -> Result<BTreeMap<String, (Mark, Learnt)>, FormError> {
    let (signed, digest) = bytes
        .split_last_chunk::<DIGEST_BYTES>()
        .ok_or(FormError::Damaged)?;
    if Digest::of(signed).0 != *digest {
        return Err(FormError::Damaged);
    }
    let body = match signed.split_first() {
        Some((&VERSION, body)) => body,
        Some((version, _)) => return Err(FormError::Version(*version)),
        None => return Err(FormError::Damaged),
    };
    let taken = postcard::take_from_bytes::<Vec<WireBend>>(body);
    let (wire, rest) = taken.map_err(|_| FormError::Content)?;
    if !rest.is_empty() || wire.len() > MAX_TASKS {
        return Err(FormError::Content);
    }
    let tasks = wire.into_iter().map(|it| {
        let learnt = Learnt::read(&it.learnt)?;
        Ok((it.task, (Digest(it.mark), learnt)))
    });
    tasks.collect()
}
