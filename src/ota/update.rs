//! An update: from a verified target to a package that lies ready to be gated.
//!
//! ```text
//!  offered ──manifest, beginnings of models──► downloading ──all whole──► verified ──► staged
//!     │                    │                       │  ▲                     │
//!     │ no manifest        │ no model,             │  └ break, restart,     │ manifests that
//!     ▼                    ▼ or none fits          ▼    hours, no room      ▼ disagree
//!   refused             refused              to be tried again           refused
//! ```
//!
//! Purpose: [`update`] takes a [`Target`] that TUF vouches for through all of these, and ends with
//! a folder that [`Package::open`] opened. It decides nothing about serving it: the gate does.
//!
//! Invariants:
//!
//! - No file is looked into before its hash was verified, and llama.cpp sees none whose header
//!   this crate's own reader has not read.
//! - Of several variants only the one that is taken is fetched: the first that fits. Of those before
//!   it there comes no more than the chunks in which their headers lie.
//! - What is fetched belongs to the very manifest that was signed; the folder's own manifest may
//!   say nothing else of any file.
//!
//! How it fails: [`UpdateError`], and [`UpdateError::is_final`] tells a package that will never do
//! from a download that is to be tried again.

use std::io::{BufReader, Read as _};
use std::path::PathBuf;

use super::fetch::{Fetcher, Pulse, Stop, Tally, Terms, Trouble, Wanted};
use super::manifest::{Facts, MAX_MANIFEST_BYTES, Manifest, ManifestError, Variant};
use super::object::{Object, ObjectError};
use super::source::Source;
use super::store::{Ground, Keep, PackageId, Parcel, StageError, Store, StoreError, object_path};
use crate::package::gguf::{self, GgufError, Header};
use crate::package::{self, Digest, Faults, MAX_MANIFEST_BYTES as MAX_SHEET_BYTES, Package};

/// A file that TUF vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name, with the folders of the role that signed it.
    pub path: String,
    /// Its length.
    pub length: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// What the signer says besides.
    pub custom: Option<serde_json::Value>,
}

impl Target {
    /// Where a repository has it: with its digest in front of the name, as consistent snapshots
    /// want it, or plain.
    pub fn paths(&self) -> [String; 2] {
        let digest = Digest(self.sha256);
        let (folder, name) = match self.path.rsplit_once('/') {
            Some((folder, name)) => (format!("{folder}/"), name),
            None => (String::new(), self.path.as_str()),
        };
        [
            format!("targets/{folder}{digest}.{name}"),
            format!("targets/{}", self.path),
        ]
    }

    /// Whether these are its bytes.
    pub fn is(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.length && Digest::of(bytes).0 == self.sha256
    }
}

/// How far an update is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its manifest is being fetched.
    Offered,
    /// Its objects are.
    Downloading(Tally),
    /// They are all there, and right.
    Verified,
    /// It lies ready.
    Staged,
}

/// What is known of a variant of which only the beginning is there.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantHeader {
    /// How its weights are stored.
    pub quantization: String,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// What it says of itself.
    pub header: Header,
}

/// A variant that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Which.
    pub quantization: String,
    /// Why.
    pub why: String,
}

/// A package that lies ready.
#[derive(Debug)]
pub struct Staged {
    /// Which.
    pub id: PackageId,
    /// As it was opened in its place.
    pub package: Package,
    /// The variant that was taken.
    pub quantization: String,
    /// Better ones that were not, and why.
    pub left_out: Vec<LeftOut>,
    /// Where its folder is.
    pub folder: PathBuf,
    /// What went wrong on the way: sources to look after.
    pub troubles: Vec<Trouble>,
    /// What it took.
    pub tally: Tally,
}

/// Why a package does not lie ready.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The target cannot be a manifest.
    #[error("target {path}: {error}")]
    Target {
        /// Which.
        path: String,
        /// Why.
        error: ObjectError,
    },
    /// Its manifest cannot be used.
    #[error("package {target}: its manifest cannot be used: {error}")]
    Manifest {
        /// The target.
        target: String,
        /// Why.
        error: ManifestError,
    },
    /// Another package's manifest stands under this name.
    #[error("target {target} holds the manifest of {found}")]
    Name {
        /// The target.
        target: String,
        /// What it is.
        found: String,
    },
    /// No variant fits this device.
    #[error("package {id}: no variant fits this device: {}", reasons(left_out))]
    NothingFits {
        /// Which.
        id: PackageId,
        /// Why not, for each.
        left_out: Vec<LeftOut>,
    },
    /// The download stopped.
    #[error(transparent)]
    Stop(#[from] Stop),
    /// The model's file is none.
    #[error("package {id}: {path} is no model that could be loaded: {error}")]
    Header {
        /// Which.
        id: PackageId,
        /// The file in it.
        path: String,
        /// What is wrong.
        error: GgufError,
    },
    /// The model's file is another than the manifest says, though its bytes are those signed.
    #[error("package {id}: the header of {path} is not what its manifest says of it")]
    Facts {
        /// Which.
        id: PackageId,
        /// The file in it.
        path: String,
    },
    /// The folder's own manifest cannot be used.
    #[error("package {id}: {faults}")]
    Sheet {
        /// Which.
        id: PackageId,
        /// Everything that is wrong.
        faults: Faults,
    },
    /// It does not become a package.
    #[error("package {id}: {error}")]
    Stage {
        /// Which.
        id: PackageId,
        /// Why.
        error: StageError,
    },
}

fn reasons(left_out: &[LeftOut]) -> String {
    let said = left_out
        .iter()
        .map(|it| format!("{} ({})", it.quantization, it.why));
    said.collect::<Vec<_>>().join(", ")
}

impl UpdateError {
    /// Whether the same target will never become a package here. Else another try may help.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Target { .. }
            | Self::Manifest { .. }
            | Self::Name { .. }
            | Self::Header { .. }
            | Self::Facts { .. }
            | Self::Sheet { .. } => true,
            // Memory may be freed, a source may come back, a disk may be emptied.
            Self::NothingFits { .. } => false,
            Self::Stop(stop) => matches!(stop, Stop::Store(StoreError::Clash(_))),
            Self::Stage { error, .. } => match error {
                StageError::Faults(_) | StageError::Taken(_) => true,
                StageError::Store(error) => matches!(error, StoreError::Clash(_)),
            },
        }
    }
}

impl From<StoreError> for UpdateError {
    fn from(error: StoreError) -> Self {
        Self::Stop(Stop::Store(error))
    }
}

/// What an update needs besides its target.
pub struct Means<'a, G, P> {
    /// Where it goes.
    pub store: &'a mut Store<G>,
    /// Where it comes from, in their order.
    pub sources: &'a mut [Box<dyn Source>],
    /// Time, and whether it is wanted.
    pub pulse: &'a mut P,
    /// How it may be fetched.
    pub terms: Terms,
    /// Packages that stay, however much room is needed: the committed one and the one before it.
    pub keep: &'a [PackageId],
}

/// Brings a package here. Goes on where an earlier try broke off.
pub fn update<G: Ground, P: Pulse>(
    target: &Target,
    fits: &mut dyn FnMut(&VariantHeader) -> Result<(), String>,
    means: Means<'_, G, P>,
    tell: &mut dyn FnMut(State),
) -> Result<Staged, UpdateError> {
    tell(State::Offered);
    let Means {
        store,
        sources,
        pulse,
        terms,
        keep,
    } = means;
    let signed = signed(target)?;
    let mut hear = |tally: &Tally| tell(State::Downloading(*tally));
    let mut fetcher = Fetcher::new(store, sources, pulse, terms, &mut hear);
    let wanted = Wanted {
        object: &signed,
        paths: &target.paths(),
    };
    // Where it is not there, nothing of the package is known yet that would have to stay.
    let own = || vec![signed.clone()];
    make_room(&mut fetcher, keep, own, |fetcher| fetcher.object(wanted))?;
    let manifest = read_manifest(fetcher.store(), target, &signed)?;
    fetcher.store().note(&manifest);
    let id = PackageId {
        name: manifest.name.clone(),
        seq: manifest.seq,
    };
    let room = Room {
        signed: &signed,
        manifest: &manifest,
        keep,
    };
    let (variant, left_out) = choose(&mut fetcher, &id, &room, fits)?;
    let objects = objects(&manifest, variant);
    room.make(&mut fetcher, |fetcher| fetcher.plan(&objects))?;
    for object in objects {
        let paths = [object_path(object.sha256())];
        let wanted = Wanted {
            object,
            paths: &paths,
        };
        room.make(&mut fetcher, |fetcher| fetcher.object(wanted))?;
    }
    let (tally, troubles) = (fetcher.tally(), fetcher.troubles().to_vec());
    let sheet = verify(store, &id, &manifest, variant)?;
    tell(State::Verified);
    let files = manifest.files.iter().chain([&variant.file]);
    let parcel = Parcel {
        id: id.clone(),
        signed: &signed,
        sheet: &sheet,
        files: files.map(|file| (&file.path, &file.object)).collect(),
    };
    let package = store.stage(&parcel).map_err(|error| UpdateError::Stage {
        id: id.clone(),
        error,
    })?;
    tell(State::Staged);
    let taken = package.manifest().variants.first();
    Ok(Staged {
        quantization: taken.map_or_else(String::new, |it| it.quantization.clone()),
        folder: package.folder().to_owned(),
        id,
        package,
        left_out,
        troubles,
        tally,
    })
}

/// The target as an object.
fn signed(target: &Target) -> Result<Object, UpdateError> {
    let error = if target.length > MAX_MANIFEST_BYTES {
        Err(ObjectError::Bytes(target.length))
    } else {
        Object::single(Digest(target.sha256), target.length)
    };
    error.map_err(|error| UpdateError::Target {
        path: target.path.clone(),
        error,
    })
}

fn read_manifest<G: Ground>(
    store: &Store<G>,
    target: &Target,
    signed: &Object,
) -> Result<Manifest, UpdateError> {
    let bytes = read(store, signed, MAX_MANIFEST_BYTES)?;
    let manifest = Manifest::parse(&bytes).map_err(|error| UpdateError::Manifest {
        target: target.path.clone(),
        error,
    })?;
    let found = manifest.target_name();
    let name = target.path.rsplit('/').next().unwrap_or_default();
    if name == found {
        Ok(manifest)
    } else {
        Err(UpdateError::Name {
            target: target.path.clone(),
            found,
        })
    }
}

/// A small object's bytes.
fn read<G: Ground>(store: &Store<G>, object: &Object, max: u64) -> Result<Vec<u8>, StoreError> {
    let path = store.object_file(object);
    let mut bytes = Vec::new();
    let file = package::open_plain(&path);
    let read = file.and_then(|file| file.take(max + 1).read_to_end(&mut bytes));
    read.map_err(StoreError::at(&path))?;
    Ok(bytes)
}

/// The first variant that fits, and why those before it do not.
fn choose<'m, G: Ground, P: Pulse>(
    fetcher: &mut Fetcher<'_, G, P>,
    id: &PackageId,
    room: &Room<'m>,
    fits: &mut dyn FnMut(&VariantHeader) -> Result<(), String>,
) -> Result<(&'m Variant, Vec<LeftOut>), UpdateError> {
    let mut left_out = Vec::new();
    for variant in &room.manifest.variants {
        let header = header(fetcher, id, room, variant)?;
        let quantization = variant.quantization.clone();
        let file_bytes = variant.file.object.bytes();
        let known = VariantHeader {
            quantization,
            file_bytes,
            header,
        };
        match fits(&known) {
            Ok(()) => return Ok((variant, left_out)),
            Err(why) => left_out.push(LeftOut {
                quantization: known.quantization,
                why,
            }),
        }
    }
    let id = id.clone();
    Err(UpdateError::NothingFits { id, left_out })
}

/// The header of a variant, read from verified bytes of its file's beginning.
fn header<'f, G: Ground, P: Pulse>(
    fetcher: &mut Fetcher<'f, G, P>,
    id: &PackageId,
    room: &Room<'_>,
    variant: &Variant,
) -> Result<Header, UpdateError> {
    let object = &variant.file.object;
    let paths = [object_path(object.sha256())];
    let wanted = Wanted {
        object,
        paths: &paths,
    };
    let at = || (id.clone(), variant.file.path.as_str().to_owned());
    let mut verified = 0;
    let header = loop {
        // A vocabulary may be longer than a chunk.
        let begin = |fetcher: &mut Fetcher<'f, G, P>| fetcher.beginning(wanted, verified + 1);
        let (file, more) = room.make(fetcher, begin)?;
        verified = more;
        let begun = fetcher.store().reader(object, &file);
        let begun = begun.map_err(StoreError::at(&file))?;
        match gguf::read(BufReader::new(begun.take(verified)), object.bytes()) {
            Ok(header) => break header,
            Err(GgufError::Truncated { needed, .. })
                if needed <= object.bytes() && verified < object.bytes() => {}
            Err(error) => {
                let (id, path) = at();
                return Err(UpdateError::Header { id, path, error });
            }
        }
    };
    if Facts::of(&header) == variant.facts {
        Ok(header)
    } else {
        let (id, path) = at();
        Err(UpdateError::Facts { id, path })
    }
}

/// Everything that the package is made of, the model last: what is wrong with the rest is then
/// known before the line was busy for hours.
fn objects<'m>(manifest: &'m Manifest, variant: &'m Variant) -> Vec<&'m Object> {
    let files = manifest.files.iter().map(|file| &file.object);
    let ends = ([&manifest.sheet], [&variant.file.object]);
    ends.0.into_iter().chain(files).chain(ends.1).collect()
}

/// What is on its way, and what must not go to make room for it.
struct Room<'a> {
    signed: &'a Object,
    manifest: &'a Manifest,
    keep: &'a [PackageId],
}

impl Room<'_> {
    /// Takes a step; where there is no room for it, packages go that need not stay, and it is taken
    /// once more.
    fn make<'f, G: Ground, P: Pulse, T>(
        &self,
        fetcher: &mut Fetcher<'f, G, P>,
        step: impl FnMut(&mut Fetcher<'f, G, P>) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        make_room(fetcher, self.keep, || self.own(), step)
    }

    fn own(&self) -> Vec<Object> {
        let variants = &self.manifest.variants;
        let models = variants.iter().map(|it| &it.file.object);
        let files = self.manifest.files.iter().map(|it| &it.object);
        let own = [self.signed, &self.manifest.sheet];
        models.chain(files).chain(own).cloned().collect()
    }
}

/// Takes a step, and once more where packages that need not stay can make room for it. `own` is
/// what is on its way.
fn make_room<'f, G: Ground, P: Pulse, T>(
    fetcher: &mut Fetcher<'f, G, P>,
    keep: &[PackageId],
    own: impl FnOnce() -> Vec<Object>,
    mut step: impl FnMut(&mut Fetcher<'f, G, P>) -> Result<T, Stop>,
) -> Result<T, Stop> {
    match step(fetcher) {
        Err(Stop::Store(error)) if error.is_full() => {}
        other => return other,
    }
    fetcher.store().collect(&Keep {
        packages: keep.to_vec(),
        objects: own(),
        limit_bytes: 0,
    })?;
    step(fetcher)
}

/// Looks into what is there: the bytes are those that were signed, but a signer may be wrong.
/// Returns the text of the folder's own manifest, with the one variant that is taken.
fn verify<G: Ground>(
    store: &Store<G>,
    id: &PackageId,
    manifest: &Manifest,
    variant: &Variant,
) -> Result<String, UpdateError> {
    let bytes = read(store, &manifest.sheet, MAX_SHEET_BYTES)?;
    let file = store.object_file(&manifest.sheet);
    let text = String::from_utf8_lossy(&bytes);
    let sheet = package::read_manifest(&text, &file).map_err(|faults| UpdateError::Sheet {
        id: id.clone(),
        faults,
    })?;
    let agreed = manifest.agrees(&sheet.manifest);
    agreed.map_err(|error| UpdateError::Manifest {
        target: manifest.target_name(),
        error,
    })?;
    Ok(package::narrowed(&sheet.manifest, &variant.quantization))
}
