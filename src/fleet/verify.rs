//! Everything that can be wrong with a repository, found at once: signatures of every role and every
//! root, hashes of every file and object, expiry, and whether a device finds what it should.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::desk::target_place;
use super::disk;
use super::fault::Done;
use super::papers::{METADATA, Papers, State, versioned};
use super::post::Post;
use super::publish::{digest_of, objects};
use super::view::{Device, Shown};
use crate::clock::Wall;
use crate::ota::manifest::{MAX_MANIFEST_BYTES, Manifest};
use crate::ota::release;
use crate::ota::rollout::{MAX_ROLLOUT_BYTES, Rollout};
use crate::ota::store::object_path;
use crate::ota::tuf::Target;
use crate::ota::tuf::draft::Draft;
use crate::ota::tuf::metadata::{Kind, Root, TargetFile};

/// What was looked at, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// Roots in the chain.
    pub roots: u64,
    /// Roles whose signatures were checked.
    pub roles: Vec<String>,
    /// Targets whose bytes were hashed.
    pub targets: usize,
    /// Objects whose bytes were hashed.
    pub objects: usize,
    /// Bytes of all objects.
    pub object_bytes: u64,
    /// Packages of which nothing is here, where that may be.
    pub absent: Vec<String>,
    /// Everything that is wrong.
    pub faults: Vec<String>,
}

/// Whether every package must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// It must.
    Everything,
    /// This is a stick that some did not go along on.
    Partly,
}

/// Looks at everything. `at` is the moment for which expiry counts.
pub fn verify(repository: &Path, anchor: Option<Vec<u8>>, at: Wall, whole: Whole) -> Done<Report> {
    let mut report = Report::default();
    let state = match State::read(repository, anchor) {
        Ok(state) => state,
        Err(super::fault::FleetError::Refused(why)) => {
            report.faults.push(why);
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    let mut looking = Looking {
        repository,
        papers: &state.papers,
        whole,
        objects: BTreeSet::new(),
        report,
    };
    looking.roots(&state.anchor)?;
    looking.expiry(at)?;
    looking.device(&state.anchor, at)?;
    looking.targets()?;
    let mut report = looking.report;
    report.ok = report.faults.is_empty();
    Ok(report)
}

struct Looking<'a> {
    repository: &'a Path,
    papers: &'a Papers,
    whole: Whole,
    objects: BTreeSet<String>,
    report: Report,
}

impl Looking<'_> {
    fn fault(&mut self, what: impl Into<String>) {
        self.report.faults.push(what.into());
    }

    /// Every root is signed by itself and by the one before it. The client followed them; here each
    /// is named.
    fn roots(&mut self, anchor: &[u8]) -> Done<()> {
        let folder = self.repository.join(METADATA);
        let root = self.papers.root()?;
        let first = Draft::parse(anchor).and_then(|it| it.content::<Root>());
        let first = first.map_or(1, |it| it.version);
        self.report.roots = root.version + 1 - first.min(root.version);
        // Devices in the field may still have any root since the first.
        for version in 1..=root.version {
            if !folder.join(versioned(version, "root")).exists() {
                self.fault(format!(
                    "{METADATA}/{}: not there: a device with an older root could not follow",
                    versioned(version, "root")
                ));
            }
        }
        Ok(())
    }

    fn expiry(&mut self, at: Wall) -> Done<()> {
        for role in self.papers.0.keys() {
            let (_, expires) = self.papers.head(role)?;
            if expires.has_passed(at) {
                self.report
                    .faults
                    .push(format!("{role}: expired at {expires}"));
            }
            self.report.roles.push(role.clone());
        }
        Ok(())
    }

    /// What a device finds that has the first root only.
    fn device(&mut self, anchor: &[u8], at: Wall) -> Done<()> {
        let folder = self.repository.join(METADATA);
        let over = BTreeMap::new();
        let shown = Shown {
            folder: &folder,
            over: &over,
        };
        let mut device = match Device::new(anchor) {
            Ok(device) => device,
            Err(error) => {
                self.fault(format!("a device: {error}"));
                return Ok(());
            }
        };
        if let Err(error) = device.refresh(at, shown) {
            self.fault(format!("a device would refuse it: {error}"));
            return Ok(());
        }
        for role in self.papers.targets_roles() {
            for (path, file) in self.papers.targets(role)?.targets {
                let same =
                    |target: &Target| target.length == file.length && target.hashes == file.hashes;
                match device.find(&path, shown) {
                    Ok(Some(target)) if same(&target) => {}
                    Ok(Some(_)) => {
                        self.fault(format!(
                            "{path}: {role} is not the role that devices ask for it"
                        ));
                    }
                    Ok(None) => self.fault(format!("{path}: {role} may not speak of it")),
                    Err(error) => self.fault(format!("{path}: a device: {error}")),
                }
            }
        }
        Ok(())
    }

    /// The bytes of everything.
    fn targets(&mut self) -> Done<()> {
        let mut packages = BTreeSet::new();
        let mut rings = Vec::new();
        for role in self.papers.targets_roles() {
            for (path, file) in self.papers.targets(role)?.targets {
                if self.whole == Whole::Partly
                    && Post::of(role) == Some(Post::Packages)
                    && !(self.repository)
                        .join(target_place(&path, digest_of(&path, &file)?))
                        .exists()
                {
                    packages.insert(path.clone());
                    self.report.absent.push(path);
                    continue;
                }
                self.report.targets += 1;
                let Some(bytes) = self.target(&path, &file) else {
                    continue;
                };
                if path.starts_with("rollout/") {
                    match Rollout::parse(&bytes) {
                        Ok(ring) if Rollout::target_of(&ring.ring) == path => rings.push(ring),
                        Ok(ring) => self.fault(format!("{path}: it is of ring {}", ring.ring)),
                        Err(error) => self.fault(format!("{path}: {error}")),
                    }
                } else if Post::of(role) == Some(Post::Packages) {
                    match Manifest::parse(&bytes) {
                        Ok(manifest) if manifest.target_name() == path => {
                            packages.insert(path);
                            self.package(&manifest);
                        }
                        Ok(manifest) => {
                            self.fault(format!("{path}: it is {}", manifest.target_name()));
                        }
                        Err(error) => self.fault(format!("{path}: {error}")),
                    }
                }
            }
        }
        for ring in rings {
            if !packages.contains(&ring.package_target()) {
                self.fault(format!(
                    "ring {}: package {}-{} is not here",
                    ring.ring, ring.package, ring.seq
                ));
            }
        }
        Ok(())
    }

    /// A target's bytes, if they are those that were signed for.
    fn target(&mut self, path: &str, file: &TargetFile) -> Option<Vec<u8>> {
        let place = match digest_of(path, file) {
            Ok(sha256) => target_place(path, sha256),
            Err(error) => {
                self.fault(error.to_string());
                return None;
            }
        };
        let limit_bytes = MAX_MANIFEST_BYTES.max(MAX_ROLLOUT_BYTES).max(file.length);
        let bytes = match disk::bytes(&self.repository.join(&place), limit_bytes) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.fault(error.to_string());
                return None;
            }
        };
        let target = Target {
            path: path.to_owned(),
            file: place.clone(),
            length: file.length,
            hashes: file.hashes.clone(),
            custom: None,
        };
        if target.is(&bytes) {
            Some(bytes)
        } else {
            self.fault(format!(
                "{place}: its bytes are not those that were signed for"
            ));
            None
        }
    }

    fn package(&mut self, manifest: &Manifest) {
        for object in objects(manifest) {
            let place = object_path(object.sha256());
            if !self.objects.insert(place.clone()) {
                continue;
            }
            self.report.objects += 1;
            self.report.object_bytes += object.bytes();
            let path = self.repository.join(&place);
            match release::cut(&path, object.chunk_bytes()) {
                Ok(found) if found == *object => {}
                Ok(_) => self.fault(format!(
                    "{place}: its bytes are not what the manifest of {} says",
                    manifest.target_name()
                )),
                Err(error) => self.fault(format!("{place}: {error}")),
            }
        }
    }
}

/// A role and how long its word is good yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Term {
    /// Which.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// Until when.
    pub expires: String,
    /// Whole days from now; negative where it has passed.
    pub days: i64,
    /// Signatures that it takes.
    pub threshold: u64,
    /// The ids of those who may give them.
    pub keys: Vec<String>,
}

/// All roles, in the order in which they are signed; those of others last.
pub fn terms(papers: &Papers, now: Wall) -> Done<Vec<Term>> {
    let posts = Post::ALL.into_iter().map(Post::name);
    let known: Vec<&str> = posts.filter(|role| papers.0.contains_key(*role)).collect();
    let others = papers.0.keys().map(String::as_str);
    let others = others.filter(|role| !known.contains(role));
    let mut terms = Vec::new();
    for role in known.iter().copied().chain(others) {
        let (version, expires) = papers.head(role)?;
        let circle = papers.circle(role)?;
        terms.push(Term {
            role: role.to_owned(),
            version,
            expires: expires.to_string(),
            days: days_until(expires.moment(), now),
            threshold: circle.threshold,
            keys: circle.keyids,
        });
    }
    Ok(terms)
}

fn days_until(at: Wall, now: Wall) -> i64 {
    let days = |ms: u64| i64::try_from(ms / crate::clock::DAY_MS).unwrap_or(i64::MAX);
    if at >= now {
        days(at.0 - now.0)
    } else {
        -1 - days(now.0 - at.0)
    }
}

/// Whether a role is one that people are told of: a fifth of its term or less is left.
pub fn is_soon(term: &Term, usual_days: u32) -> bool {
    term.days * 5 <= i64::from(usual_days)
}

/// Whether this kind of role is renewed by machines.
pub fn is_automatic(role: &str) -> bool {
    matches!(
        Post::of(role).map(Post::kind),
        Some(Kind::Snapshot | Kind::Timestamp)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::DAY_MS;

    #[test]
    fn days_are_counted_down_and_past_the_end() {
        let now = Wall(100 * DAY_MS);
        assert_eq!(days_until(Wall(107 * DAY_MS), now), 7);
        assert_eq!(days_until(Wall(101 * DAY_MS - 1), now), 0);
        assert_eq!(days_until(now, now), 0);
        assert_eq!(days_until(Wall(100 * DAY_MS - 1), now), -1);
        assert_eq!(days_until(Wall(98 * DAY_MS), now), -3);
    }
}
