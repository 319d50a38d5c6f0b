//! A copy to be carried: a complete repository with the objects of some packages only, good for as
//! long as the way takes.
//!
//! A device that is reached by stick cannot ask for a newer timestamp. So the stick's may be good
//! for longer than the server's, which has a price: for as long, whoever holds the stick can keep
//! such a device at what is on it. Versions that went out on a stick are not given again, so that a
//! device that sees stick and server never meets two documents of one version; the server's next
//! timestamp is newer than the stick's, and so is the snapshot that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::desk::{Desk, News, target_place};
use super::disk;
use super::fault::{Done, FleetError, missing, refused, usage};
use super::papers::{METADATA, Papers, timestamp_file, versioned};
use super::post::{MAX_DAYS, Post};
use super::publish::{self, digest_of, manifest, objects};
use super::rings::{self, Named};
use super::settings::expiry;
use super::sign::Hands;
use super::view::{Device, Shown};
use crate::ota::rollout::Rollout;
use crate::ota::store::object_path;
use crate::ota::tuf::Expiry;

/// What is to be copied.
#[derive(Clone, Debug)]
pub struct Order {
    /// Where to.
    pub to: PathBuf,
    /// For how many days it is to be good; as long as the repository is where none are said.
    pub for_days: Option<u32>,
    /// Which packages; those that rings run where none are named.
    pub packages: Vec<Named>,
}

/// What was copied.
#[derive(Clone, Debug, Serialize)]
pub struct Exported {
    /// Packages with their objects.
    pub packages: Vec<String>,
    /// Objects.
    pub objects: usize,
    /// Bytes of all objects.
    pub bytes: u64,
    /// Until when devices accept it.
    pub until: String,
    /// What one should know.
    pub notes: Vec<String>,
}

/// Copies what is published. Timestamp and snapshot are signed anew for it where they must be.
pub fn export(
    desk: &mut Desk,
    order: &Order,
    hands: &mut Hands,
    tell: &mut dyn FnMut(&str) -> std::io::Result<()>,
    write: bool,
) -> Done<Exported> {
    let mut news = News::default();
    if let Some(days) = order.for_days {
        if !(1..=MAX_DAYS).contains(&days) {
            return usage(format!("{days} days: 1 to {MAX_DAYS} may be signed"));
        }
        let usual = desk.settings.clone();
        news = lengthen(desk, days)?;
        hands.sign_desk(desk, news, tell)?;
        desk.settings = usual; // the next one is for the server again
        let lacks = desk.lacks()?;
        if write && !lacks.is_empty() {
            return missing(format!(
                "the stick needs signatures of its own; give their keys:\n{}",
                publish::told(&lacks)
            ));
        }
    }
    let latest = desk.latest();
    let packages = chosen(desk, &order.packages)?;
    let mut plan = plan(desk, &latest, &packages)?;
    let until = until(&latest)?;
    plan.told.until = until.to_string();
    plan.told.notes.push(format!(
        "until {until} devices accept what is on it. For as long, whoever holds it can keep a device \
         that sees nothing else at this state: it hears of no newer package, of no halt and of no key \
         that was taken back"
    ));
    if !write {
        return Ok(plan.told);
    }
    copy(desk, &latest, &order.to, &plan)?;
    hold(desk, &latest, &order.to, &plan)?;
    if news != News::default() {
        for post in [Post::Snapshot, Post::Timestamp] {
            let version = latest.head(post.name())?.0;
            desk.settings.saw_exported(post, version);
        }
        desk.save_settings()?;
        plan.told.notes.push(
            "it has a timestamp of its own, newer than the server's: a device that saw the stick takes the \
             server's word again after the next `refresh`"
                .to_owned(),
        );
    }
    Ok(plan.told)
}

/// Whether the stick needs a timestamp and a snapshot of its own; the desk then has their terms.
fn lengthen(desk: &mut Desk, days: u32) -> Done<News> {
    let wanted = expiry(desk.now(), days);
    let current = desk.current();
    let mut too_short = Vec::new();
    for role in current.0.keys() {
        let (_, expires) = current.head(role)?;
        if expires < wanted && !super::verify::is_automatic(role) {
            too_short.push(format!("{role} expires at {expires}"));
        }
    }
    if !too_short.is_empty() {
        return refused(format!(
            "the stick is to be good until {wanted}, and {}: `renew` first, with `--days` if need be",
            too_short.join(", ")
        ));
    }
    let is_short = |post: Post| Ok::<_, FleetError>(current.head(post.name())?.1 < wanted);
    let news = News {
        snapshot: is_short(Post::Snapshot)?,
        timestamp: is_short(Post::Timestamp)?,
    };
    for post in [Post::Snapshot, Post::Timestamp] {
        let days = days.max(1);
        desk.settings.set_days(post, days)?;
    }
    Ok(news)
}

/// The packages that go along.
fn chosen(desk: &Desk, named: &[Named]) -> Done<BTreeSet<String>> {
    let there = desk.role(Post::Packages)?.targets;
    let mut packages: BTreeSet<String> = named.iter().map(Named::target).collect();
    if packages.is_empty() {
        let rings = rings::all(desk)?;
        packages.extend(rings.values().map(Rollout::package_target));
    }
    match packages.iter().find(|target| !there.contains_key(*target)) {
        Some(target) => refused(format!("package {target} is not in this repository")),
        None => Ok(packages),
    }
}

/// When the first of all roles expires.
fn until(papers: &Papers) -> Done<Expiry> {
    let mut first: Option<Expiry> = None;
    for role in papers.0.keys() {
        let (_, expires) = papers.head(role)?;
        first = Some(first.map_or(expires, |first| first.min(expires)));
    }
    first.ok_or_else(|| FleetError::Refused("there are no roles".to_owned()))
}

struct Plan {
    /// Places below the repository that are copied as they are.
    places: BTreeSet<String>,
    /// Targets that a device must find.
    targets: Vec<String>,
    told: Exported,
}

fn plan(desk: &Desk, latest: &Papers, packages: &BTreeSet<String>) -> Done<Plan> {
    let mut plan = Plan {
        places: BTreeSet::new(),
        targets: Vec::new(),
        told: Exported {
            packages: packages.iter().cloned().collect(),
            objects: 0,
            bytes: 0,
            until: String::new(),
            notes: Vec::new(),
        },
    };
    for role in latest.targets_roles() {
        for (path, file) in latest.targets(role)?.targets {
            let is_package = Post::of(role) == Some(Post::Packages);
            if is_package && !packages.contains(&path) {
                continue;
            }
            plan.places
                .insert(target_place(&path, digest_of(&path, &file)?));
            if is_package {
                for object in objects(&manifest(desk, &path, &file)?) {
                    if plan.places.insert(object_path(object.sha256())) {
                        plan.told.objects += 1;
                        plan.told.bytes += object.bytes();
                    }
                }
            }
            plan.targets.push(path);
        }
    }
    for ring in rings::all(desk)?.values() {
        if !packages.contains(&ring.package_target()) {
            plan.told.notes.push(format!(
                "ring {} runs {}-{}, which does not go along: its devices get nothing from this stick",
                ring.ring, ring.package, ring.seq
            ));
        }
    }
    Ok(plan)
}

/// Objects first, the timestamp last: a stick that is pulled too early offers nothing, or the old.
fn copy(desk: &Desk, latest: &Papers, to: &Path, plan: &Plan) -> Done<()> {
    let from = desk.repository();
    if from == to || to.starts_with(from) {
        return usage(format!("{}: that is the repository itself", to.display()));
    }
    let foreign = to.exists()
        && !to.join(METADATA).exists()
        && fs::read_dir(to).is_ok_and(|mut it| it.next().is_some());
    if foreign {
        return refused(format!(
            "{}: has other things in it: name a folder of its own",
            to.display()
        ));
    }
    for place in &plan.places {
        if !same_length(&from.join(place), &to.join(place)) {
            disk::place(&from.join(place), &to.join(place))?;
        }
    }
    let (metadata, target) = (from.join(METADATA), to.join(METADATA));
    for version in 1..=latest.root()?.version {
        let name = versioned(version, "root");
        if metadata.join(&name).exists() {
            disk::place(&metadata.join(&name), &target.join(&name))?;
        }
    }
    for role in latest.0.keys() {
        if matches!(Post::of(role), Some(Post::Root | Post::Timestamp)) {
            continue;
        }
        let name = versioned(latest.head(role)?.0, role);
        match desk.staged().0.get(role) {
            Some(draft) => disk::write(&target.join(&name), &draft.to_bytes())?,
            None => disk::place(&metadata.join(&name), &target.join(&name))?,
        }
    }
    let name = timestamp_file();
    match desk.staged().0.get(Post::Timestamp.name()) {
        Some(draft) => disk::write(&target.join(&name), &draft.to_bytes()),
        None => disk::place(&metadata.join(&name), &target.join(&name)),
    }
}

/// An object of the right length is the same: its name is its digest, and `verify` hashes it.
fn same_length(from: &Path, to: &Path) -> bool {
    let length = |path: &Path| fs::metadata(path).ok().map(|about| about.len());
    length(to).is_some() && length(from) == length(to)
}

/// A device that has the first root only finds everything on it.
fn hold(desk: &Desk, latest: &Papers, to: &Path, plan: &Plan) -> Done<()> {
    let folder = to.join(METADATA);
    let over = BTreeMap::new();
    let shown = Shown {
        folder: &folder,
        over: &over,
    };
    let wrong = |error: &dyn std::fmt::Display| {
        FleetError::Refused(format!(
            "{}: a device would refuse it: {error}",
            to.display()
        ))
    };
    let anchor = desk.anchor().unwrap_or_default();
    let mut device = Device::new(&anchor).map_err(|error| wrong(&error))?;
    let seen = device
        .refresh(desk.now(), shown)
        .map_err(|error| wrong(&error))?;
    if seen.timestamp != latest.timestamp()?.version {
        return Err(wrong(&"it has another timestamp"));
    }
    for path in &plan.targets {
        let found = device.find(path, shown).map_err(|error| wrong(&error))?;
        if found.is_none() {
            return Err(wrong(&format!("it does not find {path}")));
        }
    }
    Ok(())
}
