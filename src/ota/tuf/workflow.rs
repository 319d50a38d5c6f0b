//! The order of the specification's section 5, with the disk and the transport.
//!
//! Each role goes the same way: what is stored is tried first, then what the repository has; what
//! passes raises the floors, and only then is stored. So after a power cut at any point the floors
//! are at least as high as the files, and a file that they no longer allow is fetched again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use super::checks::{self, Authority};
use super::metadata::{Delegation, Kind, MetaFile, Root, Signed, Snapshot, Targets, Timestamp};
use super::{Client, FetchError, Target, Transport, TufError, quoted, root_path, stored_path};
use crate::clock::Wall;
use crate::ota::disk::{self, BESIDE, Disk};

/// One consistent state of the repository: a snapshot, and the targets roles read so far.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) snapshot: Snapshot,
    /// None where expiry does not count.
    time: Option<Wall>,
    roles: BTreeMap<String, Signed<Targets>>,
}

impl Session {
    pub(super) fn new(snapshot: Snapshot, time: Option<Wall>) -> Self {
        Self {
            snapshot,
            time,
            roles: BTreeMap::new(),
        }
    }
}

/// A role that a search has still to visit.
struct Visit {
    role: String,
    /// Who delegates to it; the root delegates to the top role.
    delegator: Option<String>,
    depth: usize,
}

impl<D: Disk> Client<D> {
    /// 5.2: the chain of roots, as far as it is stored and holds.
    pub(super) fn follow_history(&mut self) {
        while let Some(next) = self.root.version.checked_add(1) {
            let stored = self.read_stored(&root_path(next), self.limits.root_bytes);
            match stored.map(|bytes| checks::next_root(&self.root, &bytes)) {
                Some(Ok(root)) => self.root = root,
                Some(Err(_)) | None => break,
            }
        }
    }

    /// The floors are lost: they begin at what the verified files say.
    pub(super) fn read_floors_from_files(&mut self) -> Result<(), TufError> {
        let root = self.root.version;
        let timestamp = self.stored_timestamp();
        let snapshot = timestamp.as_ref().and_then(|timestamp| {
            let described = timestamp.snapshot();
            self.stored_snapshot(described)
        });
        Ok(self.book.change(|floors| {
            floors.saw_root(root);
            if let Some(timestamp) = timestamp {
                floors.saw_timestamp(timestamp.version, timestamp.snapshot().version);
            }
            if let Some(snapshot) = snapshot {
                floors.saw_roles(snapshot.roles());
            }
        })?)
    }

    /// 5.3: the root.
    pub(super) fn update_root(
        &mut self,
        time: Wall,
        transport: &mut dyn Transport,
    ) -> Result<(), TufError> {
        for _ in 0..self.limits.root_chain {
            // 5.3.2, 5.3.3: the next version, until there is none.
            let Some(next) = self.root.version.checked_add(1) else {
                return self.final_root(time);
            };
            let file = format!("{next}.{}.json", Kind::Root.name());
            match fetch(transport, &file, self.limits.root_bytes) {
                Ok(bytes) => {
                    // 5.3.4 to 5.3.7.
                    let root = checks::next_root(&self.root, &bytes)?;
                    self.accept_root(root, &bytes)?;
                }
                Err(TufError::Fetch {
                    error: FetchError::NotThere,
                    ..
                }) => return self.final_root(time),
                Err(error) => return Err(error),
            }
            // 5.3.9: again.
        }
        Err(TufError::Limit {
            what: "new versions of the root at once",
            limit: usize::try_from(self.limits.root_chain).unwrap_or(usize::MAX),
        })
    }

    /// 5.3.8: stores a root, and 5.3.11 where it takes a key away. The specification has 5.3.11
    /// after the last root; here it is part of the step that takes the key, so that floors and root
    /// are one record. A root that was seen before has been through this already, and must not
    /// lower the floors again.
    fn accept_root(&mut self, root: Root, bytes: &[u8]) -> Result<(), TufError> {
        let version = root.version;
        let is_new = version > self.book.floors().root;
        let forgets = is_new && checks::takes_a_key(&self.root, &root);
        if forgets {
            // First the files: were the floors first, a power cut in between would leave files
            // behind that raise them again.
            for kind in [Kind::Timestamp, Kind::Snapshot] {
                let path = stored_path(kind.name());
                disk::remove(&mut self.disk, &path)
                    .map_err(|error| TufError::Disk { path, error })?;
            }
        }
        self.book.change(|floors| {
            if forgets {
                floors.forget_versions();
            }
            floors.saw_root(version);
        })?;
        self.store(root_path(version), bytes)?;
        self.root = root;
        Ok(())
    }

    /// The chain has ended: with no older root than before, and 5.3.10, with one that is good.
    fn final_root(&self, time: Wall) -> Result<(), TufError> {
        let floor = self.book.floors().root;
        if self.root.version < floor {
            return Err(TufError::Rollback {
                role: Kind::Root.name().to_owned(),
                offered: self.root.version,
                floor,
            });
        }
        checks::fresh(Kind::Root.name(), self.root.expires, time)
    }

    /// 5.4: the timestamp.
    pub(super) fn update_timestamp(
        &mut self,
        clock: Wall,
        time: Wall,
        transport: &mut dyn Transport,
    ) -> Result<Timestamp, TufError> {
        let name = Kind::Timestamp.name();
        let held = self.stored_timestamp();
        // 5.4.1: at most so many bytes.
        let file = format!("{name}.json");
        let bytes = fetch(transport, &file, self.limits.timestamp_bytes)?;
        // 5.4.2, 5.4.3.
        let offered = checks::timestamp(&self.root, self.book.floors(), &bytes)?;
        // 5.4.3.1: the same version is no news, whatever else it says.
        let (timestamp, is_new) = match held {
            Some(held) if held.version == offered.version => (held, false),
            Some(_) | None => (offered, true),
        };
        // The clock is believed as far as signatures reach, the root's included: whoever has the
        // timestamp's key alone cannot move the floor of time beyond that.
        let vouched = timestamp.expires.min(self.root.expires).moment();
        self.book.change(|floors| floors.saw_time(clock, vouched))?;
        // 5.4.4: not expired.
        checks::fresh(name, timestamp.expires, time)?;
        if is_new {
            let snapshot = timestamp.snapshot().version;
            self.book
                .change(|floors| floors.saw_timestamp(timestamp.version, snapshot))?;
            // 5.4.5.
            self.store(stored_path(name), &bytes)?;
        }
        Ok(timestamp)
    }

    /// 5.5: the snapshot.
    pub(super) fn update_snapshot(
        &mut self,
        timestamp: &Timestamp,
        time: Wall,
        transport: &mut dyn Transport,
    ) -> Result<Snapshot, TufError> {
        let name = Kind::Snapshot.name();
        let described = timestamp.snapshot();
        let stored = self.stored_snapshot(described);
        let (snapshot, fetched) = if let Some(snapshot) = stored {
            (snapshot, None)
        } else {
            // 5.5.1: at most so many bytes.
            let bytes =
                self.fetch_described(name, described, self.limits.snapshot_bytes, transport)?;
            // 5.5.2 to 5.5.5.
            let snapshot = self.check_snapshot(described, &bytes)?;
            (snapshot, Some(bytes))
        };
        // 5.5.6.
        checks::fresh(name, snapshot.expires, time)?;
        if let Some(bytes) = fetched {
            self.book
                .change(|floors| floors.saw_roles(snapshot.roles()))?;
            // 5.5.7.
            self.store(stored_path(name), &bytes)?;
        }
        Ok(snapshot)
    }

    /// 5.6: the top targets role; its version.
    pub(super) fn top_targets(
        &mut self,
        session: &mut Session,
        transport: &mut dyn Transport,
    ) -> Result<u64, TufError> {
        let top = Visit {
            role: Kind::Targets.name().to_owned(),
            delegator: None,
            depth: 0,
        };
        Ok(self.visit(session, &top, transport)?.version)
    }

    /// 5.6.7: looks for a target, depth first, the delegations in their order.
    pub(super) fn search(
        &mut self,
        session: &mut Session,
        path: &str,
        transport: &mut dyn Transport,
    ) -> Result<Option<Target>, TufError> {
        let mut open = vec![Visit {
            role: Kind::Targets.name().to_owned(),
            delegator: None,
            depth: 0,
        }];
        let mut visited = BTreeSet::new();
        while let Some(visit) = open.pop() {
            // 5.6.7.1: no role twice, and not without end.
            if visited.contains(&visit.role) {
                continue;
            }
            checks::within("roles in a search", visited.len() + 1, self.limits.visits)?;
            checks::within("delegations in each other", visit.depth, self.limits.depth)?;
            let targets = self.visit(session, &visit, transport)?;
            if let Some(file) = targets.targets.get(path) {
                let consistent = self.root.consistent_snapshot == Some(true);
                return target(path, file, consistent).map(Some);
            }
            // 5.6.7.2: those who may speak of the path, the first of them next.
            let mut next = Vec::new();
            for delegation in targets.delegations.iter().flat_map(|list| &list.roles) {
                if delegation.covers(path) {
                    next.push(Visit {
                        role: delegation.name.clone(),
                        delegator: Some(visit.role.clone()),
                        depth: visit.depth + 1,
                    });
                    // 5.6.7.2.1: after a terminating one nobody is asked, here or further up.
                    if delegation.terminating {
                        open.clear();
                        break;
                    }
                }
            }
            open.extend(next.into_iter().rev());
            visited.insert(visit.role);
        }
        Ok(None)
    }

    /// 5.6.1 to 5.6.6: one targets role, stored or fetched. A role that was read on another way
    /// through the delegations is held against this way's keys, too.
    fn visit<'a>(
        &mut self,
        session: &'a mut Session,
        visit: &Visit,
        transport: &mut dyn Transport,
    ) -> Result<&'a Targets, TufError> {
        let name = &visit.role;
        let delegator = match &visit.delegator {
            None => None,
            Some(delegator) => {
                let document = session.roles.get(delegator);
                Some(&document.expect("who delegates has been visited").content)
            }
        };
        let authority = match delegator {
            None => Authority::of(&self.root, Kind::Targets),
            Some(delegator) => delegated(delegator, name),
        };
        if let Some(document) = session.roles.get(name) {
            authority.signed(document)?;
        } else {
            let not_listed = || TufError::NotListed { role: name.clone() };
            let described = session.snapshot.role(name).ok_or_else(not_listed)?;
            let limit = self.limits.targets_bytes;
            let path = stored_path(name);
            let stored = (self.disk.read(&path, limit).ok().flatten()).and_then(|bytes| {
                checks::targets(&authority, described, &self.limits, &bytes).ok()
            });
            let (document, fetched) = if let Some(document) = stored {
                (document, None)
            } else {
                // 5.6.1: at most so many bytes.
                let bytes = self.fetch_described(name, described, limit, transport)?;
                // 5.6.2 to 5.6.4.
                let document = checks::targets(&authority, described, &self.limits, &bytes)?;
                (document, Some(bytes))
            };
            // 5.6.5.
            if let Some(time) = session.time {
                checks::fresh(name, document.content.expires, time)?;
            }
            if let Some(bytes) = fetched {
                // 5.6.6.
                self.store(path, &bytes)?;
            }
            session.roles.insert(name.clone(), document);
        }
        let document = session.roles.get(name);
        Ok(&document
            .expect("it was there or was just put there")
            .content)
    }

    /// What is stored, as one state.
    pub(super) fn stored_session(&mut self) -> Result<Session, TufError> {
        let nothing = |kind: Kind| TufError::Fetch {
            file: stored_path(kind.name()),
            error: FetchError::NotThere,
        };
        let timestamp = self
            .stored_timestamp()
            .ok_or_else(|| nothing(Kind::Timestamp))?;
        let snapshot = self
            .stored_snapshot(timestamp.snapshot())
            .ok_or_else(|| nothing(Kind::Snapshot))?;
        Ok(Session::new(snapshot, None))
    }

    /// Files of roles that the snapshot no longer lists, and what a power cut left half written.
    pub(super) fn prune(&mut self, snapshot: &Snapshot) -> Result<(), TufError> {
        let listed: BTreeSet<String> = [Kind::Timestamp.name(), Kind::Snapshot.name()]
            .into_iter()
            .chain(snapshot.roles().map(|(role, _)| role))
            .map(|role| format!("{}.json", quoted(role)))
            .collect();
        let failed = |error| TufError::Disk {
            path: TRUST.to_owned(),
            error,
        };
        let names = self.disk.list(TRUST).map_err(failed)?;
        let is_metadata = |name: &str| name.rsplit_once('.').is_some_and(|(_, end)| end == "json");
        let ours = |name: &&String| is_metadata(name) || name.ends_with(BESIDE);
        for name in names.iter().filter(ours) {
            if !listed.contains(name) {
                let path = format!("{TRUST}/{name}");
                disk::remove(&mut self.disk, &path).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn stored_timestamp(&mut self) -> Option<Timestamp> {
        let path = stored_path(Kind::Timestamp.name());
        let bytes = self.read_stored(&path, self.limits.timestamp_bytes)?;
        checks::timestamp(&self.root, self.book.floors(), &bytes).ok()
    }

    fn stored_snapshot(&mut self, described: &MetaFile) -> Option<Snapshot> {
        let path = stored_path(Kind::Snapshot.name());
        let bytes = self.read_stored(&path, self.limits.snapshot_bytes)?;
        self.check_snapshot(described, &bytes).ok()
    }

    fn check_snapshot(&self, described: &MetaFile, bytes: &[u8]) -> Result<Snapshot, TufError> {
        checks::snapshot(
            &self.root,
            described,
            self.book.floors(),
            &self.limits,
            bytes,
        )
    }

    /// A stored file. One that cannot be read is as good as absent: the repository has it.
    fn read_stored(&mut self, path: &str, limit_bytes: u64) -> Option<Vec<u8>> {
        self.disk.read(path, limit_bytes).ok().flatten()
    }

    fn store(&mut self, path: String, bytes: &[u8]) -> Result<(), TufError> {
        disk::replace(&mut self.disk, &path, bytes).map_err(|error| TufError::Disk { path, error })
    }

    /// A file that another one describes; its name carries the version where the repository keeps
    /// several.
    fn fetch_described(
        &self,
        role: &str,
        described: &MetaFile,
        limit_bytes: u64,
        transport: &mut dyn Transport,
    ) -> Result<Vec<u8>, TufError> {
        let name = quoted(role);
        let file = if self.root.consistent_snapshot == Some(true) {
            format!("{}.{name}.json", described.version)
        } else {
            format!("{name}.json")
        };
        let limit_bytes = limit_bytes.min(described.length.unwrap_or(limit_bytes));
        fetch(transport, &file, limit_bytes)
    }
}

const TRUST: &str = "trust";

/// Who must sign a role that another one delegates to.
fn delegated<'a>(delegator: &'a Targets, name: &'a str) -> Authority<'a> {
    let list = delegator.delegations.as_ref();
    let list = list.expect("a role is visited because another one delegates to it");
    let by_name = |delegation: &&Delegation| delegation.name == name;
    let delegation = list.roles.iter().find(by_name);
    let delegation = delegation.expect("the search took the name from this list");
    Authority {
        role: &delegation.name,
        keyids: &delegation.keyids,
        threshold: delegation.threshold,
        keys: &list.keys,
    }
}

fn target(
    path: &str,
    found: &super::metadata::TargetFile,
    consistent: bool,
) -> Result<Target, TufError> {
    let hash = checks::known_hash(&found.hashes);
    let hash = hash.ok_or_else(|| TufError::NoKnownHash {
        path: path.to_owned(),
    })?;
    let file = match (consistent, path.rsplit_once('/')) {
        (true, Some((folder, name))) => format!("{folder}/{hash}.{name}"),
        (true, None) => format!("{hash}.{path}"),
        (false, _) => path.to_owned(),
    };
    Ok(Target {
        path: path.to_owned(),
        file,
        length: found.length,
        hashes: found.hashes.clone(),
        custom: found.custom.clone(),
    })
}

/// One file, whole, if it ends in time.
fn fetch(transport: &mut dyn Transport, file: &str, limit_bytes: u64) -> Result<Vec<u8>, TufError> {
    let failed = |error| TufError::Fetch {
        file: file.to_owned(),
        error,
    };
    let reader = transport.open(file).map_err(failed)?;
    let mut bytes = Vec::new();
    reader
        .take(limit_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| failed(error.into()))?;
    if bytes.len() as u64 > limit_bytes {
        return Err(TufError::TooLong {
            file: file.to_owned(),
            limit_bytes,
        });
    }
    Ok(bytes)
}
