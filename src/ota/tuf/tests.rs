//! Each check of the workflow by a repository that breaks it.

mod clocks;
mod delegations;
mod differential;
mod documents;
mod power;
mod recovery;
mod rules;
mod trust_files;

use std::rc::Rc;

use serde_json::Value;

use super::write::{Signer, sign_value};
use super::*;
use crate::ota::tests::disk::SimDisk;
use crate::ota::tests::repository::{FILE, NOW, Repository, TARGETS, days};

/// A repository and an appliance that has seen it once.
struct World {
    repository: Repository,
    disk: SimDisk,
}

impl World {
    fn new() -> Self {
        let world = Self::fresh(Repository::new());
        world.refresh().unwrap();
        world
    }

    /// The appliance has seen nothing yet.
    fn fresh(repository: Repository) -> Self {
        Self {
            repository,
            disk: SimDisk::default(),
        }
    }

    fn client(&self) -> Client<SimDisk> {
        self.repository.client(&self.disk)
    }

    /// A process that starts, refreshes and ends.
    fn refresh(&self) -> Result<Refreshed, TufError> {
        self.refresh_at(NOW)
    }

    fn refresh_at(&self, clock: Wall) -> Result<Refreshed, TufError> {
        self.client()
            .refresh(clock, &mut self.repository.files.clone())
    }

    /// The same, with a search.
    fn find(&self, path: &str) -> Result<Option<Target>, TufError> {
        let mut client = self.client();
        let mut files = self.repository.files.clone();
        client.refresh(NOW, &mut files)?;
        client.find(path, &mut files)
    }

    fn floors(&self) -> crate::ota::floor::Floors {
        Book::open(self.disk.clone()).unwrap().floors().clone()
    }

    /// What the last processes asked the repository for.
    fn asked(&self) -> Vec<String> {
        self.repository.files.asked.take()
    }

    /// The stored version of a role.
    fn stored(&self, role: &str) -> Option<u64> {
        let files = self.disk.files();
        let bytes = files.get(&format!("trust/{role}.json"))?;
        let value: Value = serde_json::from_slice(bytes).unwrap();
        value["signed"]["version"].as_u64()
    }
}

/// A file's `signed` part, changed and signed anew by the same role's hands.
fn resigned(
    repository: &Repository,
    file: &str,
    role: &str,
    change: impl FnOnce(&mut Value),
) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(&repository.files.files[file]).unwrap();
    change(&mut value["signed"]);
    let picked: Vec<Rc<Signer>> = repository.picked(&repository.hands[role]);
    let signers: Vec<&Signer> = picked.iter().map(|signer| &**signer).collect();
    sign_value(&value["signed"].take(), &signers).unwrap()
}

/// The fault's kind and the role or file it names, for a short comparison.
fn told<T: std::fmt::Debug>(result: Result<T, TufError>) -> String {
    result.unwrap_err().to_string()
}
