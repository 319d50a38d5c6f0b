//! The way from a signed rollout to a package in its place, with real metadata.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use lineside::clock::Wall;
use lineside::ota::disk::{self, Disk};
use lineside::ota::floor::Book;
use lineside::ota::keeper::{Around, Found, KeepError, Keeper, LAST_RING, Progress, Site, Wish};
use lineside::ota::rollout::{Rollout, Turn};
use lineside::ota::source::{Body, Fault, Folder, Opened, Piece, Source};
use lineside::ota::store::{Ground, Op, PackageId, Store};
use lineside::package::Digest;

use crate::disk::copy;
use crate::plant::{Asking, Release, Repository, TERMS, TestPulse};
use crate::publisher::{HOLDS, Publisher};
use crate::server::{Mode, Server};
use crate::support::TempDir;

/// The metadata's time and that of the devices.
const NOW: u64 = 1_800_000_000_000;

/// A publisher and what it makes its packages from.
struct Plant {
    repository: Repository,
    publisher: Publisher,
}

impl Plant {
    fn new() -> Self {
        let repository = Repository::new();
        let publisher = Publisher::new(&repository.root(), Wall(NOW));
        Self {
            repository,
            publisher,
        }
    }

    /// One whose last ring is to run this package.
    fn serving(seq: u64) -> Self {
        let mut plant = Self::new();
        plant.serve(seq);
        plant
    }

    /// From now on the last ring is to run this package.
    fn serve(&mut self, seq: u64) {
        self.package(seq, "a");
        self.open(LAST_RING, &rollout(LAST_RING, seq));
        self.publish();
    }

    fn package(&mut self, seq: u64, word: &str) -> Release {
        let release = self.repository.release(seq, word);
        self.publisher
            .vouch(&release.manifest, &release.target.path);
        release
    }

    fn open(&mut self, ring: &str, rollout: &Rollout) {
        self.publisher.open(ring, rollout);
    }

    fn publish(&mut self) {
        self.publisher.publish();
    }

    fn source(&self) -> Box<dyn Source> {
        self.repository.source()
    }
}

fn rollout(ring: &str, seq: u64) -> Rollout {
    Rollout::new(ring, "plant", seq, 1000).unwrap()
}

fn id(seq: u64) -> PackageId {
    PackageId {
        name: "plant".into(),
        seq,
    }
}

/// A device that follows a ring.
struct Follower {
    dir: TempDir,
    ring: &'static str,
    pulse: TestPulse,
    asked: Vec<String>,
    keep_bytes: u64,
    held: Vec<PackageId>,
    taken_back: Vec<(Digest, String)>,
}

impl Follower {
    fn new(plant: &Plant) -> Self {
        let dir = TempDir::new("ota-follower");
        fs::copy(plant.publisher.anchor(), dir.path().join("root.json")).unwrap();
        let mut pulse = TestPulse::new();
        pulse.wall_ms = NOW;
        Self {
            dir,
            ring: LAST_RING,
            pulse,
            asked: Vec::new(),
            keep_bytes: u64::MAX,
            held: Vec::new(),
            taken_back: Vec::new(),
        }
    }

    fn site(&self) -> Site {
        Site {
            device: "line-3".into(),
            ring: self.ring.into(),
            terms: TERMS,
            keep_bytes: self.keep_bytes,
        }
    }

    fn anchor(&self) -> PathBuf {
        self.dir.path().join("root.json")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn keeper(&self) -> Keeper {
        let journal = Book::open(disk::Folder::new(self.state()))
            .unwrap()
            .journal();
        Keeper::open(self.site(), &self.state(), &journal, &self.anchor(), 0).unwrap()
    }

    /// The same, where the power goes after so many operations on the disk.
    fn check_until(&mut self, power: &Power, sources: Vec<Box<dyn Source>>) -> bool {
        let asking = power.clone();
        let ground = Asking {
            ask: move |_: Op<'_>| asking.take(),
            free_bytes: u64::MAX,
        };
        let Ok(store) = Store::on(ground, &self.state().join("models"), 0) else {
            return false;
        };
        let trust = Trust {
            folder: disk::Folder::new(self.state()),
            power: power.clone(),
        };
        let Ok(book) = Book::open(trust.clone()) else {
            return false;
        };
        let Ok(mut keeper) = Keeper::on(self.site(), trust, book, store, &self.anchor()) else {
            return false;
        };
        self.check_with(&mut keeper, &Wish::Ring, sources).is_ok()
    }

    fn check(&mut self, sources: Vec<Box<dyn Source>>) -> Result<Found, KeepError> {
        let mut keeper = self.keeper();
        self.check_with(&mut keeper, &Wish::Ring, sources)
    }

    fn check_with<D: Disk + Clone, G: Ground>(
        &mut self,
        keeper: &mut Keeper<D, G>,
        wish: &Wish,
        mut sources: Vec<Box<dyn Source>>,
    ) -> Result<Found, KeepError> {
        let asked = &mut self.asked;
        let (held, taken_back) = (&self.held, &self.taken_back);
        let around = Around {
            sources: &mut sources,
            pulse: &mut self.pulse,
            held: &|| held.clone(),
            taken_back: &|digest| {
                let own = taken_back.iter().find(|(it, _)| *it == digest);
                own.map(|(_, why)| why.clone())
            },
            fits: &mut |_| Ok(()),
            tell: &mut |progress| {
                if let Progress::Asking(source) = progress {
                    asked.push(source.to_owned());
                }
            },
        };
        keeper.check(wish, around)
    }

    fn packages(&self) -> Vec<PackageId> {
        self.keeper().packages().unwrap()
    }
}

fn is_ready(found: &Found, seq: u64) -> bool {
    matches!(found, Found::Ready(it) if it.id == id(seq))
}

#[test]
fn what_the_ring_is_to_run_comes_once() {
    let plant = Plant::serving(2);
    let mut device = Follower::new(&plant);
    let Found::Ready(first) = device.check(vec![plant.source()]).unwrap() else {
        panic!("it did not come");
    };
    assert!(first.is_new);
    assert_eq!(first.id, id(2));
    assert_eq!(first.quantization, "F16");
    lineside::package::Package::open(&first.folder)
        .unwrap()
        .verify()
        .unwrap();
    // A stick with metadata alone is enough to know that it is here.
    let stick = TempDir::new("ota-metadata");
    copy(&plant.repository.root(), stick.path());
    fs::remove_dir_all(stick.path().join("objects")).unwrap();
    let again = device.check(vec![Box::new(Folder::new(stick.path().into()))]);
    assert!(matches!(again.unwrap(), Found::Ready(it) if !it.is_new && it.id == id(2)));
}

#[test]
fn who_is_not_yet_to_have_it_fetches_nothing() {
    let mut plant = Plant::new();
    plant.package(2, "a");
    let mut few = rollout("few", 2);
    few.permille = 0;
    let mut halted = rollout("halted", 2);
    halted.halt = true;
    plant.open("few", &few);
    plant.open("halted", &halted);
    plant.publish();
    let mut device = Follower::new(&plant);
    for (ring, found) in [
        ("few", Found::Waiting(id(2), Turn::Later)),
        ("halted", Found::Waiting(id(2), Turn::Halted)),
        ("unheard-of", Found::Nothing),
    ] {
        device.ring = ring;
        assert_eq!(device.check(vec![plant.source()]).unwrap(), found);
        assert_eq!(device.packages(), []);
    }
    // An operator may want it all the same.
    let mut keeper = device.keeper();
    let found = device.check_with(&mut keeper, &Wish::Package(id(2)), vec![plant.source()]);
    assert!(is_ready(&found.unwrap(), 2));
    let missing = device.check_with(&mut keeper, &Wish::Package(id(7)), vec![plant.source()]);
    assert_eq!(missing.unwrap_err().code(), "not_there");
}

#[test]
fn a_package_with_an_older_number_is_refused_and_nothing_changes() {
    let mut plant = Plant::new();
    plant.package(1, "a");
    plant.package(2, "b");
    plant.open(LAST_RING, &rollout(LAST_RING, 2));
    plant.publish();
    let mut device = Follower::new(&plant);
    device.check(vec![plant.source()]).unwrap();
    plant.open(LAST_RING, &rollout(LAST_RING, 1));
    plant.publish();
    let error = device.check(vec![plant.source()]).unwrap_err();
    assert_eq!(error.code(), "rollback");
    assert!(error.to_string().contains("plant"), "{error}");
    assert_eq!(device.packages(), [id(2)]);
    // The floor outlives the store.
    fs::remove_dir_all(device.dir.path().join("state/models")).unwrap();
    let error = device.check(vec![plant.source()]).unwrap_err();
    assert_eq!(error.code(), "rollback");
}

#[test]
fn the_next_source_is_asked_where_one_is_away_or_stale() {
    let mut plant = Plant::serving(2);
    let stale = TempDir::new("ota-stale");
    copy(&plant.repository.root(), stale.path());
    plant.serve(3);
    let mut device = Follower::new(&plant);
    let away = || Box::new(Folder::new("/nowhere/stick".into())) as Box<dyn Source>;
    let stale = || Box::new(Folder::new(stale.path().into())) as Box<dyn Source>;
    let found = device.check(vec![away(), plant.source(), stale()]);
    assert!(is_ready(&found.unwrap(), 3));
    assert_eq!(device.asked.len(), 2);
    // What is older than what was seen is no news, whoever comes first.
    let found = device.check(vec![stale(), plant.source()]);
    assert!(is_ready(&found.unwrap(), 3));
    let error = device.check(vec![away(), stale()]).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("/nowhere/stick: timestamp.json: not there"),
        "{text}"
    );
    assert!(text.contains("and 2 was seen before"), "{text}");
    assert_eq!(error.code(), "rollback");
    assert_eq!(device.check(Vec::new()).unwrap_err().code(), "unreachable");
}

#[test]
fn a_frozen_repository_is_told_and_what_is_here_stays() {
    let plant = Plant::serving(2);
    let mut device = Follower::new(&plant);
    device.check(vec![plant.source()]).unwrap();
    device.pulse.wall_ms = Wall(NOW).after(HOLDS * 2).0;
    let error = device.check(vec![plant.source()]).unwrap_err();
    assert_eq!(error.code(), "expired");
    assert_eq!(device.packages(), [id(2)]);
}

#[test]
fn a_rollout_that_is_not_what_was_signed_counts_for_nothing() {
    let mut plant = Plant::new();
    plant.package(2, "a");
    // Signed, but for another ring.
    plant.open("canary", &rollout(LAST_RING, 2));
    plant.open(LAST_RING, &rollout(LAST_RING, 2));
    plant.publish();
    let mut device = Follower::new(&plant);
    device.ring = "canary";
    let error = device.check(vec![plant.source()]).unwrap_err();
    assert_eq!(error.code(), "untrusted");
    assert!(
        error.to_string().contains("is one of ring stable"),
        "{error}"
    );
    // Not signed at all.
    device.ring = LAST_RING;
    let folder = plant.repository.root().join("targets/rollout");
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("1000", "0999")).unwrap();
    }
    let error = device.check(vec![plant.source()]).unwrap_err();
    assert!(error.to_string().contains("not what was signed"), "{error}");
    assert_eq!(device.packages(), []);
}

#[test]
fn a_package_that_will_never_do_is_fetched_once() {
    let mut plant = Plant::new();
    let release = plant.package(2, "a");
    // A slip of whoever signs: the manifest of 2 stands under 3.
    plant.publisher.vouch(&release.manifest, "plant-3.json");
    plant.open(LAST_RING, &rollout(LAST_RING, 3));
    plant.publish();
    let mut device = Follower::new(&plant);
    let mut keeper = device.keeper();
    let first = device.check_with(&mut keeper, &Wish::Ring, vec![plant.source()]);
    let first = first.unwrap_err().to_string();
    assert!(
        first.contains("holds the manifest of plant-2.json"),
        "{first}"
    );
    let second = device.check_with(&mut keeper, &Wish::Ring, vec![plant.source()]);
    let second = second.unwrap_err();
    assert_eq!(second.code(), "package");
    assert!(second.to_string().contains(&first), "{second}");
    assert!(second.to_string().contains("not fetched again"), "{second}");
}

#[test]
fn what_was_taken_back_is_not_brought_again() {
    let mut plant = Plant::serving(2);
    let mut device = Follower::new(&plant);
    let Found::Ready(ready) = device.check(vec![plant.source()]).unwrap() else {
        panic!("it did not come");
    };
    device.taken_back = vec![(ready.digest, "too slow".into())];
    fs::remove_dir_all(device.dir.path().join("state/models")).unwrap();
    let found = device.check(vec![plant.source()]).unwrap();
    assert_eq!(found, Found::TakenBack(id(2), "too slow".into()));
    assert_eq!(device.packages(), []);
    // Another content, with a number of its own, is another package.
    plant.serve(3);
    assert!(is_ready(&device.check(vec![plant.source()]).unwrap(), 3));
}

#[test]
fn what_is_held_stays_whatever_room_it_takes_and_the_rest_goes() {
    let mut plant = Plant::new();
    let mut device = Follower::new(&plant);
    device.keep_bytes = 0;
    device.held = vec![id(1)];
    for seq in 1..=4 {
        plant.package(seq, &seq.to_string());
        plant.open(LAST_RING, &rollout(LAST_RING, seq));
        plant.publish();
        assert!(is_ready(&device.check(vec![plant.source()]).unwrap(), seq));
    }
    assert_eq!(device.packages(), [id(1), id(4)]);
}

#[test]
fn where_the_journal_is_gone_the_floors_come_from_the_files_even_if_the_course_wrote_first() {
    let mut plant = Plant::serving(2);
    let stale = TempDir::new("ota-stale");
    copy(&plant.repository.root(), stale.path());
    plant.serve(3);
    let mut device = Follower::new(&plant);
    device.check(vec![plant.source()]).unwrap();
    for journal in ["journal.a", "journal.b"] {
        fs::remove_file(device.dir.path().join("state/ota").join(journal)).unwrap();
    }
    for _ in 0..2 {
        let book = Book::open(disk::Folder::new(device.state())).unwrap();
        let course = serde_json::json!({"halted": true});
        book.journal().write(course, std::iter::empty()).unwrap();
    }
    let stale = Box::new(Folder::new(stale.path().into()));
    let error = device.check(vec![stale]).unwrap_err();
    assert_eq!(error.code(), "rollback", "{error}");
}

#[test]
fn a_floor_that_a_power_cut_kept_from_the_disk_is_raised_by_the_next_look() {
    let mut plant = Plant::serving(2);
    let mut device = Follower::new(&plant);
    device.check(vec![plant.source()]).unwrap();
    for journal in ["journal.a", "journal.b"] {
        fs::remove_file(device.dir.path().join("state/ota").join(journal)).unwrap();
    }
    device.check(vec![plant.source()]).unwrap();
    plant.serve(1);
    let error = device.check(vec![plant.source()]).unwrap_err();
    assert_eq!(error.code(), "rollback");
}

#[test]
fn a_server_gives_metadata_and_package() {
    let plant = Plant::serving(2);
    let server = Server::start(&plant.repository.root(), [Mode::Good]);
    let settings = lineside::ota::source::HttpSettings::default();
    let source = || {
        let http = lineside::ota::source::Http::new(&server.url(), &settings).unwrap();
        Box::new(http) as Box<dyn Source>
    };
    let mut device = Follower::new(&plant);
    assert!(is_ready(&device.check(vec![source()]).unwrap(), 2));
    // A file that is not there ends the chain of roots, and nothing else does.
    device.ring = "unheard-of";
    assert_eq!(device.check(vec![source()]).unwrap(), Found::Nothing);
}

/// Metadata that never comes to an end: a byte now and then, or nothing at all.
struct Dripping {
    inner: Folder,
    bytes: Option<u8>,
}

impl Source for Dripping {
    fn name(&self) -> &'static str {
        "dripping"
    }

    fn open(&mut self, path: &str, from: u64, total: u64) -> Result<Opened, Fault> {
        self.inner.open(path, from, total)
    }

    fn open_whole(&mut self, _: &str) -> Result<Box<dyn Body>, Fault> {
        Ok(Box::new(Drops(self.bytes)))
    }
}

struct Drops(Option<u8>);

impl Body for Drops {
    fn next(&mut self, _: Duration) -> Result<Piece<'_>, Fault> {
        std::thread::sleep(Duration::from_micros(200));
        Ok(match &self.0 {
            Some(byte) => Piece::Bytes(std::slice::from_ref(byte)),
            None => Piece::Nothing,
        })
    }
}

#[test]
fn metadata_that_drips_is_given_up_and_the_next_source_asked() {
    let plant = Plant::serving(2);
    for bytes in [None, Some(b'{')] {
        let mut device = Follower::new(&plant);
        // A fifth of a millisecond is a second.
        device.pulse.speed = 5000;
        let dripping = Dripping {
            inner: Folder::new(plant.repository.root()),
            bytes,
        };
        let found = device.check(vec![Box::new(dripping), plant.source()]);
        assert!(is_ready(&found.unwrap(), 2));
        assert_eq!(device.asked.len(), 2);
    }
}

/// Operations that the disks still carry out; then everything fails, as after a power cut.
#[derive(Clone)]
struct Power(Rc<Cell<u64>>);

impl Power {
    fn take(&self) -> io::Result<()> {
        match self.0.get().checked_sub(1) {
            Some(left) => {
                self.0.set(left);
                Ok(())
            }
            None => Err(io::Error::other("the power is gone")),
        }
    }
}

/// The disk of trust and floors, under the same power as the store's.
#[derive(Clone)]
struct Trust {
    folder: disk::Folder,
    power: Power,
}

impl Disk for Trust {
    fn read(&mut self, path: &str, limit_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        self.folder.read(path, limit_bytes)
    }

    fn list(&mut self, folder: &str) -> io::Result<Vec<String>> {
        self.folder.list(folder)
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        // What a cut leaves of a file that was being written is half of it.
        if let Err(error) = self.power.take() {
            self.folder.write(path, &bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.folder.write(path, bytes)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.power.take()?;
        self.folder.rename(from, to)
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.power.take()?;
        self.folder.remove(path)
    }

    fn sync_folder(&mut self, folder: &str) -> io::Result<()> {
        self.power.take()?;
        self.folder.sync_folder(folder)
    }
}

#[test]
fn a_power_cut_at_any_operation_of_a_look_leaves_what_was_here_and_lets_the_next_complete() {
    let mut plant = Plant::serving(2);
    let stale = TempDir::new("ota-stale");
    copy(&plant.repository.root(), stale.path());
    let stale = || Box::new(Folder::new(stale.path().into())) as Box<dyn Source>;
    let mut before = Follower::new(&plant);
    before.check(vec![stale()]).unwrap();
    plant.serve(3);
    let mut cuts = 0;
    loop {
        let mut device = Follower::new(&plant);
        copy(&before.state(), &device.state());
        let power = Power(Rc::new(Cell::new(cuts)));
        let whole = device.check_until(&power, vec![plant.source()]);
        // What was here is here, and what has a name is sound.
        let keeper = device.keeper();
        let packages = keeper.packages().unwrap();
        assert!(packages.contains(&id(2)), "{cuts}: {packages:?}");
        for id in &packages {
            let package = lineside::package::Package::open(&keeper.folder(id)).unwrap();
            package.verify().unwrap();
        }
        drop(keeper);
        // The old repository either is what was last seen, or is seen to be old.
        match device.check(vec![stale()]) {
            Ok(found) => assert!(is_ready(&found, 2) && !whole, "{cuts}: {found:?}"),
            Err(error) => assert_eq!(error.code(), "rollback", "{cuts}: {error}"),
        }
        assert!(is_ready(&device.check(vec![plant.source()]).unwrap(), 3));
        let error = device.check(vec![stale()]).unwrap_err();
        assert_eq!(error.code(), "rollback", "{cuts}: {error}");
        if whole {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 50, "only {cuts} operations");
}
