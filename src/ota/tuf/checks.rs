//! What must hold before a document is believed: the specification's checks, each by its number.
//!
//! Pure: bytes, what is trusted already, and the floors go in; the document or the rule that it
//! broke comes out. The same checks hold for what a repository sends and for what lies on the disk.
//! Expiry is apart ([`fresh`]), for stored metadata is read after it has expired, too.

use std::collections::BTreeMap;

use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};

use super::expiry::Expiry;
use super::key::{Key, hex, materials, signers};
use super::metadata::{self, Kind, MetaFile, Role, Root, Signed, Snapshot, Targets, Timestamp};
use super::{Limits, TufError};
use crate::clock::Wall;
use crate::ota::floor::Floors;

/// Who must have signed a role, according to the one that speaks of it.
pub(super) struct Authority<'a> {
    pub(super) role: &'a str,
    pub(super) keyids: &'a [String],
    pub(super) threshold: u64,
    pub(super) keys: &'a BTreeMap<String, Key>,
}

impl<'a> Authority<'a> {
    /// Of one of the four roles.
    pub(super) fn of(root: &'a Root, kind: Kind) -> Self {
        let who = root.signatories(kind);
        Self {
            role: kind.name(),
            keyids: &who.keyids,
            threshold: who.threshold,
            keys: &root.keys,
        }
    }

    /// Whether enough of them signed.
    pub(super) fn signed<T>(&self, document: &Signed<T>) -> Result<(), TufError> {
        let signed = signers(self.keyids, self.keys, document) as u64;
        if signed < self.threshold {
            return Err(TufError::Threshold {
                role: self.role.to_owned(),
                signed,
                threshold: self.threshold,
            });
        }
        Ok(())
    }
}

/// Reads a document of a role; nothing is believed yet.
fn read<T: Role>(role: &str, bytes: &[u8]) -> Result<Signed<T>, TufError> {
    metadata::read(bytes).map_err(|why| TufError::Malformed {
        role: role.to_owned(),
        why,
    })
}

/// 5.2: the root that trust begins with. It must be signed by its own keys, so that a damaged one
/// is found now.
pub(super) fn first_root(bytes: &[u8]) -> Result<Root, TufError> {
    let root: Signed<Root> = read(Kind::Root.name(), bytes)?;
    Authority::of(&root.content, Kind::Root).signed(&root)?;
    Ok(root.content)
}

/// 5.3.4 to 5.3.7: the root that follows.
pub(super) fn next_root(trusted: &Root, bytes: &[u8]) -> Result<Root, TufError> {
    let root: Signed<Root> = read(Kind::Root.name(), bytes)?;
    // 5.3.4: signed by the trusted root's keys, and by its own.
    Authority::of(trusted, Kind::Root).signed(&root)?;
    Authority::of(&root.content, Kind::Root).signed(&root)?;
    // 5.3.5: exactly the next version.
    same_version(Kind::Root.name(), root.content.version, trusted.version + 1)?;
    Ok(root.content)
}

/// 5.3.11: whether a root takes a key from those who sign timestamp or snapshot. A key that is
/// added is no reason to forget anything.
pub(super) fn takes_a_key(before: &Root, after: &Root) -> bool {
    [Kind::Timestamp, Kind::Snapshot].into_iter().any(|kind| {
        let of = |root: &Root| materials(&root.signatories(kind).keyids, &root.keys);
        !of(before).is_subset(&of(after))
    })
}

/// 5.4.2 and 5.4.3: a timestamp.
pub(super) fn timestamp(root: &Root, floors: &Floors, bytes: &[u8]) -> Result<Timestamp, TufError> {
    let role = Kind::Timestamp.name();
    let document: Signed<Timestamp> = read(role, bytes)?;
    // 5.4.2: signatures.
    Authority::of(root, Kind::Timestamp).signed(&document)?;
    let timestamp = document.content;
    // 5.4.3.1: no older timestamp.
    not_below(role, timestamp.version, floors.timestamp)?;
    // 5.4.3.2: no older snapshot.
    let snapshot = timestamp.snapshot().version;
    not_below(Kind::Snapshot.name(), snapshot, floors.snapshot)?;
    Ok(timestamp)
}

/// 5.5.2 to 5.5.5: the snapshot that a timestamp describes.
pub(super) fn snapshot(
    root: &Root,
    described: &MetaFile,
    floors: &Floors,
    limits: &Limits,
    bytes: &[u8],
) -> Result<Snapshot, TufError> {
    let role = Kind::Snapshot.name();
    // 5.5.2: length and hashes.
    as_described(role, described, bytes)?;
    let document: Signed<Snapshot> = read(role, bytes)?;
    // 5.5.3: signatures.
    Authority::of(root, Kind::Snapshot).signed(&document)?;
    let snapshot = document.content;
    // 5.5.4: the version.
    same_version(role, snapshot.version, described.version)?;
    within("roles in the snapshot", snapshot.meta.len(), limits.roles)?;
    // 5.5.5: no role is older than before, and none has vanished.
    for (role, floor) in &floors.roles {
        match snapshot.role(role) {
            Some(file) => not_below(role, file.version, *floor)?,
            None => return Err(TufError::Vanished { role: role.clone() }),
        }
    }
    Ok(snapshot)
}

/// 5.6.2 to 5.6.4: a targets role that a snapshot describes. Also that of a delegated role, where
/// the authority is the role that delegates.
pub(super) fn targets(
    authority: &Authority<'_>,
    described: &MetaFile,
    limits: &Limits,
    bytes: &[u8],
) -> Result<Signed<Targets>, TufError> {
    let role = authority.role;
    // 5.6.2: length and hashes.
    as_described(role, described, bytes)?;
    let document: Signed<Targets> = read(role, bytes)?;
    // 5.6.3: signatures.
    authority.signed(&document)?;
    let targets = &document.content;
    // 5.6.4: the version.
    same_version(role, targets.version, described.version)?;
    within("targets in a role", targets.targets.len(), limits.targets)?;
    let delegated = targets.delegations.as_ref();
    let delegated = delegated.map_or(0, |list| list.roles.len());
    within("delegations of a role", delegated, limits.roles)?;
    Ok(document)
}

/// 5.3.10, 5.4.4, 5.5.6, 5.6.5: not expired.
pub(super) fn fresh(role: &str, expires: Expiry, time: Wall) -> Result<(), TufError> {
    if expires.has_passed(time) {
        return Err(TufError::Expired {
            role: role.to_owned(),
            expires,
        });
    }
    Ok(())
}

fn same_version(role: &str, found: u64, expected: u64) -> Result<(), TufError> {
    if found != expected {
        return Err(TufError::Version {
            role: role.to_owned(),
            found,
            expected,
        });
    }
    Ok(())
}

fn not_below(role: &str, offered: u64, floor: u64) -> Result<(), TufError> {
    if offered < floor {
        return Err(TufError::Rollback {
            role: role.to_owned(),
            offered,
            floor,
        });
    }
    Ok(())
}

pub(super) fn within(what: &'static str, count: usize, limit: usize) -> Result<(), TufError> {
    if count > limit {
        return Err(TufError::Limit { what, limit });
    }
    Ok(())
}

fn as_described(role: &str, described: &MetaFile, bytes: &[u8]) -> Result<(), TufError> {
    let right = described.length.is_none_or(|len| len == bytes.len() as u64)
        && described
            .hashes
            .as_ref()
            .is_none_or(|hashes| hashes_match(hashes, bytes));
    if right {
        Ok(())
    } else {
        Err(TufError::NotAsDescribed {
            role: role.to_owned(),
        })
    }
}

/// The algorithms that are known, the first preferred.
const ALGORITHMS: [(&str, &Algorithm); 3] = [
    ("sha256", &SHA256),
    ("sha512", &SHA512),
    ("sha384", &SHA384),
];

/// The first hash of a known algorithm: what file names begin with.
pub(super) fn known_hash(hashes: &BTreeMap<String, String>) -> Option<&String> {
    ALGORITHMS.iter().find_map(|(name, _)| hashes.get(*name))
}

/// Whether every hash of a known algorithm is right, and there is one. Those of other algorithms
/// say nothing.
pub(super) fn hashes_match(hashes: &BTreeMap<String, String>, bytes: &[u8]) -> bool {
    let known = || {
        ALGORITHMS
            .iter()
            .filter_map(|(name, algorithm)| Some((hashes.get(*name)?, algorithm)))
    };
    known().next().is_some()
        && known().all(|(hash, algorithm)| *hash == hex(digest(algorithm, bytes).as_ref()))
}
