//! Whoever publishes packages: one key for everything, as these tests are not about keys.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lineside::clock::Wall;
use lineside::ota::manifest::Manifest;
use lineside::ota::release::{lay_out, manifest_of, target_of};
use lineside::ota::rollout::Rollout;
use lineside::ota::tuf::Expiry;
use lineside::ota::tuf::metadata::{
    Delegation, Kind, MetaFile, Role, Root, Snapshot, Targets, Timestamp,
};
use lineside::ota::tuf::write::{Signer, Then, describe, sign, target_file};
use lineside::ota::update::Target;
use lineside::package::Package;

/// How long its signatures hold.
pub const HOLDS: Duration = Duration::from_hours(168);

/// A repository with the key that signs it.
#[derive(Debug)]
pub struct Publisher {
    root: PathBuf,
    signer: Signer,
    packages: Targets,
    rollout: Targets,
    version: u64,
    expires: Expiry,
}

impl Publisher {
    /// One in a folder, at this time.
    pub fn new(root: &Path, now: Wall) -> Self {
        let (signer, _) = Signer::generate().unwrap();
        let expires = Expiry::at(now.after(HOLDS));
        let publisher = Self {
            root: root.to_owned(),
            packages: Targets::new(1, expires),
            rollout: Targets::new(1, expires),
            signer,
            version: 0,
            expires,
        };
        let mut anchor = Root::new(1, expires);
        for kind in Kind::ALL {
            anchor.entrust(kind, 1, &[&publisher.signer]);
        }
        publisher.sign("1.root.json", &anchor);
        publisher
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What a device begins with.
    pub fn anchor(&self) -> PathBuf {
        self.root.join("metadata/1.root.json")
    }

    fn lay(&self, path: &str, bytes: &[u8]) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn sign<T: Role>(&self, name: &str, content: &T) -> Vec<u8> {
        let bytes = sign(content, &[&self.signer]).unwrap();
        self.lay(&format!("metadata/{name}"), &bytes);
        bytes
    }

    /// Adds a package, with chunks of this size.
    pub fn package(&mut self, package: &Package, chunk_bytes: u64) -> Manifest {
        let manifest = manifest_of(package, chunk_bytes).unwrap();
        lay_out(package, &manifest, &self.root).unwrap();
        self.vouch(&manifest, &manifest.target_name());
        manifest
    }

    /// Vouches for a manifest under this name.
    pub fn vouch(&mut self, manifest: &Manifest, name: &str) {
        let (target, text) = target_of(manifest);
        let file = target_file(text.as_bytes(), None);
        self.packages.targets.insert(name.to_owned(), file);
        let target = Target {
            path: name.to_owned(),
            ..target
        };
        self.lay(&target.paths()[0], text.as_bytes());
    }

    /// Says what a ring is to run.
    pub fn open(&mut self, ring: &str, rollout: &Rollout) {
        let text = rollout.to_json();
        let file = target_file(text.as_bytes(), None);
        let digest = file.hashes["sha256"].clone();
        let target = Rollout::target_of(ring);
        self.rollout.targets.insert(target, file);
        let place = format!("targets/rollout/{digest}.{ring}.json");
        self.lay(&place, text.as_bytes());
    }

    /// Signs all of it anew.
    pub fn publish(&mut self) {
        self.version += 1;
        let version = self.version;
        let numbered = |role: &str| format!("{version}.{role}.json");
        let mut snapshot = Snapshot::new(version, self.expires);
        for (role, content) in [("packages", &self.packages), ("rollout", &self.rollout)] {
            let content = Targets {
                version,
                ..content.clone()
            };
            let file = self.sign(&numbered(role), &content);
            snapshot.list(role, describe(version, &file));
        }
        let mut targets = Targets::new(version, self.expires);
        let by = [&self.signer];
        for (role, pattern) in [("rollout", "rollout/*.json"), ("packages", "*.json")] {
            let delegation = Delegation::of_paths(role, &[pattern], 1, &by, Then::Stop);
            targets.delegate(delegation, &by);
        }
        let file = self.sign(&numbered("targets"), &targets);
        snapshot.list("targets", describe(version, &file));
        let file = self.sign(&numbered("snapshot"), &snapshot);
        self.stamp(describe(version, &file));
    }

    fn stamp(&self, snapshot: MetaFile) {
        let timestamp = Timestamp::new(self.version, self.expires, snapshot);
        self.sign("timestamp.json", &timestamp);
    }
}
