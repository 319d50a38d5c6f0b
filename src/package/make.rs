//! Making a package: from model files and a task file to a folder that opens.
//!
//! The folder is made beside its place, opened and hashed there like any other package, and only
//! then renamed: nobody ever sees half of one, and a package that was there stays until the new
//! one takes its place in one step.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::chat::Frame;
use super::faults::{Faults, Note};
use super::manifest::{
    Adapter, Bars, ChatTemplate, FilePath, Listed, MAX_CONTEXT_TOKENS, MAX_DESCRIPTION_BYTES,
    MAX_MANIFEST_BYTES, MAX_NAME_BYTES, MAX_SEQ, MAX_VARIANTS, Manifest, Runtime, Variant, Version,
    is_package_name,
};
use super::sheet::{self, FIGURES, TaskFile};
use super::task::Template;
use super::{Header, MANIFEST, Package, folder, write};

/// Context where the task file says nothing: enough for a page of text, and cheap to hold.
const USUAL_CONTEXT_TOKENS: u64 = 2048;
/// Where the gate suite lies in a package that is made here.
const SUITE: &str = "gate.jsonl";

/// The license of a package whose author names none.
pub(super) const NOT_STATED: &str = "not stated";

/// What to make a package from.
#[derive(Clone, Debug)]
pub struct Order {
    /// The model files: one model in several quantizations.
    pub models: Vec<PathBuf>,
    /// The task file.
    pub tasks: PathBuf,
    /// The gate suite.
    pub gate: Option<PathBuf>,
    /// The folder that becomes the package.
    pub out: PathBuf,
    /// Its name; else that of the package it replaces, or of the folder.
    pub name: Option<String>,
    /// Its sequence number; else one more than that of the package it replaces, or 1.
    pub seq: Option<u64>,
    /// What to do about a package that is there.
    pub existing: Existing,
}

/// What becomes of a package that is in the place of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and nothing is made.
    Keep,
    /// It goes, but its README and its pictures stay.
    Replace,
}

/// A new package, and what it lacks.
#[derive(Debug)]
pub struct Made {
    /// The package.
    pub package: Package,
    /// What it lacks, and what that costs.
    pub notes: Vec<Note>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The order itself cannot be carried out.
    #[error("{0}")]
    Order(String),
    /// Something that goes into the package is wrong.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// The disk.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// For `map_err`: names the path of a fault of the disk.
fn at(path: &Path) -> impl FnOnce(io::Error) -> MakeError {
    let path = path.to_owned();
    |error| MakeError::Io { path, error }
}

/// Makes a package.
pub fn make(order: &Order) -> Result<Made, MakeError> {
    make_aloud(order, &mut |_| {})
}

/// Bytes that making it reads at most: each file to be hashed, and once more to be verified.
pub fn bytes_to_read(order: &Order) -> u64 {
    let files = order.models.iter().chain(&order.gate);
    let bytes = files.map(|file| fs::metadata(file).map_or(0, |about| about.len()));
    bytes.fold(0, u64::saturating_add).saturating_mul(2)
}

/// The same; tells how many bytes more were read, piece by piece.
pub fn make_aloud(order: &Order, on_bytes: &mut dyn FnMut(u64)) -> Result<Made, MakeError> {
    let place = Place::of(order)?;
    let models = models(&order.models)?;
    let suite = FilePath::parse(SUITE).expect("a plain name is a path");
    let said = task_file(order, &models, &suite)?;

    let sources = sources(order, &said, &suite)?;
    let mut stage = Stage::new(&order.out)?;
    let variants = (models.iter())
        .map(|model| {
            let file = stage.take(&model.source, &model.path, Way::Link, on_bytes)?;
            let quantization = model.quantization.clone();
            Ok(Variant { file, quantization })
        })
        .collect::<Result<Vec<_>, MakeError>>()?;
    let mut files = Vec::new();
    for (source, path) in &sources {
        files.push(stage.take(source, path, Way::Copy, on_bytes)?);
    }
    let adapter = (said.adapter.as_ref())
        .map(|(path, scale)| {
            let source = order.tasks.with_file_name(path.as_str());
            let file = stage.take(&source, path, Way::Link, on_bytes)?;
            let scale = *scale;
            Ok::<_, MakeError>(Adapter { file, scale })
        })
        .transpose()?;
    if place.replaces {
        stage.keep_pages_of(&order.out)?;
    }
    let mut notes = Vec::new();
    let manifest = Manifest {
        bars: bars(order, &said, suite, &mut notes),
        adapter,
        ..describe(place.name, place.seq, said, &models, variants, files)
    };
    stage.write(MANIFEST, write::manifest(&manifest).as_bytes())?;
    stage
        .origins
        .push((stage.folder.join(MANIFEST), order.tasks.clone()));

    let made = Package::open(&stage.folder);
    let made = made.and_then(|package| package.verify_aloud(on_bytes).map(|()| package));
    let package = made.map_err(|faults| stage.named_by_origin(faults))?;
    notes.extend(package.notes());
    stage.publish(&order.out, place.replaces)?;
    let package = Package::open(&order.out)?;
    Ok(Made { package, notes })
}

/// Name and number of the new package, after a look at what is there.
struct Place {
    name: String,
    seq: u64,
    replaces: bool,
}

impl Place {
    fn of(order: &Order) -> Result<Self, MakeError> {
        let out = &order.out;
        if out.file_name().is_none() {
            let what = format!("--out {} does not name a folder of its own", out.display());
            return Err(MakeError::Order(what));
        }
        let replaces = out.symlink_metadata().is_ok();
        if replaces && order.existing == Existing::Keep {
            let what = format!(
                "{} is there already: --replace takes its place",
                out.display()
            );
            return Err(MakeError::Order(what));
        }
        let manifest = out.join(MANIFEST);
        if replaces && !manifest.is_file() {
            let what = format!("{} is no package: it is not replaced", out.display());
            return Err(MakeError::Order(what));
        }
        let old = if replaces {
            let text = folder::text(&manifest, MAX_MANIFEST_BYTES).ok();
            text.and_then(|text| sheet::manifest(&text, &manifest).ok())
        } else {
            None
        };
        let old = old.map(|sheet| sheet.manifest);
        let folder = out.file_name().and_then(|name| name.to_str());
        let name = (order.name.clone())
            .or_else(|| Some(old.as_ref()?.name.clone()))
            .or_else(|| folder.map(str::to_owned))
            .filter(|name| is_package_name(name));
        let Some(name) = name else {
            let what = format!("--name must be 1 to {MAX_NAME_BYTES} of a-z, 0-9 and '-'");
            return Err(MakeError::Order(what));
        };
        let before = old.filter(|old| old.name == name).map(|old| old.seq);
        if replaces && before.is_none() && order.seq.is_none() {
            let what = "the package that is there does not say its number: give --seq";
            return Err(MakeError::Order(what.into()));
        }
        let before = before.unwrap_or(0);
        let seq = order.seq.unwrap_or(before.saturating_add(1));
        if seq <= before || seq > MAX_SEQ {
            let what = format!(
                "--seq must be above {before}, and {MAX_SEQ} at most: devices never go back"
            );
            return Err(MakeError::Order(what));
        }
        Ok(Self {
            name,
            seq,
            replaces,
        })
    }
}

/// A model file that goes into the package.
struct Model {
    source: PathBuf,
    path: FilePath,
    quantization: String,
    header: Header,
}

/// Looks at the model files; the largest comes first, because it is the best.
fn models(sources: &[PathBuf]) -> Result<Vec<Model>, MakeError> {
    if !(1..=MAX_VARIANTS).contains(&sources.len()) {
        let what = format!("1 to {MAX_VARIANTS} model files, not {}", sources.len());
        return Err(MakeError::Order(what));
    }
    let mut faults = Faults::default();
    let mut models = Vec::new();
    for source in sources {
        let name = source.file_name().unwrap_or_default().to_string_lossy();
        let Some(path) = FilePath::parse(&name) else {
            let wanted = "a file name of letters, digits, '.', '-' and '_'";
            faults.of_file(source, "this name cannot stand in a package", wanted);
            continue;
        };
        // Caches of models are full of links; what they lead to is what is meant.
        let file = fs::canonicalize(source).unwrap_or_else(|_| source.clone());
        match super::header_in(&file) {
            Ok(header) => models.push(Model {
                source: file,
                path,
                quantization: header.quantization.unwrap_or("unnamed").to_owned(),
                header,
            }),
            Err(error) => {
                let wanted = "a model in the GGUF format that llama.cpp can load";
                faults.of_file(source, error.to_string(), wanted);
            }
        }
    }
    if !faults.is_empty() {
        return Err(faults.into());
    }
    models.sort_by(|a, b| {
        let by_size = b.header.tensor_bytes.cmp(&a.header.tensor_bytes);
        by_size.then_with(|| a.path.cmp(&b.path))
    });
    Ok(models)
}

fn task_file(order: &Order, models: &[Model], suite: &FilePath) -> Result<TaskFile, MakeError> {
    let text = folder::text(&order.tasks, MAX_MANIFEST_BYTES).map_err(|wanted| {
        let mut faults = Faults::default();
        faults.of_file(&order.tasks, "this task file cannot be used", &wanted);
        faults
    })?;
    let known: Vec<_> = models
        .iter()
        .map(|model| model.quantization.clone())
        .collect();
    Ok(sheet::task_file(&text, &order.tasks, &known, suite)?)
}

/// Where the files lie that go in beside the models; what is not there is a fault.
fn sources(
    order: &Order,
    said: &TaskFile,
    suite: &FilePath,
) -> Result<Vec<(PathBuf, FilePath)>, MakeError> {
    let beside = order.tasks.with_file_name("");
    let rules = rules(said)
        .into_iter()
        .map(|path| (beside.join(path.as_str()), path.clone()));
    let gate = order.gate.iter().map(|gate| (gate.clone(), suite.clone()));
    let sources: Vec<_> = rules.chain(gate).collect();
    let mut faults = Faults::default();
    for (source, path) in &sources {
        if !source.is_file() {
            let wanted = format!("the file that becomes {path} in the package");
            faults.of_file(source, "(not there)", &wanted);
        }
    }
    if faults.is_empty() {
        Ok(sources)
    } else {
        Err(faults.into())
    }
}

/// The files that the tasks need, each once.
fn rules(said: &TaskFile) -> Vec<&FilePath> {
    let mut rules: Vec<_> = said
        .tasks
        .iter()
        .filter_map(|task| task.answer.file())
        .collect();
    rules.sort();
    rules.dedup();
    rules
}

/// The bars go with a suite, and the other way round.
fn bars(order: &Order, said: &TaskFile, suite: FilePath, notes: &mut Vec<Note>) -> Option<Bars> {
    if order.gate.is_none() {
        if said.bars.is_some() {
            notes.push(Note::new(
                "bars without a gate suite",
                "they are left out: there is nothing to hold them against. Give --gate",
            ));
        }
        return None;
    }
    Some(said.bars.clone().unwrap_or(Bars {
        suite,
        memory_bytes: None,
        latency_ms: None,
        calibration_error: None,
        accuracy: Vec::new(),
    }))
}

/// The manifest but for its bars and its adapter, with what goes without saying.
fn describe(
    name: String,
    seq: u64,
    said: TaskFile,
    models: &[Model],
    variants: Vec<Variant>,
    files: Vec<Listed>,
) -> Manifest {
    let first = &models[0].header; // there is one: `models` saw to it
    let trained = models
        .iter()
        .filter_map(|model| model.header.context_tokens);
    let trained = trained.min().unwrap_or(MAX_CONTEXT_TOKENS);
    let usable = Frame::of_header(first, "An instruction.").is_ok();
    let known = usable || Template::of_header(first).is_some();
    let known = known.then_some(ChatTemplate::Gguf);
    let own_words =
        |name: &String| name.len() <= MAX_DESCRIPTION_BYTES && !name.contains(char::is_control);
    let own_name = first
        .name
        .clone()
        .filter(|name| !name.is_empty() && own_words(name));
    Manifest {
        name,
        seq,
        version: said.version.unwrap_or_else(|| format!("{seq}.0")),
        description: said
            .description
            .or(own_name)
            .unwrap_or_else(|| "A model".into()),
        license: said.license.unwrap_or_else(|| NOT_STATED.into()),
        languages: said.languages,
        data_digest: None,
        runtime: Runtime {
            lineside: Version::own(),
            architecture: first.architecture.clone(),
            context_tokens: (said.context_tokens).unwrap_or(trained.min(USUAL_CONTEXT_TOKENS)),
            chat_template: (said.chat_template.or(known)).unwrap_or(ChatTemplate::ChatMl),
        },
        variants,
        adapter: None,
        files,
        tasks: said.tasks,
        curves: said.curves,
        risks: Vec::new(), // `lineside calibrate` finds them
        bars: None,
        estimate: said.estimate,
    }
}

/// How a file gets into the package.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Under a second name, where the disk allows that; models are large.
    Link,
    Copy,
}

/// A folder under construction; gone unless it was published.
struct Stage {
    folder: PathBuf,
    /// Where each file came from, for faults that would name a folder that is gone.
    origins: Vec<(PathBuf, PathBuf)>,
}

impl Stage {
    fn new(out: &Path) -> Result<Self, MakeError> {
        let name = out.file_name().unwrap_or_default().to_string_lossy();
        let folder = out.with_file_name(format!(".{name}.making-{}", std::process::id()));
        fs::create_dir(&folder).map_err(at(out))?;
        let origins = Vec::new();
        Ok(Self { folder, origins })
    }

    /// Takes a file in, makes it durable, and says what is to be listed. Tells how much it reads.
    fn take(
        &mut self,
        source: &Path,
        path: &FilePath,
        way: Way,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<Listed, MakeError> {
        let target = self.folder.join(path.as_str());
        self.origins.push((target.clone(), source.to_owned()));
        if let Some(above) = target.parent() {
            fs::create_dir_all(above).map_err(at(above))?;
        }
        if target.symlink_metadata().is_ok() {
            let what = format!("two files would be {path} in the package");
            return Err(MakeError::Order(what));
        }
        if way == Way::Copy || fs::hard_link(source, &target).is_err() {
            let mut from = folder_file(source).map_err(at(source))?;
            let mut to = File::create_new(&target).map_err(at(&target))?;
            io::copy(&mut from, &mut to).map_err(at(&target))?;
        }
        let synced = File::open(&target).and_then(|file| file.sync_all());
        synced.map_err(at(&target))?;
        let (bytes, sha256) = folder::digest_aloud(&target, on_bytes).map_err(at(&target))?;
        Ok(Listed {
            path: path.clone(),
            bytes,
            sha256,
        })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), MakeError> {
        let target = self.folder.join(name);
        let written = File::create_new(&target).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(at(&target))
    }

    /// Copies what people wrote about a package that is about to go.
    fn keep_pages_of(&self, old: &Path) -> Result<(), MakeError> {
        let copy = |from: &Path, to: &Path| match fs::copy(from, to) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map(drop).map_err(at(from)),
        };
        copy(&old.join("README.md"), &self.folder.join("README.md"))?;
        let Ok(pictures) = fs::read_dir(old.join(FIGURES)) else {
            return Ok(());
        };
        let figures = self.folder.join(FIGURES);
        fs::create_dir(&figures).map_err(at(&figures))?;
        for picture in pictures.flatten() {
            copy(&picture.path(), &figures.join(picture.file_name()))?;
        }
        Ok(())
    }

    /// Faults that name what the author knows: the files that this one was made from.
    fn named_by_origin(&self, mut faults: Faults) -> Faults {
        for fault in &mut faults.list {
            let Some(place) = &mut fault.place else {
                continue;
            };
            let mut known = self.origins.iter();
            if let Some((staged, origin)) = known.find(|(staged, _)| *staged == place.file) {
                // The manifest's lines are not the task file's.
                if staged.ends_with(MANIFEST) {
                    place.line = 0;
                }
                place.file.clone_from(origin);
            }
        }
        faults
    }

    /// Puts the folder in its place, in one step.
    fn publish(self, out: &Path, replaces: bool) -> Result<(), MakeError> {
        let sync = |folder: &Path| File::open(folder).and_then(|folder| folder.sync_all());
        sync(&self.folder).map_err(at(&self.folder))?;
        let flags = if replaces {
            RenameFlags::EXCHANGE // the old one is then in this folder's place, and goes with it
        } else {
            RenameFlags::NOREPLACE
        };
        renameat_with(CWD, &self.folder, CWD, out, flags).map_err(|errno| at(out)(errno.into()))?;
        let above = out.parent().filter(|above| !above.as_os_str().is_empty());
        sync(above.unwrap_or(Path::new("."))).map_err(at(out))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder); // after publishing it is not there
    }
}

/// Opens what an author names; a link is as good as the file.
fn folder_file(source: &Path) -> io::Result<File> {
    folder::open(&fs::canonicalize(source)?)
}
