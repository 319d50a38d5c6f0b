//! A repository to fetch from, and a device that fetches.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lineside::clock::{Mono, Now, Wall};
use lineside::config::{AtRest, Form};
use lineside::ota::fetch::{Pulse, Terms};
use lineside::ota::manifest::Manifest;
use lineside::ota::object::MIN_CHUNK_BYTES;
use lineside::ota::release::{lay_out, manifest_of, target_of};
use lineside::ota::source::{Body, Fault, Folder, Opened, Piece, Source};
use lineside::ota::store::{Disk, Ground, PackageId, Store, object_path};
use lineside::ota::update::{Means, Staged, State, Target, UpdateError, VariantHeader, update};
use lineside::package::Package;
use lineside::package::make::{Existing, Order, make};
use lineside::safe::DeviceKey;

use crate::gguf::TinyGguf;
use crate::support::TempDir;

/// Chunks as small as can be, so that a small model has several.
pub(crate) const CHUNK: u64 = MIN_CHUNK_BYTES;
/// Bytes behind the header of a model here: four chunks, the last one short.
const MODEL_BYTES: usize = 3 * (64 << 10) + 12_345;

/// Bytes that look like nothing in particular.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

/// A model file: a real header, and noise for weights.
pub(crate) fn model(file_type: u32, tensor_rows: u64, seed: u64) -> Vec<u8> {
    let mut gguf = TinyGguf::new("llama").number("general.file_type", file_type);
    gguf.tensors[0].1 = vec![32, tensor_rows];
    gguf.data = vec![0; usize::try_from(32 * tensor_rows * 4).unwrap()];
    let mut bytes = gguf.bytes();
    bytes.extend(noise(u64::from(file_type) + (seed << 8), MODEL_BYTES));
    bytes
}

/// A folder that is laid out as sources are.
pub(crate) struct Repository {
    pub(crate) dir: TempDir,
    seed: u64,
}

/// A release in a repository.
#[derive(Clone)]
pub(crate) struct Release {
    pub(crate) target: Target,
    pub(crate) manifest: Manifest,
}

impl Repository {
    pub(crate) fn new() -> Self {
        Self::of(0)
    }

    /// One with models of its own.
    pub(crate) fn of(seed: u64) -> Self {
        let dir = TempDir::new("ota-repository");
        Self { dir, seed }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    /// The package `plant` with this number; `word` is in its prompt.
    pub(crate) fn release(&self, seq: u64, word: &str) -> Release {
        let folder = self.dir.path().join(format!("plant-{seq}"));
        let order = self.order(seq, word, &folder);
        let package = make(&order).unwrap().package;
        self.publish(&package)
    }

    fn order(&self, seq: u64, word: &str, out: &Path) -> Order {
        let at = |name: &str| self.dir.path().join(name);
        // The largest tensors come first in a package: F16 is the best here.
        for (name, file_type, rows) in [("best.gguf", 1, 8), ("small.gguf", 7, 4)] {
            if !at(name).exists() {
                fs::write(at(name), model(file_type, rows, self.seed)).unwrap();
            }
        }
        fs::write(at("triage.gbnf"), "root ::= \"{\" [^}]* \"}\"\n").unwrap();
        let tasks = format!(
            "description = \"for tests\"\nlicense = \"MIT\"\n[[task]]\nname = \"triage\"\n\
             prompt_version = \"1\"\nsystem = \"triage {word}\"\n\
             answer = {{ grammar = \"triage.gbnf\" }}\nmax_tokens = 48\nthreshold = 0.65\n"
        );
        fs::write(at("tasks.toml"), tasks).unwrap();
        Order {
            models: vec![at("best.gguf"), at("small.gguf")],
            tasks: at("tasks.toml"),
            gate: None,
            out: out.to_owned(),
            name: Some("plant".into()),
            seq: Some(seq),
            existing: Existing::Keep,
        }
    }

    /// Lays a package out for sources.
    pub(crate) fn publish(&self, package: &Package) -> Release {
        let manifest = manifest_of(package, CHUNK).unwrap();
        lay_out(package, &manifest, &self.root()).unwrap();
        self.offer(&manifest)
    }

    /// Signs a manifest, as it were.
    pub(crate) fn offer(&self, manifest: &Manifest) -> Release {
        let (target, text) = target_of(manifest);
        self.lay(&target.paths()[0], text.as_bytes());
        let manifest = manifest.clone();
        Release { target, manifest }
    }

    pub(crate) fn lay(&self, path: &str, bytes: &[u8]) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn source(&self) -> Box<dyn Source> {
        Box::new(Folder::new(self.root()))
    }
}

impl Release {
    /// Where the variant lies in a source that is taken where all fit.
    pub(crate) fn best(&self) -> String {
        object_path(self.manifest.variants[0].file.object.sha256())
    }
}

/// Time that passes by itself while something real is waited for, and at once while we wait.
pub(crate) struct TestPulse {
    started: Instant,
    skipped: Duration,
    pub(crate) wall_ms: u64,
    /// Becomes unwanted after so many looks.
    pub(crate) patience: u64,
    pub(crate) waited: Duration,
    /// How much faster than it does time seems to pass.
    pub(crate) speed: u32,
}

impl TestPulse {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            skipped: Duration::ZERO,
            wall_ms: 0,
            patience: u64::MAX,
            waited: Duration::ZERO,
            speed: 1,
        }
    }
}

impl Pulse for TestPulse {
    fn now(&self) -> Now {
        Now {
            mono: Mono(self.started.elapsed() * self.speed + self.skipped),
            wall: Wall(self.wall_ms),
        }
    }

    fn wait(&mut self, span: Duration) {
        self.skipped += span;
        self.waited += span;
        self.patience = self.patience.saturating_sub(1);
    }

    fn wanted(&self) -> bool {
        self.patience > 0
    }
}

/// As a site would have it, in a hurry.
pub(crate) const TERMS: Terms = Terms {
    max_bytes_per_s: None,
    min_bytes_per_s: 1000,
    hours: None,
};

/// A device with a store.
pub(crate) struct Device {
    /// Its own folder, unless it lies in another's.
    _dir: Option<TempDir>,
    root: PathBuf,
    pub(crate) pulse: TestPulse,
    pub(crate) terms: Terms,
    /// Of the variants, those that do not fit.
    pub(crate) too_large: Vec<&'static str>,
    pub(crate) states: Vec<State>,
    /// Packages that must stay.
    pub(crate) keep: Vec<PackageId>,
    /// How its models lie.
    pub(crate) at_rest: AtRest,
}

/// The key of a device whose models lie encrypted.
pub(crate) fn key() -> DeviceKey {
    DeviceKey::read(&[7; 32]).unwrap()
}

impl Device {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new("ota-device");
        Self {
            root: dir.path().join("models"),
            _dir: Some(dir),
            pulse: TestPulse::new(),
            terms: TERMS,
            too_large: Vec::new(),
            states: Vec::new(),
            keep: Vec::new(),
            at_rest: AtRest::default(),
        }
    }

    /// A device whose models lie encrypted.
    pub(crate) fn sealing() -> Self {
        let at_rest = AtRest {
            form: Form::Encrypted,
            device_key: Some(key()),
        };
        Self {
            at_rest,
            ..Self::new()
        }
    }

    /// A device in this folder, anew.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        let root = folder.join("models");
        let _ = fs::remove_dir_all(&root);
        Self {
            _dir: None,
            root,
            ..Self::new()
        }
    }

    /// The same, with models that lie so.
    pub(crate) fn lying_in(folder: &Path, at_rest: &AtRest) -> Self {
        Self {
            at_rest: at_rest.clone(),
            ..Self::in_folder(folder)
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.root.clone()
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.root(), 0)
            .unwrap()
            .lying(self.at_rest.clone())
    }

    pub(crate) fn update(
        &mut self,
        release: &Release,
        sources: Vec<Box<dyn Source>>,
    ) -> Result<Staged, UpdateError> {
        let mut store = self.store();
        self.update_into(&mut store, release, sources)
    }

    pub(crate) fn update_into<G: Ground>(
        &mut self,
        store: &mut Store<G>,
        release: &Release,
        mut sources: Vec<Box<dyn Source>>,
    ) -> Result<Staged, UpdateError> {
        let too_large = self.too_large.clone();
        let mut fits = |header: &VariantHeader| {
            let no = too_large.contains(&header.quantization.as_str());
            let why = format!("{} bytes are too many", header.file_bytes);
            if no { Err(why) } else { Ok(()) }
        };
        let states = &mut self.states;
        update(
            &release.target,
            &mut fits,
            Means {
                store,
                sources: &mut sources,
                pulse: &mut self.pulse,
                terms: self.terms,
                keep: &self.keep,
            },
            &mut |state| states.push(state),
        )
    }

    /// The store works: the release comes in from a good source, sound to the last byte.
    pub(crate) fn recovers(&mut self, release: &Release, repository: &Repository) -> Staged {
        let staged = self.update(release, vec![repository.source()]).unwrap();
        sound(&staged);
        staged
    }
}

/// A package whose every byte is what it should be.
pub(crate) fn sound(staged: &Staged) {
    let package = Package::open_with(&staged.folder, Some(&key())).unwrap();
    package.verify().unwrap();
    assert_eq!(package.variants().count(), 1);
}

/// What a source does with one opening.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Gives so many bytes, then this fault.
    Then(u64, Fault),
    /// Gives all.
    Good,
}

/// A source in memory that acts as it is told, once for each opening of a large object; the last
/// act is repeated.
pub(crate) struct Scripted {
    pub(crate) name: &'static str,
    pub(crate) root: PathBuf,
    pub(crate) acts: VecDeque<Act>,
}

impl Scripted {
    pub(crate) fn boxed(
        name: &'static str,
        repository: &Repository,
        acts: impl IntoIterator<Item = Act>,
    ) -> Box<dyn Source> {
        Box::new(Self {
            name,
            root: repository.root(),
            acts: acts.into_iter().collect(),
        })
    }
}

impl Source for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    fn open(&mut self, path: &str, from: u64, total: u64) -> Result<Opened, Fault> {
        let mut bytes = fs::read(self.root.join(path)).map_err(|_| Fault::Missing)?;
        assert_eq!(bytes.len() as u64, total);
        let mut fault = None;
        if total > CHUNK {
            let act = self.acts.front().cloned().unwrap();
            if self.acts.len() > 1 {
                self.acts.pop_front();
            }
            match act {
                Act::Then(count, after) => {
                    let end = usize::try_from((from + count).min(total)).unwrap();
                    bytes.truncate(end);
                    fault = Some(after);
                }
                Act::Good => {}
            }
        }
        let at = usize::try_from(from).unwrap();
        let body = Box::new(Given { bytes, at, fault });
        Ok(Opened { from, body })
    }

    fn open_whole(&mut self, path: &str) -> Result<Box<dyn Body>, Fault> {
        let bytes = fs::read(self.root.join(path)).map_err(|_| Fault::Missing)?;
        Ok(Box::new(Given {
            bytes,
            at: 0,
            fault: None,
        }))
    }
}

struct Given {
    bytes: Vec<u8>,
    at: usize,
    fault: Option<Fault>,
}

impl Body for Given {
    fn next(&mut self, _: Duration) -> Result<Piece<'_>, Fault> {
        let from = self.at;
        self.at = self.bytes.len().min(from + 20_000);
        match (from == self.at, self.fault.take()) {
            (true, Some(fault)) => Err(fault),
            (true, None) => Ok(Piece::End),
            (false, fault) => {
                self.fault = fault;
                Ok(Piece::Bytes(&self.bytes[from..self.at]))
            }
        }
    }
}

/// A disk that asks a closure first.
pub(crate) struct Asking<F> {
    pub(crate) ask: F,
    pub(crate) free_bytes: u64,
}

impl<F: FnMut(lineside::ota::store::Op<'_>) -> std::io::Result<()>> Ground for Asking<F> {
    fn before(&mut self, op: lineside::ota::store::Op<'_>) -> std::io::Result<()> {
        (self.ask)(op)
    }

    fn free_bytes(&self, folder: &Path) -> std::io::Result<u64> {
        Ok(self.free_bytes.min(Disk.free_bytes(folder)?))
    }
}
