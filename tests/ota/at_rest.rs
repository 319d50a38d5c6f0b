//! Models that lie encrypted: no plain byte of one is ever on the disk, and everything else is as
//! with plain ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use lineside::config::{AtRest, Form};
use lineside::ota::fetch::Stop;
use lineside::ota::source::Fault;
use lineside::ota::store::{Keep, PackageId, Store};
use lineside::ota::update::UpdateError;
use lineside::package::Package;
use lineside::safe::DeviceKey;

use crate::plant::{Act, CHUNK, Device, Release, Repository, Scripted, key, noise, sound};

/// Bytes of a frame of the sealed form.
const FRAME: u64 = 64 << 10;

fn id(seq: u64) -> PackageId {
    PackageId {
        name: "plant".into(),
        seq,
    }
}

/// Every plain file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut open, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => open.push(entry.path()),
                kind if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

/// 64 bytes out of each chunk of the models that the repository has.
fn pieces() -> &'static [Vec<u8>] {
    static PIECES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    PIECES.get_or_init(|| {
        let of = |file_type: u64| {
            let all = noise(file_type, 200_000);
            [100, 70_000, 140_000, 199_000].map(|at: usize| all[at..at + 64].to_vec())
        };
        [of(1), of(7)].concat()
    })
}

/// Whether a file has any of these.
fn has_weights(path: &Path) -> bool {
    let bytes = fs::read(path).unwrap();
    let mut begins = [false; 256];
    for piece in pieces() {
        begins[usize::from(piece[0])] = true;
    }
    // In one pass: the crash test does this after each of its lives.
    (0..bytes.len()).any(|at| {
        begins[usize::from(bytes[at])] && pieces().iter().any(|it| bytes[at..].starts_with(it))
    })
}

/// No file below a folder has weights in it.
pub(crate) fn nothing_plain(folder: &Path) {
    for path in files(folder) {
        assert!(!has_weights(&path), "{} has weights in it", path.display());
    }
}

fn opened(folder: &Path, key: &DeviceKey) -> Result<Package, String> {
    Package::open_with(folder, Some(key)).map_err(|faults| faults.to_string())
}

#[test]
fn a_model_comes_verified_and_lies_sealed_and_the_next_number_reuses_it() {
    let repository = Repository::new();
    let mut plain = Device::new();
    let release = repository.release(1, "a");
    plain.recovers(&release, &repository);
    let found = files(&plain.root()).iter().any(|path| has_weights(path));
    assert!(found, "the search finds what is there");

    let mut device = Device::sealing();
    let first = device.recovers(&release, &repository);
    nothing_plain(&device.root());
    let second = device.recovers(&repository.release(2, "b"), &repository);
    assert!(second.tally.fetched_bytes < 10_000, "{:?}", second.tally);
    assert_eq!(device.store().packages().unwrap(), [id(1), id(2)]);
    nothing_plain(&device.root());
    // The file says what it is, and is as long as the form wants it.
    let (variant, _) = first.package.variants().next().unwrap();
    let path = first.package.model_path(variant);
    assert_eq!(path.extension().unwrap(), "sealed");
    let frames = variant.file.bytes.div_ceil(FRAME);
    assert_eq!(
        fs::metadata(&path).unwrap().len(),
        88 + variant.file.bytes + 28 * frames
    );
    // Read through the safe, it is what the repository has.
    let mut file = fs::File::from(
        first
            .package
            .sealed_model(variant)
            .unwrap()
            .in_memory()
            .unwrap(),
    );
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut file).unwrap();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    assert_eq!(lineside::package::Digest::of(&bytes), variant.file.sha256);
}

/// A source that gives so much, then fails.
fn breaking(repository: &Repository, bytes: u64) -> Box<dyn lineside::ota::source::Source> {
    let act = Act::Then(bytes, Fault::Cut);
    Scripted::boxed("breaking", repository, [act, Act::Then(0, Fault::Cut)])
}

#[test]
fn a_break_anywhere_costs_no_more_than_a_chunk_and_a_frame() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let model = release.manifest.variants[0].file.object.bytes();
    for broken in [
        1,
        100,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        2 * CHUNK + 40_000,
        model - 1,
    ] {
        let mut device = Device::sealing();
        let error = device.update(&release, vec![breaking(&repository, broken)]);
        assert!(matches!(
            error.unwrap_err(),
            UpdateError::Stop(Stop::Sources { .. })
        ));
        nothing_plain(&device.root());
        let staged = device.recovers(&release, &repository);
        let small = 10_000; // manifests and grammars
        let most = model - broken + CHUNK + FRAME + small;
        assert!(
            staged.tally.fetched_bytes <= most,
            "{broken} {:?}",
            staged.tally
        );
        assert!(
            staged.tally.reread_bytes <= CHUNK,
            "{broken} {:?}",
            staged.tally
        );
        nothing_plain(&device.root());
    }
}

#[test]
fn a_source_that_gives_wrong_bytes_is_told_and_its_bytes_are_gone() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    // A mirror whose model has another byte in its third chunk.
    let liar = Repository::new();
    liar.release(1, "a");
    let path = liar.root().join(release.best());
    let mut bytes = fs::read(&path).unwrap();
    let wrong = usize::try_from(2 * CHUNK + 5).unwrap();
    bytes[wrong] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut device = Device::sealing();
    let staged = device
        .update(&release, vec![liar.source(), repository.source()])
        .unwrap();
    sound(&staged);
    let corrupt = |fault: &Fault| matches!(fault, Fault::Corrupt { from } if *from == 2 * CHUNK);
    assert!(
        staged.troubles.iter().any(|it| corrupt(&it.fault)),
        "{:?}",
        staged.troubles
    );
    nothing_plain(&device.root());
}

#[test]
fn what_another_key_sealed_is_told_and_fetched_anew() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let mut device = Device::sealing();
    // In the middle of a download, and of one that is whole.
    let begun = device.update(&release, vec![breaking(&repository, CHUNK + 5)]);
    assert!(begun.is_err());
    device.at_rest.device_key = DeviceKey::read(&[9; 32]);
    let staged = device.update(&release, vec![repository.source()]).unwrap();
    let other = DeviceKey::read(&[9; 32]).unwrap();
    opened(&staged.folder, &other).unwrap().verify().unwrap();
    let told = opened(&staged.folder, &key()).unwrap_err();
    assert!(told.contains("sealed with another device's key"), "{told}");
    let told = Package::open(&staged.folder).unwrap_err().to_string();
    assert!(told.contains("this file is encrypted"), "{told}");
    assert!(told.contains("ota.device_key_file"), "{told}");
    // The first key again: nothing that is there opens, so all of it comes again.
    device.at_rest.device_key = Some(key());
    let staged = device.recovers(&release, &repository);
    let model = release.manifest.variants[0].file.object.bytes();
    assert!(staged.tally.fetched_bytes >= model);
}

#[test]
fn a_sealed_file_in_anothers_place_or_damaged_is_found() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let mut device = Device::sealing();
    let staged = device.recovers(&release, &repository);
    let mut store = device.store();
    store.note(&release.manifest);
    let object = &release.manifest.variants[0].file.object;
    assert!(store.is_sound(object).unwrap());
    let path = store.object_file(object);
    let good = fs::read(&path).unwrap();
    for spoil in [
        |bytes: &mut Vec<u8>| bytes[150_000] ^= 1,
        |bytes: &mut Vec<u8>| bytes.truncate(200_000),
    ] {
        let mut bytes = good.clone();
        spoil(&mut bytes);
        fs::write(&path, bytes).unwrap();
        assert!(!store.is_sound(object).unwrap());
        let package = opened(&staged.folder, &key());
        assert!(
            package
                .and_then(|it| it.verify().map_err(|it| it.to_string()))
                .is_err()
        );
    }
    drop(store);
    // Another model of this very device.
    let mut other = Device::sealing();
    other.too_large = vec!["F16"];
    let other_staged = other.recovers(&release, &repository);
    let (variant, _) = other_staged.package.variants().next().unwrap();
    fs::copy(other_staged.package.model_path(variant), &path).unwrap();
    let told = opened(&staged.folder, &key()).unwrap_err();
    assert!(told.contains("bytes"), "{told}");
}

#[test]
fn what_lay_plain_stays_served_and_goes_with_its_package() {
    let repository = Repository::new();
    let (first, second) = (repository.release(1, "a"), repository.release(2, "b"));
    let mut device = Device::new();
    device.recovers(&first, &repository);
    device.at_rest = Device::sealing().at_rest;
    let staged = device.recovers(&second, &repository);
    let model = second.manifest.variants[0].file.object.bytes();
    assert!(
        staged.tally.fetched_bytes >= model,
        "it is not made of the plain one"
    );
    assert!(staged.package.is_sealed());
    let mut store = device.store();
    assert!(
        !opened(&store.package_folder(&id(1)), &key())
            .unwrap()
            .is_sealed()
    );
    let keep = |packages| Keep {
        packages,
        objects: Vec::new(),
        limit_bytes: 0,
    };
    store.collect(&keep(vec![id(1), id(2)])).unwrap();
    opened(&store.package_folder(&id(1)), &key())
        .unwrap()
        .verify()
        .unwrap();
    store.collect(&keep(vec![id(2)])).unwrap();
    nothing_plain(&device.root());
    drop(store);
    // And the way back: what lies sealed is served on, what comes lies plain.
    device.at_rest.form = Form::Plain;
    let third = device.recovers(&repository.release(3, "c"), &repository);
    assert!(!third.package.is_sealed());
    opened(&device.store().package_folder(&id(2)), &key())
        .unwrap()
        .verify()
        .unwrap();
}

#[test]
fn nothing_of_a_sealed_store_is_a_source() {
    let repository = Repository::new();
    let release: Release = repository.release(1, "a");
    let mut device = Device::sealing();
    device.recovers(&release, &repository);
    let mut other = Device::new();
    let neighbour = lineside::ota::source::Folder::new(device.root());
    fs::remove_dir_all(repository.root().join("objects")).unwrap();
    let sources: Vec<Box<dyn lineside::ota::source::Source>> =
        vec![repository.source(), Box::new(neighbour)];
    let error = other.update(&release, sources).unwrap_err();
    assert!(
        matches!(error, UpdateError::Stop(Stop::Sources { .. })),
        "{error}"
    );
}

#[test]
fn a_store_without_a_key_seals_nothing() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let mut device = Device::new();
    device.at_rest = AtRest::default();
    let store: Store = device.store();
    drop(store);
    assert!(!device.recovers(&release, &repository).package.is_sealed());
}
