//! Disks: one that fills, and a stick that is pulled.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use lineside::ota::fetch::Stop;
use lineside::ota::object::MIN_CHUNK_BYTES;
use lineside::ota::source::{Body, Fault, Folder, Opened, Piece, Source};
use lineside::ota::store::{Op, PackageId, Store, StoreError};
use lineside::ota::update::UpdateError;

use crate::plant::{Act, Asking, CHUNK, Device, Release, Repository, Scripted, TestPulse, sound};
use crate::support::TempDir;
use crate::support::mount::{Mount, ext4_image, skip};

const MIB: u64 = 1 << 20;

#[test]
fn a_disk_without_room_beside_the_headroom_is_told_before_anything_large_is_fetched() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let mut device = Device::new();
    let ground = Asking {
        ask: |_: Op<'_>| Ok(()),
        free_bytes: 10 * MIB,
    };
    let mut store = Store::on(ground, &device.root(), 10 * MIB - CHUNK).unwrap();
    let error = device
        .update_into(&mut store, &release, vec![repository.source()])
        .unwrap_err();
    let said = error.to_string();
    assert!(said.contains("stay free for the spool"), "{said}");
    let UpdateError::Stop(Stop::Store(error)) = error else {
        panic!("{said}");
    };
    assert!(error.is_full());
    let StoreError::NoRoom { needed, .. } = error else {
        panic!("{said}");
    };
    assert!(needed > CHUNK);
    drop(store);
    assert!(!device.root().join(release.best()).exists());
    device.recovers(&release, &repository);
}

/// A device that has packages 1 and 2, and the third with where it comes from.
fn with_two_packages() -> (Device, Repository, Release) {
    let [first, second, third] = [1, 2, 3].map(Repository::of);
    let mut device = Device::new();
    for (seq, repository) in [(1, first), (2, second)] {
        device.recovers(&repository.release(seq, "a"), &repository);
    }
    let release = third.release(3, "a");
    (device, third, release)
}

fn id(seq: u64) -> PackageId {
    PackageId {
        name: "plant".into(),
        seq,
    }
}

#[test]
fn packages_that_nobody_needs_make_room_and_those_that_serve_do_not() {
    let (mut device, repository, third) = with_two_packages();
    // Room for two models and a bit.
    let quota = Quota {
        root: device.root(),
        bytes: device.store().bytes().unwrap() + 2 * CHUNK,
    };
    let mut bring = |keep: Vec<PackageId>| {
        let mut store = Store::on(quota.clone(), &device.root(), CHUNK).unwrap();
        device.keep = keep;
        let sources = vec![repository.source()];
        device.update_into(&mut store, &third, sources)
    };
    let error = bring(vec![id(1), id(2)]).unwrap_err();
    assert!(error.to_string().contains("stay free"), "{error}");
    let staged = bring(vec![id(2)]).unwrap();
    sound(&staged);
    assert_eq!(device.store().packages().unwrap(), [id(2), id(3)]);
}

/// What serves has grown so far that not even a manifest has room.
#[test]
fn packages_that_nobody_needs_make_room_for_the_first_byte_too() {
    let (mut device, repository, third) = with_two_packages();
    let mut bring = |keep: Vec<PackageId>| {
        let quota = Quota {
            root: device.root(),
            bytes: taken(&device.root()),
        };
        let mut store = Store::on(quota, &device.root(), 0).unwrap();
        device.keep = keep;
        device.update_into(&mut store, &third, vec![repository.source()])
    };
    // What serves and what was before it stay, and a full disk is told.
    let error = bring(vec![id(1), id(2)]).unwrap_err();
    assert!(error.to_string().contains("stay free"), "{error}");
    // The new one is as large as the one that goes.
    sound(&bring(vec![id(2)]).unwrap());
    assert_eq!(device.store().packages().unwrap(), [id(2), id(3)]);
}

/// A disk on which a store may have so much.
#[derive(Clone)]
struct Quota {
    root: std::path::PathBuf,
    bytes: u64,
}

impl lineside::ota::store::Ground for Quota {
    fn before(&mut self, _: Op<'_>) -> std::io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> std::io::Result<u64> {
        Ok(self.bytes.saturating_sub(taken(&self.root)))
    }
}

/// Bytes below a folder; a file with several names counts once.
fn taken(folder: &Path) -> u64 {
    let (mut open, mut files) = (vec![folder.to_owned()], BTreeMap::new());
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let about = entry.metadata().unwrap();
            if about.is_dir() {
                open.push(entry.path());
            } else {
                files.insert(about.ino(), about.len());
            }
        }
    }
    files.values().sum()
}

#[test]
fn a_disk_that_fills_under_a_download_stops_it_at_the_headroom_and_it_goes_on_later() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let mut device = Device::new();
    let written = std::cell::Cell::new(0);
    let ground = Asking {
        // Somebody else fills the disk while the model comes in.
        ask: |op: Op<'_>| {
            if let Op::Write { bytes, .. } = op {
                written.set(written.get() + bytes);
            }
            if written.get() > 2 * CHUNK {
                return Err(std::io::Error::from(ErrorKind::StorageFull));
            }
            Ok(())
        },
        free_bytes: 10 * MIB,
    };
    let mut store = Store::on(ground, &device.root(), 0).unwrap();
    let error = device
        .update_into(&mut store, &release, vec![repository.source()])
        .unwrap_err();
    let UpdateError::Stop(Stop::Store(error)) = &error else {
        panic!("{error}");
    };
    assert!(error.is_full(), "{error}");
    drop(store);
    let staged = device.recovers(&release, &repository);
    assert!(staged.tally.reread_bytes <= CHUNK);
    assert!(staged.tally.fetched_bytes < staged.tally.needed_bytes);
}

#[test]
fn a_small_real_disk_fills_and_the_store_on_it_works_again_once_there_is_room() {
    let dir = TempDir::new("ota-small-disk");
    let image = dir.path().join("image");
    let mounted =
        ext4_image(&image, 8 * MIB).and_then(|()| Mount::ext4(&image, &dir.path().join("mount")));
    let mount = match mounted {
        Ok(mount) => mount,
        Err(why) => return skip("a small real disk fills", &why),
    };
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let mut device = Device::new();
    let root = mount.path().join("models");
    let filler = mount.path().join("filler");
    let ground = |free_bytes| Asking {
        ask: |_: Op<'_>| Ok(()),
        free_bytes,
    };
    drop(Store::on(Blind, &root, 0).unwrap());
    // What the spool would hold, grown while nobody looked: less is left than the model needs.
    fill(&filler, 2 * MIN_CHUNK_BYTES + 40_000);
    // Ground that does not see it coming: the write itself fails.
    let mut store = Store::on(Blind, &root, 0).unwrap();
    let error = device
        .update_into(&mut store, &release, vec![repository.source()])
        .unwrap_err();
    let UpdateError::Stop(Stop::Store(told)) = &error else {
        panic!("{error}");
    };
    assert!(told.is_full(), "{error}");
    drop(store);
    // Ground that does: nothing is tried.
    let mut store = Store::on(ground(u64::MAX), &root, MIB).unwrap();
    let error = device
        .update_into(&mut store, &release, vec![repository.source()])
        .unwrap_err();
    assert!(error.to_string().contains("stay free"), "{error}");
    drop(store);
    fs::remove_file(&filler).unwrap();
    let mut store = Store::on(ground(u64::MAX), &root, MIB).unwrap();
    let staged = device
        .update_into(&mut store, &release, vec![repository.source()])
        .unwrap();
    sound(&staged);
    assert!(staged.tally.reread_bytes <= CHUNK);
    drop(store);
}

/// Fills a disk until so many bytes are left.
fn fill(filler: &Path, left: u64) {
    let mut file = fs::File::create(filler).unwrap();
    let mut bytes = 0;
    while let Ok(count) = file.write(&[1; 4096]) {
        bytes += count as u64;
    }
    file.set_len(bytes - left).unwrap();
    file.sync_all().unwrap();
}

/// A disk whose room nobody can tell.
struct Blind;

impl lineside::ota::store::Ground for Blind {
    fn before(&mut self, _: Op<'_>) -> std::io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> std::io::Result<u64> {
        Ok(u64::MAX)
    }
}

#[test]
fn a_stick_that_was_cut_short_or_is_gone_is_told() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let stick = TempDir::new("ota-stick");
    let root = stick.path().join("stick");
    copy(&repository.root(), &root);
    let model = root.join(release.best());
    let wanted = release.manifest.variants[0].file.object.bytes();
    fs::OpenOptions::new()
        .write(true)
        .open(&model)
        .unwrap()
        .set_len(100_000)
        .unwrap();
    let mut device = Device::new();
    let short = || Box::new(Folder::new(root.clone())) as Box<dyn Source>;
    let error = device.update(&release, vec![short()]).unwrap_err();
    let said = Fault::Length {
        said: 100_000,
        wanted,
    };
    assert!(error.to_string().contains(&said.to_string()), "{error}");
    let sources = vec![short(), repository.source()];
    let staged = device.update(&release, sources).unwrap();
    assert_eq!(staged.troubles[0].fault, said);
    sound(&staged);
    fs::remove_dir_all(&root).unwrap();
    let mut device = Device::new();
    let error = device.update(&release, vec![short()]).unwrap_err();
    assert!(error.to_string().contains("does not have it"), "{error}");
    // A link on a stick leads nowhere.
    copy(&repository.root(), &root);
    fs::remove_file(&model).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &model).unwrap();
    let error = device.update(&release, vec![short()]).unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
    device.recovers(&release, &repository);
}

/// A stick that shrinks while it is read, and then one whose blocks cannot be read.
struct Pulled {
    inner: Folder,
    model: std::path::PathBuf,
}

impl Source for Pulled {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn open(&mut self, path: &str, from: u64, total: u64) -> Result<Opened, Fault> {
        let opened = self.inner.open(path, from, total)?;
        if total > CHUNK {
            let file = fs::OpenOptions::new().write(true).open(&self.model);
            file.unwrap().set_len(150_000).unwrap();
        }
        Ok(opened)
    }

    fn open_whole(&mut self, path: &str) -> Result<Box<dyn Body>, Fault> {
        self.inner.open_whole(path)
    }
}

#[test]
fn a_stick_that_is_pulled_in_the_middle_is_told_and_what_was_read_counts() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let stick = TempDir::new("ota-stick");
    copy(&repository.root(), stick.path());
    let mut device = Device::new();
    let pulled = Pulled {
        inner: Folder::new(stick.path().to_owned()),
        model: stick.path().join(release.best()),
    };
    let error = device.update(&release, vec![Box::new(pulled)]).unwrap_err();
    let wanted = release.manifest.variants[0].file.object.bytes();
    let (short, length) = (
        Fault::Short {
            at: 150_000,
            wanted,
        },
        Fault::Length {
            said: 150_000,
            wanted,
        },
    );
    let UpdateError::Stop(Stop::Sources { troubles }) = &error else {
        panic!("{error}");
    };
    let faults: Vec<_> = troubles.iter().map(|it| it.fault.clone()).collect();
    assert_eq!(faults, [short, length]);
    let staged = device.recovers(&release, &repository);
    assert!(
        staged.tally.fetched_bytes <= staged.tally.needed_bytes - 150_000 + release.target.length
    );

    let mut device = Device::new();
    let broken = Fault::Disk(ErrorKind::Other);
    let acts = [Act::Then(150_000, broken.clone())];
    let stick = Scripted::boxed("stick", &repository, acts);
    let sources = vec![stick, repository.source()];
    let staged = device.update(&release, sources).unwrap();
    assert_eq!(staged.troubles[0].fault, broken);
    sound(&staged);
}

#[test]
fn a_chunk_from_two_hands_is_nobodys_fault_until_it_comes_from_one() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let mut device = Device::new();
    // The first gives a wrong byte and breaks off within the chunk: then the second's chunk is
    // wrong, and it is not to blame.
    let acts = [Act::Good];
    let second = Scripted::boxed("second", &repository, acts);
    let first = Box::new(Spoiled(Scripted {
        name: "first",
        root: repository.root(),
        acts: [Act::Then(10_000, Fault::Cut), Act::Then(0, Fault::Missing)].into(),
    }));
    let staged = device.update(&release, vec![first, second]).unwrap();
    sound(&staged);
    let told: Vec<_> = (staged.troubles.iter())
        .map(|it| (it.source.as_str(), it.fault.clone()))
        .collect();
    assert_eq!(told[0], ("first", Fault::Cut));
    assert_eq!(told[1], ("second", Fault::Mixed { from: 0 }));
    assert!(!told.iter().any(|(_, fault)| fault.is_a_lie()), "{told:?}");
}

/// Gives another byte at the front of what is large.
struct Spoiled(Scripted);

impl Source for Spoiled {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn open(&mut self, path: &str, from: u64, total: u64) -> Result<Opened, Fault> {
        let opened = self.0.open(path, from, total)?;
        if total <= CHUNK {
            return Ok(opened);
        }
        let body = Box::new(Wrong {
            inner: opened.body,
            piece: Vec::new(),
        });
        Ok(Opened { body, ..opened })
    }

    fn open_whole(&mut self, path: &str) -> Result<Box<dyn Body>, Fault> {
        self.0.open_whole(path)
    }
}

struct Wrong {
    inner: Box<dyn Body>,
    piece: Vec<u8>,
}

impl Body for Wrong {
    fn next(&mut self, wait: Duration) -> Result<Piece<'_>, Fault> {
        match self.inner.next(wait)? {
            Piece::Bytes(bytes) => {
                self.piece = bytes.to_vec();
                self.piece[0] ^= 1;
                Ok(Piece::Bytes(&self.piece))
            }
            other => Ok(match other {
                Piece::End => Piece::End,
                _ => Piece::Nothing,
            }),
        }
    }
}

#[test]
fn a_rate_is_kept_and_hours_are_waited_for() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let mut device = Device::new();
    device.terms.max_bytes_per_s = Some(50_000);
    let staged = device.recovers(&release, &repository);
    let least = Duration::from_secs(staged.tally.fetched_bytes / 50_000);
    let waited = device.pulse.waited;
    // The last piece is paid for by whoever asks for the next.
    assert!(
        waited + Duration::from_secs(3) >= least,
        "{waited:?} of {least:?}"
    );

    let mut device = Device::new();
    device.terms.hours = Some(lineside::ota::pace::Hours {
        from: 22 * 60,
        to: 6 * 60,
        ahead_minutes: 0,
    });
    device.pulse.wall_ms = 12 * 3_600_000;
    let error = device
        .update(&release, vec![repository.source()])
        .unwrap_err();
    assert!(
        error.to_string().contains("begin in 600 minutes"),
        "{error}"
    );
    // An operator's word: no hours.
    device.terms.hours = None;
    device.pulse = TestPulse::new();
    device.recovers(&release, &repository);
}

/// Copies a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.metadata().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
