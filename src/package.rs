//! A model package: a folder with a model in one or several quantizations, what it can be asked,
//! how far to believe it, and what it must reach on a device before it serves there.
//!
//! ```text
//!  manifest.toml ─► page ─► sheet ─► Manifest ─┐
//!  *.gguf ─────────────────► gguf ─► Header ───┼─► Package ─► verify: every byte
//!                      chat template ─► Frame ─┤           └─► form, frame: input ─► Prompt
//!  grammars, schemas, gate.jsonl ──► texts ────┤
//!  all that lies in the folder ────► folder ───┘
//! ```
//!
//! Purpose: [`Package::open`] turns a folder that came from anywhere into something that can be
//! served, or says everything that is wrong with it. [`make::make`] makes such a folder.
//!
//! Invariants:
//!
//! - Everything in the folder is listed with size and digest, but for the manifest, the README
//!   and its pictures; no path leaves the folder and no link is followed.
//! - What is held in memory is bounded, whatever lies on the disk.
//! - A package that opened agrees with itself: tasks, files, curves, bars, suite and model files.
//! - A model that lies sealed is opened with the key of the device, and nothing plain of it is ever
//!   written to a disk; see [`SealedFile`].
//! - Only [`Package::verify`] vouches for the bytes; opening looks at names, sizes and headers.
//!
//! How it fails: by [`Faults`], all at once, each with its file and line where there is one.
//! What is lacking without being wrong is told by [`Package::notes`].

mod adapter;
mod calibration;
pub mod chat;
mod estimate;
mod faults;
pub mod features;
mod folder;
pub mod form;
pub mod gate;
pub mod gguf;
mod jinja;
pub mod make;
mod manifest;
mod notes;
mod page;
pub mod recalibrate;
mod risk;
mod sealed;
mod sheet;
mod task;
mod write;

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

pub use calibration::{Calibration, MAX_POINTS, Method};
pub use chat::{Frame, Prompt};
pub use estimate::{COUNTS, Estimate, FEATURES, TaskEstimate};
pub use faults::{Faults, MAX_FAULTS, Note};
pub use features::{Blend, Features};
pub use folder::MAX_ENTRIES;
pub(crate) use folder::open as open_plain;
pub use form::{Given, InputFault};
pub use gate::{Gate, Item};
pub use gguf::Header;
pub use manifest::*;
pub use risk::{MAX_TARGETS, RiskPoints};
pub use sealed::{SealedFile, sealed_path};
pub use sheet::{FIGURES, Sheet, TaskFile, UNLISTED, manifest as read_manifest};
pub use task::{Answer, Task, Template, Wording};

use crate::safe::DeviceKey;
use sealed::{Plain, Sealed};

/// Where the frame of free prompts stands; no task has an empty name.
const PLAIN: &str = "";
/// The name of the manifest in its folder.
pub const MANIFEST: &str = "manifest.toml";

/// What is wrong with a folder whose manifest cannot be read.
const NO_PACKAGE: &str = "this is no model package: its manifest cannot be used";
/// What would open a file that lies sealed.
const WANTED_KEY: &str = "ota.device_key_file with the key of the device that fetched it";

/// A package that agrees with itself.
#[derive(Clone, Debug)]
pub struct Package {
    folder: PathBuf,
    manifest: Manifest,
    /// One for each variant.
    headers: Vec<Header>,
    wording: Wording,
    /// What stands around the inputs of each task, and around free prompts under [`PLAIN`].
    frames: BTreeMap<String, Frame>,
    gate: Option<Gate>,
    /// Grammars, schemas and the suite, as they were read.
    texts: BTreeMap<FilePath, String>,
    /// What lies encrypted.
    sealed: Sealed,
}

/// The rule that an answer keeps to, as an engine needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule<'a> {
    /// A grammar in GBNF.
    Grammar(&'a str),
    /// A JSON schema.
    Schema(&'a str),
    /// One of these.
    Choices(&'a [String]),
    /// None.
    Text,
}

impl Package {
    /// Opens the package in a folder: reads everything but the models' weights.
    pub fn open(folder: &Path) -> Result<Self, Faults> {
        Self::open_with(folder, None)
    }

    /// The same where its models may lie sealed with this device's key.
    pub fn open_with(folder: &Path, key: Option<&DeviceKey>) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let file = folder.join(MANIFEST);
        let sheet = match folder::text(&file, MAX_MANIFEST_BYTES) {
            Ok(text) => sheet::manifest(&text, &file)?,
            Err(wanted) => {
                faults.of_file(&file, NO_PACKAGE, &wanted);
                return Err(faults);
            }
        };
        let mut found = folder::contents(folder, &mut faults);
        let closed = sealed::lift(&mut found, &sheet.manifest);
        folder::compare(folder, &found, &listed(&sheet.manifest), &mut faults);
        let sealed = match key {
            Some(key) => Sealed::new(folder, &closed, key),
            None => Sealed::default(),
        };
        if key.is_none() {
            for file in &closed {
                let at = sealed_path(&folder.join(file.path.as_str()));
                faults.of_file(&at, "this file is encrypted", WANTED_KEY);
                found.remove(file.path.as_str());
            }
        }
        let mut opening = Opening {
            folder,
            sheet: &sheet,
            sealed: &sealed,
            faults,
        };
        // What is not there was said to be missing; it is not said again.
        let there = |path: &FilePath| found.contains_key(path.as_str());
        let headers = opening.headers(there);
        opening.adapter(there);
        let spoken = opening.spoken(&headers);
        let texts = opening.texts(there);
        let gate = opening.gate(&texts);
        let headers = headers.into_iter().map(|(_, header)| header).collect();
        match spoken {
            Some((wording, frames)) if opening.faults.is_empty() => Ok(Self {
                folder: folder.to_owned(),
                manifest: sheet.manifest,
                headers,
                wording,
                frames,
                gate,
                texts,
                sealed,
            }),
            Some(_) | None => Err(opening.faults),
        }
    }

    /// Holds every listed file against its size and digest, and what was read while opening too:
    /// a file that changed in between would be caught by one of the two.
    pub fn verify(&self) -> Result<(), Faults> {
        self.verify_aloud(&mut |_| {})
    }

    /// The same; tells how many bytes more are read, piece by piece.
    pub fn verify_aloud(&self, on_bytes: &mut dyn FnMut(u64)) -> Result<(), Faults> {
        let mut faults = Faults::default();
        let listed = listed(&self.manifest);
        let open = |file: &Listed| self.sealed.open(&self.folder, &file.path);
        folder::verify(&self.folder, &listed, open, &mut faults, on_bytes);
        for file in listed {
            let held = self.texts.get(&file.path);
            if held.is_some_and(|text| Digest::of(text.as_bytes()) != file.sha256) {
                let at = self.folder.join(file.path.as_str());
                let wanted = "the same bytes as when the package was opened";
                faults.of_file(&at, "this file has another digest", wanted);
            }
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults)
        }
    }

    /// Bytes of all files that are listed: what a verification reads.
    pub fn bytes(&self) -> u64 {
        let sizes = listed(&self.manifest).into_iter().map(|file| file.bytes);
        sizes.fold(0, u64::saturating_add)
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What its manifest says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The variants of its model, best first, each with what its file says of itself.
    pub fn variants(&self) -> impl Iterator<Item = (&Variant, &Header)> {
        self.manifest.variants.iter().zip(&self.headers)
    }

    /// The file of a variant.
    pub fn model_path(&self, variant: &Variant) -> PathBuf {
        self.sealed.place(&self.folder, &variant.file.path)
    }

    /// The file of a variant, if it lies sealed.
    pub fn sealed_model(&self, variant: &Variant) -> Option<&SealedFile> {
        self.sealed.get(&variant.file.path)
    }

    /// The file of its adapter, if that lies sealed.
    pub fn sealed_adapter(&self) -> Option<&SealedFile> {
        self.sealed.get(&self.manifest.adapter.as_ref()?.file.path)
    }

    /// Whether any of its files lies sealed.
    pub fn is_sealed(&self) -> bool {
        !self.sealed.is_empty()
    }

    /// The file of its adapter, and how much of it counts.
    pub fn adapter(&self) -> Option<(PathBuf, &Adapter)> {
        let adapter = self.manifest.adapter.as_ref()?;
        let path = self.sealed.place(&self.folder, &adapter.file.path);
        Some((path, adapter))
    }

    /// How its model is spoken to.
    pub fn wording(&self) -> Wording {
        self.wording
    }

    /// What stands around the inputs of a task.
    pub fn frame(&self, task: &str) -> Option<&Frame> {
        self.frames.get(task)
    }

    /// What stands around a free prompt: no instruction at all.
    pub fn plain_frame(&self) -> Option<&Frame> {
        self.frames.get(PLAIN)
    }

    /// A task by its name.
    pub fn task(&self, name: &str) -> Option<&Task> {
        self.manifest.tasks.iter().find(|task| task.name == name)
    }

    /// The rule that a task's answers keep to.
    pub fn rule<'a>(&'a self, task: &'a Task) -> Rule<'a> {
        let text = |path| self.texts.get(path).map_or("", String::as_str);
        match &task.answer {
            Answer::Grammar(path) => Rule::Grammar(text(path)),
            Answer::Schema(path) => Rule::Schema(text(path)),
            Answer::Choices(choices) => Rule::Choices(choices),
            Answer::Text => Rule::Text,
        }
    }

    /// How far to believe a task's answers from a variant; none means that confidence is raw.
    pub fn calibration(&self, task: &str, quantization: &str) -> Option<&Calibration> {
        self.manifest.calibration(task, quantization)
    }

    /// The suite of its gate.
    pub fn gate(&self) -> Option<&Gate> {
        self.gate.as_ref()
    }

    /// What it lacks, and what that costs.
    pub fn notes(&self) -> Vec<Note> {
        notes::notes(self)
    }
}

impl Manifest {
    /// The curve of a task and a quantization.
    pub fn calibration(&self, task: &str, quantization: &str) -> Option<&Calibration> {
        let own = |curve: &&Curve| curve.task == task && curve.quantization == quantization;
        let curve = self.curves.iter().find(own);
        curve.map(|curve| &curve.calibration)
    }

    /// What keeps the errors of a task and a quantization to a share.
    pub fn risk(&self, task: &str, quantization: &str) -> Option<&RiskPoints> {
        let own = |risk: &&Risk| risk.task == task && risk.quantization == quantization;
        let risk = self.risks.iter().find(own);
        risk.map(|risk| &risk.points)
    }
}

/// What the manifest of the package in a folder says. Looks at no other file.
pub fn manifest_in(folder: &Path) -> Result<Manifest, Faults> {
    let file = folder.join(MANIFEST);
    let text = folder::text(&file, MAX_MANIFEST_BYTES).map_err(|wanted| {
        let mut faults = Faults::default();
        faults.of_file(&file, NO_PACKAGE, &wanted);
        faults
    })?;
    Ok(sheet::manifest(&text, &file)?.manifest)
}

/// Whether any model of the package in a folder lies sealed.
pub fn lies_sealed(folder: &Path) -> bool {
    let manifest = manifest_in(folder);
    manifest.is_ok_and(|manifest| {
        sealed::sealable(&manifest)
            .any(|file| sealed_path(&folder.join(file.path.as_str())).exists())
    })
}

/// The manifest of a package that has only one of its variants, as text: what lies on a device
/// that took that one.
pub fn narrowed(manifest: &Manifest, quantization: &str) -> String {
    let own = |other: &str| other == quantization;
    let mut manifest = manifest.clone();
    manifest.variants.retain(|it| own(&it.quantization));
    manifest.curves.retain(|it| own(&it.quantization));
    manifest.risks.retain(|it| own(&it.quantization));
    write::manifest(&manifest)
}

/// Every file that must lie in the folder.
fn listed(manifest: &Manifest) -> Vec<&Listed> {
    let models = manifest.variants.iter().map(|variant| &variant.file);
    let adapter = manifest.adapter.iter().map(|adapter| &adapter.file);
    models.chain(adapter).chain(&manifest.files).collect()
}

/// A package while it is opened.
struct Opening<'a> {
    folder: &'a Path,
    sheet: &'a Sheet,
    sealed: &'a Sealed,
    faults: Faults,
}

impl<'a> Opening<'a> {
    /// Reads the header of each variant that is there.
    fn headers(&mut self, there: impl Fn(&FilePath) -> bool) -> Vec<(&'a Variant, Header)> {
        let mut headers = Vec::new();
        for variant in &self.sheet.manifest.variants {
            if !there(&variant.file.path) {
                continue;
            }
            let path = self.sealed.place(self.folder, &variant.file.path);
            let opened = self.open(&variant.file.path);
            match opened.map_err(Into::into).and_then(header) {
                Ok(header) => {
                    self.hold_against_runtime(&path, &header);
                    headers.push((variant, header));
                }
                Err(error) => {
                    let wanted = "a model in the GGUF format that llama.cpp can load";
                    self.faults.of_file(&path, error.to_string(), wanted);
                }
            }
        }
        headers
    }

    /// Holds the adapter against every variant that is there.
    fn adapter(&mut self, there: impl Fn(&FilePath) -> bool) {
        let manifest = &self.sheet.manifest;
        let Some(adapter) = &manifest.adapter else {
            return;
        };
        if !there(&adapter.file.path) {
            return;
        }
        let at = self.sealed.place(self.folder, &adapter.file.path);
        let models = manifest.variants.iter().map(|variant| &variant.file.path);
        let models: Vec<_> = models.filter(|path| there(path)).collect();
        let open = |path: &FilePath| self.sealed.open(self.folder, path);
        let architecture = &manifest.runtime.architecture;
        let fits = adapter::fits(&adapter.file.path, architecture, &models, open);
        if let Err((value, wanted)) = fits {
            self.faults.of_file(&at, value, &wanted);
        }
    }

    fn open(&self, path: &FilePath) -> io::Result<(Plain, u64)> {
        self.sealed.open(self.folder, path)
    }

    fn hold_against_runtime(&mut self, path: &Path, header: &Header) {
        let runtime = &self.sheet.manifest.runtime;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if header.architecture != runtime.architecture {
            let wanted = format!("\"{}\", as {name} says", header.architecture);
            let value = format!("\"{}\"", runtime.architecture);
            let fault = self.sheet.fault("runtime.architecture", value, wanted);
            self.faults.add(fault);
        }
        let trained = header.context_tokens.unwrap_or(u64::MAX);
        if trained < runtime.context_tokens {
            let wanted = format!("at most {trained}, what {name} was trained for");
            let value = runtime.context_tokens.to_string();
            let fault = self.sheet.fault("runtime.context_tokens", value, wanted);
            self.faults.add(fault);
        }
        for (holds, value, wanted) in [
            (
                header.vocabulary > 0 && header.tokenizer.is_some(),
                "it has no tokenizer",
                "a model file with its tokenizer inside",
            ),
            (
                header.tensors > 0,
                "it has no weights",
                "a whole model, not a vocabulary",
            ),
            (
                header.splits <= 1,
                "it is one piece of several",
                "one file: join the pieces with llama-gguf-split --merge",
            ),
        ] {
            if !holds {
                self.faults.of_file(path, value, wanted);
            }
        }
    }

    /// How the model is spoken to, and what that means for each task; all variants must
    /// understand it.
    fn spoken(
        &mut self,
        headers: &[(&Variant, Header)],
    ) -> Option<(Wording, BTreeMap<String, Frame>)> {
        let said = self.sheet.manifest.runtime.chat_template;
        let tasks = &self.sheet.manifest.tasks;
        let family = match said {
            ChatTemplate::ChatMl => Template::ChatMl,
            ChatTemplate::Gguf => {
                let header = &headers.first()?.1;
                let own = |(name, system): (&str, &str)| {
                    Ok((name.to_owned(), Frame::of_header(header, system)?))
                };
                match instructions(tasks)
                    .map(own)
                    .collect::<Result<_, chat::ChatError>>()
                {
                    Ok(frames) => return Some((Wording::Own, frames)),
                    Err(error) => {
                        let family = Template::of_header(header);
                        self.no_template(family, &error)?
                    }
                }
            }
        };
        for (variant, header) in headers {
            let lacks = |marker: &&&str| !header.markers.contains(**marker);
            let lacking: Vec<_> = family.markers().iter().filter(lacks).copied().collect();
            // Without its tokenizer there are no tokens at all, which was said.
            if !lacking.is_empty() && header.vocabulary > 0 {
                let at = self.folder.join(variant.file.path.as_str());
                let wanted = format!(
                    "a vocabulary with {} as tokens: the {} template is made of them",
                    lacking.join(", "),
                    family.name()
                );
                self.faults
                    .of_file(&at, "it lacks tokens of the template", &wanted);
            }
        }
        let frame = |(name, system): (&str, &str)| (name.to_owned(), family.frame(system));
        let frames = instructions(tasks).map(frame).collect();
        Some((Wording::Family(family), frames))
    }

    /// The family that stands in for a template which cannot be used; without one it is a fault.
    fn no_template(
        &mut self,
        family: Option<Template>,
        error: &chat::ChatError,
    ) -> Option<Template> {
        if family.is_none() {
            let value = format!("\"{}\"", ChatTemplate::Gguf.word());
            let wanted = format!(
                "\"chatml\", or a model file with a chat template that can be used: {error}"
            );
            let fault = self.sheet.fault("runtime.chat_template", value, wanted);
            self.faults.add(fault);
        }
        family
    }

    /// Reads the grammars, the schemas and the suite, and looks at the first two.
    fn texts(&mut self, there: impl Fn(&FilePath) -> bool) -> BTreeMap<FilePath, String> {
        let manifest = &self.sheet.manifest;
        let rules = manifest.tasks.iter().map(|task| &task.answer);
        let suite = manifest.bars.iter().map(|bars| (&bars.suite, None));
        let wanted: BTreeMap<_, _> = rules
            .filter_map(|answer| Some((answer.file()?, Some(answer))))
            .chain(suite)
            .filter(|(path, _)| there(path))
            .collect();
        let mut texts = BTreeMap::new();
        for (path, answer) in wanted {
            let at = self.folder.join(path.as_str());
            let max = answer.map_or(gate::MAX_SUITE_BYTES, |_| MAX_RULE_BYTES);
            match folder::text(&at, max) {
                Ok(text) => {
                    if let Some(wanted) = answer.and_then(|answer| rule_fault(answer, &text)) {
                        self.faults.of_file(&at, "this is no such rule", &wanted);
                    }
                    texts.insert(path.clone(), text);
                }
                Err(wanted) => self
                    .faults
                    .of_file(&at, "this file cannot be used", &wanted),
            }
        }
        texts
    }

    fn gate(&mut self, texts: &BTreeMap<FilePath, String>) -> Option<Gate> {
        let bars = self.sheet.manifest.bars.as_ref()?;
        let text = texts.get(&bars.suite)?;
        let file = self.folder.join(bars.suite.as_str());
        match Gate::read(text, &file, &self.sheet.manifest.tasks) {
            Ok(gate) => Some(gate),
            Err(faults) => {
                faults
                    .list
                    .into_iter()
                    .for_each(|fault| self.faults.add(fault));
                self.faults.left_out += faults.left_out;
                None
            }
        }
    }
}

/// Reads the header of a model file that lies plain.
fn header_in(path: &Path) -> Result<Header, gguf::GgufError> {
    let file = folder::open(path)?;
    let bytes = file.metadata()?.len();
    header((Plain::AsItIs(file), bytes))
}

/// Reads the header of a model file.
fn header((file, bytes): (Plain, u64)) -> Result<Header, gguf::GgufError> {
    gguf::read(BufReader::new(file), bytes)
}

/// Names and instructions that need a frame.
fn instructions(tasks: &[Task]) -> impl Iterator<Item = (&str, &str)> {
    let tasks = tasks
        .iter()
        .map(|task| (task.name.as_str(), task.system.as_str()));
    tasks.chain([(PLAIN, "")])
}

/// What is wrong with a rule at first sight. The engine compiles it; this catches the wrong file.
fn rule_fault(answer: &Answer, text: &str) -> Option<String> {
    match answer {
        Answer::Grammar(_) => {
            let root = |line: &str| {
                let after = line.strip_prefix("root");
                after.is_some_and(|after| after.trim_start().starts_with("::="))
            };
            let good = text.lines().any(root);
            (!good).then(|| "a GBNF grammar: a line that begins with \"root ::=\"".into())
        }
        Answer::Schema(_) => match serde_json::from_str::<serde_json::Value>(text) {
            Ok(value) if value.is_object() => None,
            Ok(_) => Some("a JSON schema: an object".into()),
            Err(error) => Some(format!("a JSON schema ({error})")),
        },
        Answer::Choices(_) | Answer::Text => None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
