//! The documents of a repository, by role, and who must sign each.

use std::collections::BTreeMap;
use std::path::Path;

use super::disk;
use super::fault::{Done, FleetError, missing, refused};
use super::post::Post;
use super::view::{Device, Shown};
use crate::clock::Wall;
use crate::ota::tuf::draft::{Circle, Draft};
use crate::ota::tuf::metadata::{Kind, MetaFile, Role, Root, Snapshot, Targets, Timestamp};
use crate::ota::tuf::write::describe;
use crate::ota::tuf::{Limits, quoted};

/// Where a repository has its metadata.
pub const METADATA: &str = "metadata";
/// Where it has what the metadata speaks of.
pub const TARGETS: &str = "targets";

/// Documents by their roles.
#[derive(Clone, Debug, Default)]
pub struct Papers(pub BTreeMap<String, Draft>);

impl Papers {
    /// What a role's document says.
    pub fn content<T: Role>(&self, role: &str) -> Done<T> {
        let draft = self.0.get(role);
        let draft =
            draft.ok_or_else(|| FleetError::Refused(format!("there is no document of {role}")))?;
        draft
            .content()
            .map_err(|why| FleetError::Refused(format!("{role}: {why}")))
    }

    /// The root.
    pub fn root(&self) -> Done<Root> {
        self.content(Post::Root.name())
    }

    /// A targets role.
    pub fn targets(&self, role: &str) -> Done<Targets> {
        self.content(role)
    }

    /// The snapshot.
    pub fn snapshot(&self) -> Done<Snapshot> {
        self.content(Post::Snapshot.name())
    }

    /// The timestamp.
    pub fn timestamp(&self) -> Done<Timestamp> {
        self.content(Post::Timestamp.name())
    }

    /// The targets roles that are here, the top one first.
    pub fn targets_roles(&self) -> Vec<&str> {
        let top = Post::Targets.name();
        let others = self.0.keys().map(String::as_str).filter(|role| {
            *role != top && Post::of(role).is_none_or(|post| post.kind() == Kind::Targets)
        });
        let top = self.0.contains_key(top).then_some(top);
        top.into_iter().chain(others).collect()
    }

    /// Who must sign a role: by the root for its four, by the first role that delegates to it for
    /// the others.
    pub fn circle(&self, role: &str) -> Done<Circle> {
        if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == role) {
            let root = self.root()?;
            let who = root.signatories(kind);
            return Ok(circle(&who.keyids, who.threshold, &root.keys));
        }
        for delegator in self.targets_roles() {
            let targets = self.targets(delegator)?;
            if let Some(list) = targets.delegations
                && let Some(own) = list.roles.iter().find(|it| it.name == role)
            {
                return Ok(circle(&own.keyids, own.threshold, &list.keys));
            }
        }
        refused(format!("nobody delegates to {role}"))
    }

    /// Version and moment of expiry of a role's document.
    pub fn head(&self, role: &str) -> Done<(u64, crate::ota::tuf::Expiry)> {
        Ok(match Post::of(role).map(Post::kind) {
            Some(Kind::Root) => {
                let it = self.root()?;
                (it.version, it.expires)
            }
            Some(Kind::Snapshot) => {
                let it = self.snapshot()?;
                (it.version, it.expires)
            }
            Some(Kind::Timestamp) => {
                let it = self.timestamp()?;
                (it.version, it.expires)
            }
            Some(Kind::Targets) | None => {
                let it = self.targets(role)?;
                (it.version, it.expires)
            }
        })
    }
}

fn circle(
    keyids: &[String],
    threshold: u64,
    keys: &BTreeMap<String, crate::ota::tuf::Key>,
) -> Circle {
    let own = keys.iter().filter(|(id, _)| keyids.contains(id));
    Circle {
        keyids: keyids.to_vec(),
        threshold,
        keys: own.map(|(id, key)| (id.clone(), key.clone())).collect(),
    }
}

/// What is published in a repository.
#[derive(Clone, Debug)]
pub struct State {
    /// The root that trust begins with.
    pub anchor: Vec<u8>,
    /// The newest document of each role.
    pub papers: Papers,
}

/// The name of a file of the metadata that has a version in it.
pub(super) fn versioned(version: u64, role: &str) -> String {
    format!("{version}.{}.json", quoted(role))
}

/// The one file that is named without.
pub(super) fn timestamp_file() -> String {
    format!("{}.json", Post::Timestamp.name())
}

impl State {
    /// Reads a repository, and believes it as far as a device would that does not look at expiry.
    /// Without an anchor its first root is one.
    pub fn read(repository: &Path, anchor: Option<Vec<u8>>) -> Done<Self> {
        let folder = repository.join(METADATA);
        let limits = Limits::default();
        let anchor = match anchor {
            Some(anchor) => anchor,
            None => disk::bytes(&folder.join(versioned(1, "root")), limits.root_bytes)?,
        };
        let wrong = |error: &dyn std::fmt::Display| {
            FleetError::Refused(format!("{}: {error}", repository.display()))
        };
        if !folder.join(timestamp_file()).exists() {
            return missing(format!(
                "{}: no repository of packages (it has no {METADATA}/{})",
                repository.display(),
                timestamp_file()
            ));
        }
        let shown = Shown {
            folder: &folder,
            over: &BTreeMap::new(),
        };
        let mut device = Device::new(&anchor).map_err(|error| wrong(&error))?;
        let seen = device
            .refresh(Wall(0), shown)
            .map_err(|error| wrong(&error))?;
        let mut papers = Papers::default();
        let draft = |name: &str, limit_bytes| {
            let bytes = disk::bytes(&folder.join(name), limit_bytes)?;
            let draft = Draft::parse(&bytes).map_err(|why| wrong(&format!("{name}: {why}")))?;
            Ok::<_, FleetError>((draft, bytes))
        };
        let root = if seen.root == anchor_version(&anchor) {
            Draft::parse(&anchor).map_err(|why| wrong(&why))?
        } else {
            draft(&versioned(seen.root, "root"), limits.root_bytes)?.0
        };
        papers.0.insert(Post::Root.name().to_owned(), root);
        let (timestamp, _) = draft(&timestamp_file(), limits.timestamp_bytes)?;
        papers
            .0
            .insert(Post::Timestamp.name().to_owned(), timestamp);
        let (snapshot, _) = draft(&versioned(seen.snapshot, "snapshot"), limits.snapshot_bytes)?;
        papers.0.insert(Post::Snapshot.name().to_owned(), snapshot);
        let snapshot = papers.snapshot()?;
        for (role, version) in snapshot.roles() {
            let (draft, bytes) = draft(&versioned(version, role), limits.targets_bytes)?;
            let described = snapshot.role(role);
            if !described.is_some_and(|it| is_described(it, version, &bytes)) {
                return Err(wrong(&format!("{role}: not the file that was signed for")));
            }
            papers.0.insert(role.to_owned(), draft);
        }
        for role in papers.targets_roles() {
            let circle = papers.circle(role)?;
            let draft = &papers.0[role];
            if !draft.is_signed(&circle) {
                return Err(wrong(&format!(
                    "{role}: signed by {} of its keys, and it takes {}",
                    draft.signed_by(&circle).len(),
                    circle.threshold
                )));
            }
        }
        Ok(Self { anchor, papers })
    }
}

fn anchor_version(anchor: &[u8]) -> u64 {
    let root = Draft::parse(anchor).and_then(|draft| draft.content::<Root>());
    root.map_or(0, |root| root.version)
}

/// Whether a description of a file is one of these bytes. What it leaves out says nothing.
pub(super) fn is_described(described: &MetaFile, version: u64, bytes: &[u8]) -> bool {
    let is = describe(version, bytes);
    let same_hash = described.hashes.as_ref().is_none_or(|hashes| {
        let own = is.hashes.iter().flatten().next();
        own.is_none_or(|(name, own)| hashes.get(name).is_none_or(|hash| hash == own))
    });
    described.version == version
        && described.length.is_none_or(|it| Some(it) == is.length)
        && same_hash
}
