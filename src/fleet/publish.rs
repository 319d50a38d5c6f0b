//! Publishing: everything is checked by the device's own client first, and becomes visible last and
//! in one step.
//!
//! ```text
//!  objects ─► targets ─► versioned metadata ─┬─► timestamp.json ─► N.root.json   keys change, both signed
//!    nobody looks at these yet               └─► N.root.json ─► timestamp.json   else
//! ```
//!
//! Invariants:
//!
//! - Before the first write, a device that knows the published state and one that knows only the
//!   first root both accept what is to come, find every target that is staged in it, and accept
//!   what lies there between the last two writes.
//! - Every file is written beside its place, forced out and renamed. A crash between any two
//!   writes leaves a repository that devices accept, the old or the new; publishing again finishes.
//!
//! How it fails: by [`FleetError`], with the repository as it was.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::desk::{Desk, Lack};
use super::disk;
use super::fault::{Done, FleetError, missing, refused};
use super::papers::{METADATA, Papers, TARGETS, timestamp_file, versioned};
use super::post::Post;
use super::sign::SHORT_ID;
use super::view::{Device, Shown};
use crate::clock::Wall;
use crate::ota::manifest::{MAX_MANIFEST_BYTES, Manifest};
use crate::ota::object::Object;
use crate::ota::release;
use crate::ota::rollout::{MAX_ROLLOUT_BYTES, Rollout};
use crate::ota::store::object_path;
use crate::ota::tuf::metadata::{Kind, TargetFile, Targets};
use crate::package::Digest;

/// What may happen between the last two writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Nothing that a device would refuse.
    Never,
    /// Devices that ask in that very moment are refused, and try again later.
    Accepted,
}

/// What became visible.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Published {
    /// The new versions, by role.
    pub versions: BTreeMap<String, u64>,
    /// Files of targets that were laid out.
    pub targets: usize,
    /// Objects that were laid out.
    pub objects: usize,
}

/// What is to be written, in this order.
struct Plan {
    /// From and to.
    placed: Vec<(PathBuf, PathBuf)>,
    /// Metadata, the visible ones last.
    metadata: Vec<(String, Vec<u8>)>,
    published: Published,
}

/// Publishes what is on the desk. `before` is called before each write.
pub fn publish(
    desk: &mut Desk,
    gap: Gap,
    before: &mut dyn FnMut(&Path) -> io::Result<()>,
) -> Done<Published> {
    let plan = plan(desk, gap)?;
    desk.keep_anchor()?;
    for (from, to) in &plan.placed {
        before(to).map_err(FleetError::at(to))?;
        disk::place(from, to)?;
    }
    let folder = desk.repository().join(METADATA);
    for (name, bytes) in &plan.metadata {
        let path = folder.join(name);
        before(&path).map_err(FleetError::at(&path))?;
        disk::write(&path, bytes)?;
    }
    desk.clear()?;
    Ok(plan.published)
}

/// Checks everything; writes nothing.
pub fn check(desk: &Desk, gap: Gap) -> Done<()> {
    plan(desk, gap).map(drop)
}

/// What is not signed, in words.
pub fn told(lacks: &[Lack]) -> String {
    let one = |lack: &Lack| {
        let by = lack
            .by
            .iter()
            .map(|id| id[..SHORT_ID.min(id.len())].to_owned());
        format!(
            "{} {}: {} of {} signatures; may sign: {}",
            lack.role,
            lack.version,
            lack.signed,
            lack.threshold,
            by.collect::<Vec<_>>().join(", ")
        )
    };
    lacks.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn plan(desk: &Desk, gap: Gap) -> Done<Plan> {
    let roles = desk.staged_roles();
    if roles.is_empty() {
        return missing("nothing is on the desk");
    }
    let stale = desk.stale()?;
    if !stale.is_empty() {
        return refused(format!(
            "{}: others were published since these were proposed: discard them and propose again",
            stale.join(", ")
        ));
    }
    let lacks = desk.lacks()?;
    if !lacks.is_empty() {
        return missing(format!("signatures are missing:\n{}", told(&lacks)));
    }
    let is_staged = |post: Post| roles.iter().any(|role| role == post.name());
    let below = Post::ALL
        .iter()
        .any(|post| post.kind() == Kind::Targets && is_staged(*post));
    if below && !(is_staged(Post::Snapshot) && is_staged(Post::Timestamp)) {
        return missing("snapshot and timestamp are not made yet: sign them first");
    }
    if is_staged(Post::Snapshot) && !is_staged(Post::Timestamp) {
        return missing("the timestamp is not made yet: sign it first");
    }
    let mut plan = Plan {
        placed: Vec::new(),
        metadata: Vec::new(),
        published: Published::default(),
    };
    let latest = desk.latest();
    hold_targets(desk, &latest, &mut plan)?;
    plan.placed.sort();
    plan.placed.dedup();
    let targets = desk.repository().join(TARGETS);
    let is_target = |(_, to): &&(PathBuf, PathBuf)| to.starts_with(&targets);
    plan.published.targets = plan.placed.iter().filter(is_target).count();
    plan.published.objects = plan.placed.len() - plan.published.targets;
    let mut files = BTreeMap::new();
    for role in &roles {
        let version = latest.head(role)?.0;
        let name = match Post::of(role) {
            Some(Post::Timestamp) => timestamp_file(),
            _ => versioned(version, role),
        };
        files.insert(name, desk.staged().0[role].to_bytes());
        plan.published.versions.insert(role.clone(), version);
    }
    hold_before_devices(desk, &latest, &files)?;
    let last = last_two(desk, &files, gap)?;
    let (visible, hidden): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|(name, _)| last.contains(name));
    plan.metadata.extend(hidden);
    for name in last {
        plan.metadata
            .extend(visible.iter().filter(|(own, _)| *own == name).cloned());
    }
    Ok(plan)
}

/// Two devices accept it: one that has seen all so far, and one that comes from the first root.
fn hold_before_devices(
    desk: &Desk,
    latest: &Papers,
    files: &BTreeMap<String, Vec<u8>>,
) -> Done<()> {
    let folder = desk.repository().join(METADATA);
    let wrong = |who: &str, error: &dyn std::fmt::Display| {
        FleetError::Refused(format!("a device that {who} would refuse this: {error}"))
    };
    let shown = Shown {
        folder: &folder,
        over: files,
    };
    for who in [KNOWS, FRESH] {
        let mut device = device(desk, who)?;
        device
            .refresh(desk.now(), shown)
            .map_err(|error| wrong(who, &error))?;
        for role in desk.staged().targets_roles() {
            for path in latest.targets(role)?.targets.keys() {
                let found = device
                    .find(path, shown)
                    .map_err(|error| wrong(who, &error))?;
                if found.is_none() {
                    return Err(wrong(who, &format!("it does not find {path}")));
                }
            }
        }
    }
    Ok(())
}

const KNOWS: &str = "has seen what is published";
const FRESH: &str = "has the first root only";

fn device(desk: &Desk, who: &str) -> Done<Device> {
    let anchor = desk.anchor();
    let anchor = anchor.ok_or_else(|| FleetError::Missing("there is no root".to_owned()))?;
    let wrong = |error: &dyn std::fmt::Display| FleetError::Refused(format!("the root: {error}"));
    let mut device = Device::new(&anchor).map_err(|error| wrong(&error))?;
    if who == KNOWS && !desk.current().0.is_empty() {
        let folder = desk.repository().join(METADATA);
        let shown = Shown {
            folder: &folder,
            over: &BTreeMap::new(),
        };
        // It saw it when it was fresh.
        device
            .refresh(Wall(0), shown)
            .map_err(|error| wrong(&error))?;
    }
    Ok(device)
}

/// The names of the files that make it visible, in the order in which devices accept every step.
fn last_two(desk: &Desk, files: &BTreeMap<String, Vec<u8>>, gap: Gap) -> Done<Vec<String>> {
    let timestamp = timestamp_file();
    let mut root = files.keys().filter(|name| name.ends_with(".root.json"));
    let Some(root) = root.next().cloned() else {
        return Ok(vec![timestamp]);
    };
    if desk.current().0.is_empty() || !files.contains_key(&timestamp) {
        return Ok(vec![root, timestamp]);
    }
    let accept = |hidden: &str| {
        let folder = desk.repository().join(METADATA);
        let mut over = files.clone();
        over.remove(hidden);
        let shown = Shown {
            folder: &folder,
            over: &over,
        };
        // Expiry is no question of the order.
        [KNOWS, FRESH].into_iter().try_fold(true, |all, who| {
            Ok::<_, FleetError>(all && device(desk, who)?.refresh(Wall(0), shown).is_ok())
        })
    };
    if accept(&root)? {
        return Ok(vec![timestamp, root]);
    }
    if accept(&timestamp)? || gap == Gap::Accepted {
        return Ok(vec![root, timestamp]);
    }
    refused(
        "the keys of targets, snapshot or timestamp change, and between two writes devices would \
         refuse what lies there. Either add the new key, publish, and remove the old one then; or \
         have the old keys sign as well; or say --accept-gap where the old ones are lost or stolen",
    )
}

/// Every target is there with its bytes, and is what its name says.
fn hold_targets(desk: &Desk, latest: &Papers, plan: &mut Plan) -> Done<()> {
    let staged = desk.staged_folder();
    for role in desk.staged().targets_roles() {
        let targets = latest.targets(role)?;
        for (path, file) in &targets.targets {
            let sha256 = digest_of(path, file)?;
            let place = super::desk::target_place(path, sha256);
            if staged.join(&place).exists() {
                plan.placed
                    .push((staged.join(&place), desk.repository().join(&place)));
            }
            if Post::of(role) == Some(Post::Packages) {
                hold_package(desk, path, file, plan)?;
            }
        }
    }
    // A package that leaves may be one that a ring names.
    for post in [Post::Rollout, Post::Offline] {
        if latest.0.contains_key(post.name()) {
            let targets = latest.targets(post.name())?;
            hold_rings(desk, latest, &targets)?;
        }
    }
    Ok(())
}

/// The SHA-256 that a target is signed for with.
pub(super) fn digest_of(path: &str, file: &TargetFile) -> Done<Digest> {
    let hash = file
        .hashes
        .get("sha256")
        .and_then(|hash| Digest::parse(hash));
    hash.ok_or_else(|| FleetError::Refused(format!("target {path}: it has no SHA-256")))
}

fn hold_package(desk: &Desk, path: &str, file: &TargetFile, plan: &mut Plan) -> Done<()> {
    let manifest = manifest(desk, path, file)?;
    for object in objects(&manifest) {
        let place = object_path(object.sha256());
        let (staged, there) = (
            desk.staged_folder().join(&place),
            desk.repository().join(&place),
        );
        let length = |at: &Path| fs::metadata(at).map(|about| about.len()).ok();
        match (length(&there), length(&staged)) {
            (Some(bytes), _) if bytes == object.bytes() => {}
            (_, Some(bytes)) if bytes == object.bytes() => {
                let found = release::cut(&staged, object.chunk_bytes());
                let found = found.map_err(FleetError::at(&staged))?;
                if found != *object {
                    return refused(format!(
                        "package {path}: {} is not what its manifest says",
                        staged.display()
                    ));
                }
                plan.placed.push((staged, there));
            }
            _ => return refused(format!("package {path}: its object {place} is not there")),
        }
    }
    Ok(())
}

/// Everything that a package is made of.
pub(super) fn objects(manifest: &Manifest) -> Vec<&Object> {
    let models = manifest.variants.iter().map(|it| &it.file.object);
    let files = manifest.files.iter().map(|it| &it.object);
    models.chain(files).chain([&manifest.sheet]).collect()
}

/// The manifest of a package, staged or published.
pub(super) fn manifest(desk: &Desk, path: &str, file: &TargetFile) -> Done<Manifest> {
    let wrong = |why: &dyn std::fmt::Display| FleetError::Refused(format!("package {path}: {why}"));
    let bytes = desk.file(path, digest_of(path, file)?, MAX_MANIFEST_BYTES)?;
    let manifest = Manifest::parse(&bytes).map_err(|error| wrong(&error))?;
    if manifest.target_name() == path {
        Ok(manifest)
    } else {
        Err(wrong(&format!("it is {}", manifest.target_name())))
    }
}

/// The ring that a document is of.
pub(super) fn ring(desk: &Desk, path: &str, file: &TargetFile) -> Done<Rollout> {
    let wrong = |why: &dyn std::fmt::Display| FleetError::Refused(format!("ring {path}: {why}"));
    let bytes = desk.file(path, digest_of(path, file)?, MAX_ROLLOUT_BYTES)?;
    let rollout = Rollout::parse(&bytes).map_err(|error| wrong(&error))?;
    if Rollout::target_of(&rollout.ring) == path {
        Ok(rollout)
    } else {
        Err(wrong(&format!("it is of ring {}", rollout.ring)))
    }
}

/// Every ring runs a package that is there, and none goes back.
fn hold_rings(desk: &Desk, latest: &Papers, targets: &Targets) -> Done<()> {
    let packages = latest.targets(Post::Packages.name())?;
    for (path, file) in &targets.targets {
        let rollout = ring(desk, path, file)?;
        if !packages.targets.contains_key(&rollout.package_target()) {
            return refused(format!(
                "ring {}: package {}-{} is not in this repository",
                rollout.ring, rollout.package, rollout.seq
            ));
        }
        let post = Post::of_ring(&rollout.ring).name();
        let before = if desk.current().0.contains_key(post) {
            desk.current().targets(post)?.targets.get(path).cloned()
        } else {
            None
        };
        if let Some(before) = before {
            super::rings::hold_forward(&ring(desk, path, &before)?, &rollout)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
