//! A repository in memory that signs what it publishes, and can be made to lie.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::rc::Rc;
use std::time::Duration;

use crate::clock::{DAY_MS, Wall};
use crate::ota::disk::Disk;
use crate::ota::floor::Book;
use crate::ota::tuf::metadata::{Delegation, Kind, MetaFile, Root, Snapshot, Targets, Timestamp};
use crate::ota::tuf::write::{Signer, Then, describe, sign, target_file};
use crate::ota::tuf::{Client, Expiry, FetchError, Limits, Transport};

/// 1 December 2026.
pub(crate) const NOW: Wall = Wall(1_796_083_200_000);

pub(crate) fn days(from: Wall, days: u32) -> Wall {
    from.after(Duration::from_millis(DAY_MS) * days)
}

/// Whether descriptions of metadata files carry length and hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Describe {
    Fully,
    VersionOnly,
}

pub(crate) struct Repository {
    pub(crate) signers: Vec<Rc<Signer>>,
    /// Who signs what is published, by roles; not who should.
    pub(crate) hands: BTreeMap<String, Vec<usize>>,
    pub(crate) root: Root,
    pub(crate) timestamp: Timestamp,
    pub(crate) snapshot: Snapshot,
    pub(crate) roles: BTreeMap<String, Targets>,
    pub(crate) describe: Describe,
    /// What is there to fetch.
    pub(crate) files: Shelf,
}

/// What a repository has lying there.
#[derive(Clone, Default)]
pub(crate) struct Shelf {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// A file that never ends.
    pub(crate) endless: Option<String>,
    /// What was asked for.
    pub(crate) asked: Rc<RefCell<Vec<String>>>,
}

impl Transport for Shelf {
    fn open(&mut self, file: &str) -> Result<Box<dyn Read + '_>, FetchError> {
        self.asked.borrow_mut().push(file.to_owned());
        if self.endless.as_deref() == Some(file) {
            return Ok(Box::new(io::repeat(b' ')));
        }
        match self.files.get(file) {
            Some(bytes) => Ok(Box::new(Cursor::new(bytes))),
            None => Err(FetchError::NotThere),
        }
    }
}

pub(crate) const TARGETS: &str = "targets";
/// A target of the top role.
pub(crate) const FILE: &str = "triage-1.json";

impl Repository {
    /// One key for each role (root 0, timestamp 1, snapshot 2, targets 3), version 1 of each, and
    /// one target.
    pub(crate) fn new() -> Self {
        let mut repository = Self {
            signers: Vec::new(),
            hands: BTreeMap::new(),
            root: Root::new(1, Expiry::at(days(NOW, 365))),
            timestamp: Timestamp::new(0, Expiry::at(days(NOW, 7)), describe(1, b"")),
            snapshot: Snapshot::new(0, Expiry::at(days(NOW, 30))),
            roles: BTreeMap::new(),
            describe: Describe::Fully,
            files: Shelf::default(),
        };
        let kinds = [Kind::Root, Kind::Timestamp, Kind::Snapshot, Kind::Targets];
        for (n, kind) in kinds.into_iter().enumerate() {
            repository.signer();
            repository.entrust(kind, 1, &[n]);
        }
        repository.sign_root();
        let targets = Targets::new(0, Expiry::at(days(NOW, 90)));
        repository.roles.insert(TARGETS.to_owned(), targets);
        repository.put(TARGETS, FILE, b"one");
        repository.publish();
        repository
    }

    /// A new key; its number.
    pub(crate) fn signer(&mut self) -> usize {
        let (signer, _) = Signer::generate().unwrap();
        self.signers.push(Rc::new(signer));
        self.signers.len() - 1
    }

    pub(crate) fn picked(&self, numbers: &[usize]) -> Vec<Rc<Signer>> {
        numbers.iter().map(|&n| self.signers[n].clone()).collect()
    }

    /// These keys are to sign for a role, and do.
    pub(crate) fn entrust(&mut self, kind: Kind, threshold: u64, numbers: &[usize]) {
        let picked = self.picked(numbers);
        let signers: Vec<&Signer> = picked.iter().map(|signer| &**signer).collect();
        self.root.entrust(kind, threshold, &signers);
        self.hands.insert(kind.name().to_owned(), numbers.to_vec());
    }

    pub(crate) fn signed<T: crate::ota::tuf::metadata::Role>(
        &self,
        role: &str,
        content: &T,
    ) -> Vec<u8> {
        let picked = self.picked(&self.hands[role]);
        let signers: Vec<&Signer> = picked.iter().map(|signer| &**signer).collect();
        sign(content, &signers).unwrap()
    }

    fn consistent(&self) -> bool {
        self.root.consistent_snapshot == Some(true)
    }

    fn lay(&mut self, version: u64, role: &str, bytes: &[u8]) {
        let name = if self.consistent() {
            format!("{version}.{role}.json")
        } else {
            format!("{role}.json")
        };
        self.files.files.insert(name, bytes.to_vec());
    }

    fn described(&self, version: u64, bytes: &[u8]) -> MetaFile {
        let full = describe(version, bytes);
        match self.describe {
            Describe::Fully => full,
            Describe::VersionOnly => MetaFile {
                length: None,
                hashes: None,
                ..full
            },
        }
    }

    /// Signs the root again as it is.
    pub(crate) fn sign_root(&mut self) {
        let bytes = self.signed("root", &self.root);
        let name = format!("{}.root.json", self.root.version);
        self.files.files.insert(name, bytes);
    }

    /// The next version of the root; the old keys sign, too.
    pub(crate) fn publish_root(&mut self, old_hands: &[usize]) {
        self.root.version += 1;
        let hands = self.hands.get_mut("root").unwrap();
        let new_hands = hands.clone();
        hands.extend(old_hands.iter().filter(|n| !new_hands.contains(n)));
        self.sign_root();
        self.hands.insert("root".to_owned(), new_hands);
    }

    pub(crate) fn publish_role(&mut self, role: &str) {
        let targets = self.roles.get_mut(role).unwrap();
        targets.version += 1;
        let targets = &self.roles[role];
        let (version, bytes) = (targets.version, self.signed(role, targets));
        self.lay(version, role, &bytes);
        let described = self.described(version, &bytes);
        self.snapshot.list(role, described);
    }

    pub(crate) fn publish_snapshot(&mut self) {
        self.snapshot.version += 1;
        self.sign_snapshot();
    }

    /// Signs the snapshot as it is, and names it in the timestamp.
    pub(crate) fn sign_snapshot(&mut self) {
        let bytes = self.signed("snapshot", &self.snapshot);
        let version = self.snapshot.version;
        self.lay(version, "snapshot", &bytes);
        let described = self.described(version, &bytes);
        self.timestamp
            .meta
            .insert("snapshot.json".to_owned(), described);
    }

    pub(crate) fn publish_timestamp(&mut self) {
        self.timestamp.version += 1;
        self.sign_timestamp();
    }

    pub(crate) fn sign_timestamp(&mut self) {
        let bytes = self.signed("timestamp", &self.timestamp);
        self.files.files.insert("timestamp.json".to_owned(), bytes);
    }

    /// The next version of everything but the root.
    pub(crate) fn publish(&mut self) {
        let roles: Vec<String> = self.roles.keys().cloned().collect();
        for role in roles {
            self.publish_role(&role);
        }
        self.publish_snapshot();
        self.publish_timestamp();
    }

    /// A target, not yet published.
    pub(crate) fn put(&mut self, role: &str, path: &str, content: &[u8]) {
        let file = target_file(content, None);
        let targets = &mut self.roles.get_mut(role).unwrap().targets;
        targets.insert(path.to_owned(), file);
    }

    /// A new role with a key of its own, delegated to, not yet published.
    pub(crate) fn delegate(&mut self, from: &str, to: &str, patterns: &[&str], then: Then) {
        let key = self.signer();
        self.delegate_by(from, to, patterns, then, key);
    }

    /// The same with a key that is there.
    pub(crate) fn delegate_by(
        &mut self,
        from: &str,
        to: &str,
        patterns: &[&str],
        then: Then,
        key: usize,
    ) {
        let picked = self.picked(&[key]);
        let signers: Vec<&Signer> = picked.iter().map(|signer| &**signer).collect();
        let delegation = Delegation::of_paths(to, patterns, 1, &signers, then);
        self.roles
            .get_mut(from)
            .unwrap()
            .delegate(delegation, &signers);
        self.hands.entry(to.to_owned()).or_insert(vec![key]);
        let expires = Expiry::at(days(NOW, 90));
        self.roles
            .entry(to.to_owned())
            .or_insert_with(|| Targets::new(0, expires));
    }

    pub(crate) fn anchor(&self) -> Vec<u8> {
        self.files.files["1.root.json"].clone()
    }

    /// A client of this repository on a disk.
    pub(crate) fn client<D: Disk + Clone>(&self, disk: &D) -> Client<D> {
        let book = Book::open(disk.clone()).unwrap();
        Client::open(disk.clone(), book, &self.anchor(), Limits::default()).unwrap()
    }
}
