//! The end of the world before every durable operation, and what the next life finds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use lineside::config::{AtRest, Form};
use lineside::ota::store::{Op, PackageId, Store};
use lineside::ota::update::UpdateError;
use lineside::package::Package;

use crate::at_rest::nothing_plain;
use crate::plant::{Asking, CHUNK, Device, Release, Repository, key, sound};
use crate::support::TempDir;
use crate::support::mount::Mount;

/// Bytes of the largest file beside the models: it may be under way while a model is begun.
const SMALL_BYTES: u64 = 2048;

/// What a power cut does to bytes that were written and not forced out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// Nothing: the process died, the system lives.
    None,
    /// The file is shorter.
    Gone,
    /// The file is as long, with zeros in it.
    Zeroed,
}

/// Counts operations, and refuses all from the last one on.
#[derive(Debug, Default)]
struct Fate {
    left: usize,
    done: usize,
    /// By file: how much of it was forced out, and how much was written.
    loose: BTreeMap<PathBuf, (u64, u64)>,
}

impl Fate {
    fn before(&mut self, op: Op<'_>) -> io::Result<()> {
        if self.left == 0 {
            return Err(io::Error::other("the end of the world"));
        }
        self.left -= 1;
        self.done += 1;
        match op {
            Op::Write { file, at, bytes } => {
                let known = self.loose.entry(file.to_owned()).or_insert((at, at));
                known.1 = known.1.max(at + bytes);
            }
            Op::Cut { file, to } => {
                if let Some(known) = self.loose.get_mut(file) {
                    *known = (known.0.min(to), to);
                }
            }
            Op::SyncFile(file) => {
                self.loose.remove(file);
            }
            Op::Rename { from, to } => {
                if let Some(known) = self.loose.remove(from) {
                    self.loose.insert(to.to_owned(), known);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn lose(&self, loss: Loss) {
        for (file, (durable, _)) in &self.loose {
            let Ok(open) = fs::OpenOptions::new().write(true).open(file) else {
                continue;
            };
            let length = open.metadata().unwrap().len();
            match loss {
                Loss::None => {}
                Loss::Gone => open.set_len(length.min(*durable)).unwrap(),
                Loss::Zeroed => {
                    open.set_len(length.min(*durable)).unwrap();
                    open.set_len(length).unwrap();
                }
            }
        }
    }
}

/// One life: an update, and `current` led to it, on a disk that ends after so many operations.
fn live(
    device: &mut Device,
    repository: &Repository,
    release: &Release,
    operations: usize,
    loss: Loss,
) -> (bool, usize) {
    let fate = RefCell::new(Fate {
        left: operations,
        ..Fate::default()
    });
    let ground = Asking {
        ask: |op: Op<'_>| fate.borrow_mut().before(op),
        free_bytes: u64::MAX,
    };
    let lived = Store::on(ground, &device.root(), 0).is_ok_and(|store| {
        let mut store = store.lying(device.at_rest.clone());
        let sources = vec![repository.source()];
        match device.update_into(&mut store, release, sources) {
            Ok(staged) => store.point(&staged.id).is_ok(),
            Err(UpdateError::Stop(_) | UpdateError::Stage { .. }) => false,
            Err(other) => panic!("{other}"),
        }
    });
    let fate = fate.into_inner();
    fate.lose(loss);
    (lived, fate.done)
}

/// What is there is whole, whatever happened.
fn nothing_is_half(device: &Device) {
    let store = device.store();
    for id in store.packages().unwrap() {
        let package = Package::open_with(&store.package_folder(&id), Some(&key())).unwrap();
        package.verify().unwrap();
    }
    let current = device.root().join("current");
    if current.symlink_metadata().is_ok() {
        Package::open_with(&current.canonicalize().unwrap(), Some(&key())).unwrap();
    }
    if device.at_rest.form == Form::Encrypted {
        nothing_plain(&device.root());
    }
    let objects = device.root().join("objects/sha256");
    for folder in fs::read_dir(objects).unwrap() {
        for object in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = object.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.len() == 64 {
                let bytes = fs::read(&path).unwrap();
                let digest = lineside::package::Digest::of(&bytes);
                assert_eq!(digest.to_string(), name);
            }
        }
    }
}

#[test]
fn a_crash_before_any_operation_loses_nothing_and_leaves_nothing_half() {
    crash_everywhere(&AtRest::default());
}

#[test]
fn nor_does_one_where_models_lie_encrypted_or_a_plain_byte_of_them_on_the_disk() {
    crash_everywhere(&Device::sealing().at_rest);
}

fn crash_everywhere(at_rest: &AtRest) {
    // Memory for a disk, where that can be had: losses are made here, and syncs are many.
    let disk = TempDir::new("ota-crash");
    let _memory = Mount::tmpfs(disk.path(), 32 << 20).ok();
    let repository = Repository::new();
    let (first, second) = (repository.release(1, "a"), repository.release(2, "b"));
    for loss in [Loss::None, Loss::Gone, Loss::Zeroed] {
        let mut device = Device::lying_in(disk.path(), at_rest);
        device.recovers(&first, &repository);
        let id = |seq| PackageId {
            name: "plant".into(),
            seq,
        };
        device.store().point(&id(1)).unwrap();
        device.too_large = vec!["F16"];
        let mut operations = 0;
        loop {
            // Each life has one operation more than the last, in a state that the last one left:
            // the model of the second release is another variant, so that it is fetched.
            let (lived, done) = live(&mut device, &repository, &second, operations, loss);
            nothing_is_half(&device);
            let store = device.store();
            let there = store.packages().unwrap();
            assert!(there.contains(&id(1)), "{loss:?} {operations}");
            if lived {
                assert!(done <= operations);
                assert!(there.contains(&id(2)));
                break;
            }
            operations += 1;
            assert!(operations < 1000, "it never gets anywhere");
        }
        // And from nothing, with a break at each operation of a whole life.
        let mut whole = Device::lying_in(disk.path(), at_rest);
        let (lived, all) = live(&mut whole, &repository, &second, usize::MAX, Loss::None);
        assert!(lived);
        for operations in 0..all {
            let mut device = Device::lying_in(disk.path(), at_rest);
            let (lived, _) = live(&mut device, &repository, &second, operations, loss);
            assert!(!lived);
            nothing_is_half(&device);
            let staged = device.recovers(&second, &repository);
            assert!(
                staged.tally.reread_bytes <= CHUNK + SMALL_BYTES,
                "{operations}: {:?}",
                staged.tally
            );
            sound(&staged);
        }
    }
}
