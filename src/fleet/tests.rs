//! What the tests of this module share: a scratch folder, and a plant with people who sign.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::desk::{Desk, News, Pile};
use super::fault::Done;
use super::init::{Appointments, init};
use super::packages::{self, Gated, Lay};
use super::post::Post;
use super::publish::{Gap, Published, publish};
use super::rings::{self, Named};
use super::settings::Settings;
use crate::clock::Wall;
use crate::ota::tuf::write::Signer;
use crate::package::Package;

/// 1 December 2026.
pub(crate) const NOW: Wall = Wall(1_796_083_200_000);

/// A folder that goes with the test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lineside-fleet-{name}-{}-{next}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file with a passphrase that nobody else may read.
    pub(crate) fn secret_file(&self, name: &str, words: &str) -> PathBuf {
        let path = self.at(name);
        fs::write(&path, format!("{words}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A repository, and those who sign for it: `ann` and `ben` the root (both), `ann` targets and packages,
/// `ben` the rings, a machine snapshot and timestamp.
pub(crate) struct Plant {
    pub(crate) scratch: Scratch,
    pub(crate) signers: BTreeMap<String, Signer>,
}

impl Plant {
    pub(crate) fn new() -> Self {
        let plant = Self::unpublished();
        let mut desk = plant.desk();
        publish(&mut desk, Gap::Never, &mut |_| Ok(())).unwrap();
        drop(desk);
        plant
    }

    /// All is signed, and lies on the desk.
    pub(crate) fn unpublished() -> Self {
        let mut plant = Self {
            scratch: Scratch::new("plant"),
            signers: BTreeMap::new(),
        };
        for name in ["ann", "ben", "online"] {
            plant.person(name);
        }
        let mut desk = Desk::begin(&plant.repo(), None, NOW, Settings::default(), true).unwrap();
        init(&mut desk, &plant.appointments()).unwrap();
        plant.sign(&mut desk, &["ann", "ben", "online"]);
        drop(desk);
        plant
    }

    pub(crate) fn person(&mut self, name: &str) {
        let made = match name {
            "ben" => Signer::generate_p256(),
            _ => Signer::generate(),
        };
        self.signers.insert(name.to_owned(), made.unwrap().0);
    }

    pub(crate) fn appointments(&self) -> Appointments {
        let mut appointments = Appointments::default();
        for (post, names) in [
            (Post::Root, &["ann", "ben"][..]),
            (Post::Targets, &["ann"]),
            (Post::Packages, &["ann"]),
            (Post::Rollout, &["ben"]),
            (Post::Offline, &["ben"]),
            (Post::Snapshot, &["online"]),
            (Post::Timestamp, &["online"]),
        ] {
            let keys = names.iter().map(|name| {
                let signer = &self.signers[*name];
                (signer.id().to_owned(), signer.key().clone())
            });
            appointments.keys.insert(post, keys.collect());
        }
        appointments.thresholds.insert(Post::Root, 2);
        appointments
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.scratch.at("plant")
    }

    pub(crate) fn desk(&self) -> Desk {
        Desk::open(&self.repo(), None, NOW, Pile::Taken).unwrap()
    }

    /// These sign whatever they may, and what follows from it; then it lies on the desk.
    pub(crate) fn sign(&self, desk: &mut Desk, names: &[&str]) {
        loop {
            desk.advance(News::default()).unwrap();
            let mut is_new = false;
            for role in desk.staged_roles() {
                let may = desk.may_sign(&role).unwrap();
                for name in names {
                    let signer = &self.signers[*name];
                    let draft = desk.staged_mut(&role).unwrap();
                    if may.keyids.iter().any(|id| id == signer.id())
                        && !draft.has_signature(signer.id())
                    {
                        draft.sign(signer).unwrap();
                        is_new = true;
                    }
                }
            }
            if !is_new {
                break;
            }
        }
        desk.save().unwrap();
    }

    pub(crate) fn publish(&self, desk: &mut Desk, names: &[&str]) -> Done<Published> {
        self.sign(desk, names);
        publish(desk, Gap::Never, &mut |_| Ok(()))
    }

    /// The bundled package, without its gate, and a ring that runs it.
    pub(crate) fn propose(desk: &mut Desk) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
        let package = Package::open(&folder).unwrap();
        let gated = Gated::Skipped("there is no engine in this test");
        packages::add(desk, &package, gated, Lay::Out).unwrap();
        let named = named(&package);
        rings::open(desk, "canary", &named, 100, None).unwrap();
    }
}

pub(crate) fn named(package: &Package) -> Named {
    Named {
        name: package.manifest().name.clone(),
        seq: package.manifest().seq,
    }
}
