//! What is shared, what is taken, what is refused, and what goes.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use lineside::ota::manifest::ManifestError;
use lineside::ota::object::Object;
use lineside::ota::release::cut;
use lineside::ota::store::{Keep, Op, PackageId, Store, StoreError, object_path};
use lineside::ota::update::{LeftOut, UpdateError};
use lineside::package::{Digest, Package};

use crate::plant::{Asking, CHUNK, Device, Repository, sound};

fn id(seq: u64) -> PackageId {
    PackageId {
        name: "plant".into(),
        seq,
    }
}

#[test]
fn another_prompt_is_another_number_with_the_same_model_on_the_disk_once() {
    let repository = Repository::new();
    let mut device = Device::new();
    let first = device.recovers(&repository.release(1, "a"), &repository);
    let second = repository.release(2, "b");
    let staged = device.recovers(&second, &repository);
    let model = second.manifest.variants[0].file.object.bytes();
    assert!(staged.tally.fetched_bytes < 10_000, "{:?}", staged.tally);
    assert!(staged.tally.reused_bytes >= model);
    let number = |package: &Package| {
        let (variant, _) = package.variants().next().unwrap();
        fs::metadata(package.model_path(variant)).unwrap().ino()
    };
    assert_eq!(number(&first.package), number(&staged.package));
    let prompt = |package: &Package| package.task("triage").unwrap().system.clone();
    assert_eq!(prompt(&first.package), "triage a");
    assert_eq!(prompt(&staged.package), "triage b");
    assert_eq!(device.store().packages().unwrap(), [id(1), id(2)]);
}

#[test]
fn the_best_variant_that_fits_is_taken_alone_and_the_others_are_told_with_the_reason() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let mut device = Device::new();
    device.too_large = vec!["F16"];
    let staged = device.recovers(&release, &repository);
    assert_eq!(staged.quantization, "Q8_0");
    let bytes = release.manifest.variants[0].file.object.bytes();
    let left_out = LeftOut {
        quantization: "F16".into(),
        why: format!("{bytes} bytes are too many"),
    };
    assert_eq!(staged.left_out, [left_out]);
    assert!(!device.root().join(release.best()).exists());
    // Of the one that was left out there came the piece with its header, and no more.
    let left = release.manifest.variants[0].file.object.bytes();
    let taken = release.manifest.variants[1].file.object.bytes();
    assert!(left > 3 * CHUNK);
    assert!(staged.tally.fetched_bytes < taken + 2 * CHUNK + 20_000);
    let mut device = Device::new();
    device.too_large = vec!["F16", "Q8_0"];
    let error = device
        .update(&release, vec![repository.source()])
        .unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("no variant fits") && said.contains("F16 ("),
        "{said}"
    );
    assert!(!error.is_final(), "memory may be freed");
    device.too_large.clear();
    device.recovers(&release, &repository);
}

#[test]
fn a_package_that_lies_ready_is_taken_as_it_is_and_one_that_is_damaged_is_made_anew() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let mut device = Device::new();
    let staged = device.recovers(&release, &repository);
    fs::remove_file(staged.folder.join("triage.gbnf")).unwrap();
    Package::open(&staged.folder).unwrap_err();
    let staged = device.recovers(&release, &repository);
    assert_eq!(staged.tally.fetched_bytes, 0);
    // The same number with other content is another package's.
    let mut other = release.manifest.clone();
    other.files.clear();
    let error = device.update(&repository.offer(&other), vec![repository.source()]);
    let said = error.unwrap_err().to_string();
    assert!(
        said.contains("disagrees with the signed one about the files"),
        "{said}"
    );
}

#[test]
fn a_number_is_given_once() {
    let (one, other) = (Repository::new(), Repository::new());
    let mut device = Device::new();
    device.recovers(&one.release(1, "a"), &one);
    let error = device.update(&other.release(1, "b"), vec![other.source()]);
    let error = error.unwrap_err();
    assert!(
        error.to_string().contains("a number is given once"),
        "{error}"
    );
    assert!(error.is_final());
    let staged = device.recovers(&other.release(2, "b"), &other);
    sound(&staged);
}

#[test]
fn a_manifest_under_another_name_or_of_another_kind_is_refused() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let mut device = Device::new();
    let mut renamed = release.clone();
    renamed.target.path = "plant-2.json".into();
    let bytes = fs::read(repository.root().join(&release.target.paths()[0])).unwrap();
    repository.lay(&renamed.target.paths()[0], &bytes);
    let error = device
        .update(&renamed, vec![repository.source()])
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("holds the manifest of plant-1.json"),
        "{error}"
    );
    assert!(error.is_final());

    let text = release
        .manifest
        .to_json()
        .replace("\"format\": 1", "\"format\": 7");
    let mut strange = release.clone();
    strange.target.sha256 = Digest::of(text.as_bytes()).0;
    strange.target.length = text.len() as u64;
    repository.lay(&strange.target.paths()[0], text.as_bytes());
    let error = device
        .update(&strange, vec![repository.source()])
        .unwrap_err();
    let UpdateError::Manifest { error, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(error, ManifestError::Format(7));
    // Plain names do as well as those with a digest.
    let plain = repository.release(3, "c");
    let [consistent, simple] = plain.target.paths();
    let root = repository.root();
    fs::rename(root.join(consistent), root.join(simple)).unwrap();
    device.recovers(&plain, &repository);
}

#[test]
fn a_model_whose_header_is_not_what_was_signed_never_becomes_a_package() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let mut device = Device::new();
    let mut lying = release.manifest.clone();
    lying.variants[0].facts.block_count = Some(1);
    let error = device.update(&repository.offer(&lying), vec![repository.source()]);
    let error = error.unwrap_err();
    assert!(
        error.to_string().contains("is not what its manifest says"),
        "{error}"
    );
    assert!(error.is_final());

    // Signed by mistake: no model at all.
    let mut wrong = release.manifest.clone();
    let path = repository.dir.path().join("no-model");
    fs::write(&path, vec![7; 200_000]).unwrap();
    let object = cut(&path, CHUNK).unwrap();
    let bytes = object.bytes();
    repository.lay(&object_path(object.sha256()), &fs::read(&path).unwrap());
    wrong.variants[0].file.object = object;
    let error = device.update(&repository.offer(&wrong), vec![repository.source()]);
    let error = error.unwrap_err();
    assert!(error.to_string().contains("no GGUF file"), "{error}");
    let part = device.store().begun_bytes(&wrong.variants[0].file.object);
    assert!((CHUNK..bytes).contains(&part), "the rest was never fetched");
    assert_eq!(device.store().packages().unwrap(), []);
    device.recovers(&release, &repository);
}

#[test]
fn honest_chunks_under_anothers_digest_do_not_poison_the_store() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let honest = &release.manifest.variants[0].file.object;
    // A signer gives chunks of his own the digest of the other's model.
    let path = repository.dir.path().join("poison");
    let mut bytes = fs::read(repository.root().join(release.best())).unwrap();
    let place = bytes.len() - 1;
    bytes[place] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let own = cut(&path, CHUNK).unwrap();
    let chunks = own.chunks().to_vec();
    let poison = Object::new(honest.sha256(), own.bytes(), CHUNK, chunks).unwrap();
    let mut device = Device::new();
    let mut store = device.store();
    let mut part = store.part(&poison).unwrap();
    let mut rest = &bytes[..];
    while !part.assembly().is_whole() {
        let before = part.assembly().at();
        store.put(&mut part, rest).unwrap();
        let taken = part.assembly().at() - before;
        rest = &rest[usize::try_from(taken).unwrap()..];
    }
    store.keep(part).unwrap();
    assert!(store.has(&poison).unwrap());
    // For the honest manifest it is not there: the digest of the whole tells who lied.
    assert!(!store.has(honest).unwrap());
    drop(store);
    device.recovers(&release, &repository);
    let refused = device.store().has(&poison).unwrap_err();
    assert!(matches!(refused, StoreError::Clash(_)), "{refused}");
    assert!(device.store().has(honest).unwrap());
}

#[test]
fn what_nobody_refers_to_goes_and_what_serves_stays() {
    let repository = Repository::new();
    let mut device = Device::new();
    for seq in 1..=4 {
        device.recovers(
            &repository.release(seq, &format!("word {seq}")),
            &repository,
        );
    }
    device.store().point(&id(4)).unwrap();
    let mut store = device.store();
    let stray = Object::single(Digest([3; 32]), 10).unwrap();
    let wanted = Object::single(Digest([4; 32]), 10).unwrap();
    for object in [&stray, &wanted] {
        let mut part = store.part(object).unwrap();
        store.put(&mut part, b"begun").unwrap();
    }
    let all = store.bytes().unwrap();
    let keep = Keep {
        packages: vec![id(3), id(4)],
        objects: vec![wanted.clone()],
        limit_bytes: u64::MAX,
    };
    let collected = store.collect(&keep).unwrap();
    assert_eq!(collected.packages, []);
    assert_eq!(store.begun_bytes(&stray), 0);
    assert_eq!(store.begun_bytes(&wanted), 5);
    assert_eq!(store.packages().unwrap().len(), 4);
    // Above the limit, the oldest go that are not kept.
    let keep = Keep {
        limit_bytes: collected.kept_bytes - 1,
        ..keep
    };
    let collected = store.collect(&keep).unwrap();
    assert_eq!(collected.packages, [id(1)]);
    let keep = Keep {
        limit_bytes: 0,
        ..keep
    };
    let collected = store.collect(&keep).unwrap();
    assert_eq!(collected.packages, [id(2)]);
    assert!(store.bytes().unwrap() < all);
    assert_eq!(store.packages().unwrap(), [id(3), id(4)]);
    for seq in [3, 4] {
        let package = Package::open(&store.package_folder(&id(seq))).unwrap();
        package.verify().unwrap();
    }
    let current = device.root().join("current");
    Package::open(&current.canonicalize().unwrap()).unwrap();
    // The model is still one object, for the next number to reuse.
    drop(store);
    let staged = device.recovers(&repository.release(5, "new"), &repository);
    assert!(staged.tally.fetched_bytes < 10_000);
}

#[test]
fn an_object_whose_root_is_lost_is_read_anew_and_serves_again() {
    let repository = Repository::new();
    let (release, next) = (repository.release(1, "a"), repository.release(2, "b"));
    let object = &release.manifest.variants[0].file.object;
    for spoil in [
        |root: &Path| fs::remove_file(root).unwrap(),
        |root: &Path| fs::write(root, "").unwrap(),
        |root: &Path| fs::write(root, [0xff; 65]).unwrap(),
    ] {
        let mut device = Device::new();
        device.recovers(&release, &repository);
        let root = device.root().join(format!("{}.root", release.best()));
        let written = fs::read(&root).unwrap();
        spoil(&root);
        let staged = device.recovers(&next, &repository);
        assert!(staged.tally.reused_bytes >= object.bytes());
        assert_eq!(fs::read(&root).unwrap(), written);
        // What is not sound is fetched again all the same.
        spoil(&root);
        let path = device.store().object_file(object);
        let mut bytes = fs::read(&path).unwrap();
        bytes[150_000] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(!device.store().has(object).unwrap());
    }
}

#[test]
fn an_object_goes_before_what_vouches_for_it() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let mut device = Device::new();
    device.recovers(&release, &repository);
    let gone = RefCell::new(Vec::new());
    let ground = Asking {
        ask: |op: Op<'_>| {
            if let Op::Remove(path) = op {
                gone.borrow_mut().push(path.to_owned());
            }
            Ok(())
        },
        free_bytes: u64::MAX,
    };
    let mut store = Store::on(ground, &device.root(), 0).unwrap();
    store.collect(&Keep::default()).unwrap();
    let gone = gone.borrow();
    let place = |ending: &str| {
        let path = device.root().join(format!("{}{ending}", release.best()));
        gone.iter().position(|it| *it == path).unwrap()
    };
    assert!(place("") < place(".root"), "{gone:?}");
}

#[test]
fn an_object_that_rotted_on_the_disk_is_found() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let mut device = Device::new();
    device.recovers(&release, &repository);
    let store = device.store();
    let object = &release.manifest.variants[0].file.object;
    assert!(store.is_sound(object).unwrap());
    let path = store.object_file(object);
    let good = fs::read(&path).unwrap();
    for spoil in [
        |bytes: &mut Vec<u8>| bytes[150_000] ^= 1,
        |bytes: &mut Vec<u8>| bytes.push(0),
        |bytes: &mut Vec<u8>| bytes.truncate(200_000),
    ] {
        let mut bytes = good.clone();
        spoil(&mut bytes);
        fs::write(&path, bytes).unwrap();
        assert!(!store.is_sound(object).unwrap());
    }
}

#[test]
fn one_process_holds_the_store() {
    let device = Device::new();
    let held = device.store();
    let error = Store::open(&device.root(), 0).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    drop(held);
    device.store();
}

#[test]
fn a_store_is_a_source() {
    let repository = Repository::new();
    let release = repository.release(1, "a");
    let mut device = Device::new();
    device.recovers(&release, &repository);
    let mut other = Device::new();
    // Its manifest comes from the repository, all else from the neighbour.
    let neighbour = lineside::ota::source::Folder::new(device.root());
    fs::remove_dir_all(repository.root().join("objects")).unwrap();
    let sources: Vec<Box<dyn lineside::ota::source::Source>> =
        vec![repository.source(), Box::new(neighbour)];
    sound(&other.update(&release, sources).unwrap());
}
