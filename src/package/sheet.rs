//! From TOML to a [`Manifest`], or to what a task file contributes to one.
//!
//! Each part is looked at in any case, so that one fault does not hide another. A rule about two
//! keys is silent where one of them is faulty already.

mod estimate;
mod form;
mod risk;
mod tasks;

use std::collections::BTreeMap;
use std::path::Path;

use super::estimate::Estimate;
use super::faults::Faults;
use super::manifest::{
    Adapter, Bars, ChatTemplate, Curve, Digest, FORMAT, FilePath, Listed, MAX_ADAPTER_SCALE,
    MAX_CONTEXT_TOKENS, MAX_DESCRIPTION_BYTES, MAX_FILE_BYTES, MAX_FILES, MAX_LANGUAGES,
    MAX_NAME_BYTES, MAX_PATH_PARTS, MAX_SEQ, MAX_VARIANTS, MAX_WORD_BYTES, Manifest, Runtime,
    Variant, Version, is_package_name, is_word,
};
use super::page::{self, Page, Part, Range};
use super::task::Task;
use crate::fault::{Fault, Place};

/// What lies in a package without being listed.
pub const UNLISTED: [&str; 2] = ["manifest.toml", "README.md"];
/// The folder of the README's pictures, which nobody lists either.
pub const FIGURES: &str = "figures";

/// A manifest and where its keys stand.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// What it says.
    pub manifest: Manifest,
    pub(super) places: BTreeMap<String, Place>,
}

impl Sheet {
    /// A fault about a key that was read well, but does not agree with something outside.
    pub(super) fn fault(&self, key: &str, value: impl Into<String>, wanted: String) -> Fault {
        Fault {
            key: key.to_owned(),
            value: value.into(),
            wanted,
            place: self.places.get(key).cloned(),
        }
    }
}

/// Reads a manifest. `file` is what faults name.
pub fn manifest(text: &str, file: &Path) -> Result<Sheet, Faults> {
    let (manifest, faults, places) = page::read(text, file, Page::manifest);
    match manifest {
        Some(manifest) if faults.is_empty() => Ok(Sheet { manifest, places }),
        Some(_) | None => Err(faults),
    }
}

/// What an author of a package says, before there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskFile {
    /// The version for people.
    pub version: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Under which terms.
    pub license: Option<String>,
    /// Which languages it was made for.
    pub languages: Vec<String>,
    /// Context that a request gets at least.
    pub context_tokens: Option<u64>,
    /// How the model is spoken to.
    pub chat_template: Option<ChatTemplate>,
    /// What was learnt on top of the model, and its scale.
    pub adapter: Option<(FilePath, f64)>,
    /// What it can be asked for.
    pub tasks: Vec<Task>,
    /// How far to believe it.
    pub curves: Vec<Curve>,
    /// What it must reach; the suite is named by the command that makes the package.
    pub bars: Option<Bars>,
    /// What its requests are like before its model sees them.
    pub estimate: Option<Estimate>,
}

/// Reads a task file for models of these quantizations, with `suite` as the gate's.
pub(super) fn task_file(
    text: &str,
    file: &Path,
    quantizations: &[String],
    suite: &FilePath,
) -> Result<TaskFile, Faults> {
    let (found, faults, _) = page::read(text, file, |page, root| {
        Some(page.task_file(root, quantizations, suite))
    });
    match found {
        Some(found) if faults.is_empty() => Ok(found),
        Some(_) | None => Err(faults),
    }
}

const COUNT: &str = "it is counted from one";
const CONTEXT: Range = Range {
    min: 64,
    max: MAX_CONTEXT_TOKENS,
    why: "a question and its answer must fit, and the cache into memory",
};

impl Page<'_> {
    fn manifest(&mut self, mut root: Part<'_>) -> Option<Manifest> {
        let formats = Range {
            min: FORMAT,
            max: FORMAT,
            why: "the format that this version knows",
        };
        let seqs = Range {
            min: 1,
            max: MAX_SEQ,
            why: COUNT,
        };
        let root = &mut root;
        let format = self.number(root, "format", formats);
        let name = self.parsed(
            root,
            "name",
            &format!("1 to {MAX_NAME_BYTES} of a-z, 0-9 and '-'"),
            |name| is_package_name(name).then(|| name.to_owned()),
        );
        let seq = self.number(root, "seq", seqs);
        let version = self.text(root, "version", MAX_WORD_BYTES);
        let description = self.text(root, "description", MAX_DESCRIPTION_BYTES);
        let license = self.text(root, "license", MAX_WORD_BYTES);
        let languages = self.optional(root, "languages", Self::languages);
        let data_digest = self.optional(root, "data_digest", |page, root| {
            page.parsed(
                root,
                "data_digest",
                "\"sha256:\" and 64 hexadecimal digits in small letters",
                |text| Digest::parse(text.strip_prefix("sha256:")?),
            )
        });
        let runtime = self.part(root, "runtime");
        let runtime = runtime.and_then(|part| self.runtime(part));
        let (variants, quantizations) = self.variants(root);
        let adapter = self.optional(root, "adapter", |page, root| {
            let part = page.part(root, "adapter")?;
            page.adapter(part, &variants)
        });
        let (files, listed) = self.files(root, &variants, adapter.as_ref());
        let (tasks, names) = self.tasks(root, Some(&listed));
        let curves = self.curves(root, &names, &quantizations);
        let risks = self.risks(root, &names, &quantizations);
        let bars = self.optional(root, "bars", |page, root| {
            let mut part = page.part(root, "bars")?;
            let suite = page.path(&mut part, "suite");
            if suite.as_ref().is_some_and(|suite| !listed.contains(suite)) {
                page.fault(&part, "suite", "a file that a [[file]] lists");
            }
            page.bars(part, suite, &names)
        });
        let estimate = self.estimate(root, &names);
        self.close(root);
        format?;
        Some(Manifest {
            name: name?,
            seq: seq?,
            version: version?,
            description: description?,
            license: license?,
            languages: languages.unwrap_or_default(),
            data_digest,
            runtime: runtime?,
            variants,
            adapter,
            files,
            tasks,
            curves,
            risks,
            bars,
            estimate,
        })
    }

    fn task_file(
        &mut self,
        mut root: Part<'_>,
        quantizations: &[String],
        suite: &FilePath,
    ) -> TaskFile {
        let root = &mut root;
        let text = |max| {
            move |page: &mut Self, root: &mut Part<'_>, key| {
                page.optional(root, key, |page, root| page.text(root, key, max))
            }
        };
        let version = text(MAX_WORD_BYTES)(self, root, "version");
        let description = text(MAX_DESCRIPTION_BYTES)(self, root, "description");
        let license = text(MAX_WORD_BYTES)(self, root, "license");
        let languages = self.optional(root, "languages", Self::languages);
        let runtime = self.optional(root, "runtime", |page, root| page.part(root, "runtime"));
        let (mut context_tokens, mut chat_template) = (None, None);
        if let Some(mut part) = runtime {
            context_tokens = self.optional(&mut part, "context_tokens", |page, part| {
                page.number(part, "context_tokens", CONTEXT)
            });
            chat_template = self.optional(&mut part, "chat_template", Self::chat_template);
            self.close(&part);
        }
        let adapter = self.optional(root, "adapter", |page, root| {
            let mut part = page.part(root, "adapter")?;
            let path = page.path(&mut part, "file");
            let scale = page.scale(&mut part);
            page.close(&part);
            Some((path?, scale?))
        });
        let (tasks, names) = self.tasks(root, None);
        let curves = self.curves(root, &names, quantizations);
        let bars = self.optional(root, "bars", |page, root| {
            let part = page.part(root, "bars")?;
            page.bars(part, Some(suite.clone()), &names)
        });
        let estimate = self.estimate(root, &names);
        self.close(root);
        TaskFile {
            version,
            description,
            license,
            languages: languages.unwrap_or_default(),
            context_tokens,
            chat_template,
            adapter,
            tasks,
            curves,
            bars,
            estimate,
        }
    }

    fn languages(&mut self, root: &mut Part<'_>) -> Option<Vec<String>> {
        let tag = |text: &str| {
            let plain = text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            (2..=16).contains(&text.len()) && plain
        };
        self.texts(
            root,
            "languages",
            MAX_LANGUAGES,
            "language tags such as \"en\"",
            tag,
        )
    }

    fn path(&mut self, part: &mut Part<'_>, key: &'static str) -> Option<FilePath> {
        let wanted = format!(
            "the path of a file inside the package: up to {MAX_PATH_PARTS} parts of letters, \
             digits, '.', '-' and '_', none hidden, joined by '/'"
        );
        self.parsed(part, key, &wanted, FilePath::parse)
    }

    fn chat_template(&mut self, part: &mut Part<'_>) -> Option<ChatTemplate> {
        let wanted = "\"chatml\", or \"gguf\" for the one in the model file";
        self.parsed(part, "chat_template", wanted, |word| match word {
            "chatml" => Some(ChatTemplate::ChatMl),
            "gguf" => Some(ChatTemplate::Gguf),
            _ => None,
        })
    }

    fn runtime(&mut self, mut part: Part<'_>) -> Option<Runtime> {
        let part = &mut part;
        let own = Version::own();
        let wanted = "a version such as \"0.1.0\"";
        let lineside = self.parsed(part, "lineside", wanted, Version::parse);
        if lineside.is_some_and(|oldest| oldest > own) {
            let wanted =
                format!("a version up to {own}, this appliance's: update it for this package");
            self.fault(part, "lineside", wanted);
        }
        let wanted = "the name of an architecture, such as \"llama\"";
        let architecture = self.parsed(part, "architecture", wanted, |name| {
            is_word(name).then(|| name.to_owned())
        });
        let context_tokens = self.number(part, "context_tokens", CONTEXT);
        let chat_template = self.chat_template(part);
        self.close(part);
        Some(Runtime {
            lineside: lineside?,
            architecture: architecture?,
            context_tokens: context_tokens?,
            chat_template: chat_template?,
        })
    }

    /// Path, size and digest.
    fn listed(&mut self, part: &mut Part<'_>, key: &'static str) -> Option<Listed> {
        let path = self.path(part, key);
        let own = |path: &FilePath| {
            UNLISTED.contains(&path.as_str()) || path.as_str().split('/').next() == Some(FIGURES)
        };
        if path.as_ref().is_some_and(own) {
            self.fault(part, key, "a file of the package: this one is never listed");
        }
        let sizes = Range {
            min: 1,
            max: MAX_FILE_BYTES,
            why: "the size of the file",
        };
        let bytes = self.number(part, "bytes", sizes);
        let digits = "64 hexadecimal digits in small letters";
        let sha256 = self.parsed(part, "sha256", digits, Digest::parse);
        Some(Listed {
            path: path?,
            bytes: bytes?,
            sha256: sha256?,
        })
    }

    /// The variants, and the quantizations that are named, be the rest right or not: a rule about
    /// a name shall not complain about what follows from another fault.
    fn variants(&mut self, root: &mut Part<'_>) -> (Vec<Variant>, Vec<String>) {
        let (mut variants, mut names): (Vec<Variant>, Vec<String>) = Default::default();
        for mut part in self.parts(root, "model", 1, MAX_VARIANTS) {
            let file = self.listed(&mut part, "file");
            let wanted = "the name of a quantization, such as \"Q4_K_M\"";
            let quantization = self.parsed(&mut part, "quantization", wanted, |name| {
                is_word(name).then(|| name.to_owned())
            });
            self.close(&part);
            if let Some(name) = &quantization {
                if names.contains(name) {
                    let wanted = "one that no variant before has: calibration goes by it";
                    self.fault(&part, "quantization", wanted);
                }
                names.push(name.clone());
            }
            let (Some(file), Some(quantization)) = (file, quantization) else {
                continue;
            };
            if variants.iter().any(|other| other.file.path == file.path) {
                self.fault(&part, "file", "a file that is listed once");
            }
            variants.push(Variant { file, quantization });
        }
        (variants, names)
    }

    fn adapter(&mut self, mut part: Part<'_>, variants: &[Variant]) -> Option<Adapter> {
        let file = self.listed(&mut part, "file");
        let scale = self.scale(&mut part);
        self.close(&part);
        let file = file?;
        if variants.iter().any(|other| other.file.path == file.path) {
            self.fault(&part, "file", "a file that is listed once");
        }
        Some(Adapter {
            file,
            scale: scale?,
        })
    }

    fn scale(&mut self, part: &mut Part<'_>) -> Option<f64> {
        let scale = self.real(part, "scale")?;
        let good = (0.0..=MAX_ADAPTER_SCALE).contains(&scale);
        if !good {
            let wanted =
                format!("a number from 0 to {MAX_ADAPTER_SCALE}; 1 is what it was trained for");
            self.fault(part, "scale", wanted);
        }
        good.then_some(scale)
    }

    /// The other files, and the paths that are named.
    fn files(
        &mut self,
        root: &mut Part<'_>,
        variants: &[Variant],
        adapter: Option<&Adapter>,
    ) -> (Vec<Listed>, Vec<FilePath>) {
        let (mut files, mut paths): (Vec<Listed>, Vec<FilePath>) = Default::default();
        for mut part in self.parts(root, "file", 0, MAX_FILES) {
            let file = self.listed(&mut part, "path");
            self.close(&part);
            paths.extend(part.text_of("path").and_then(FilePath::parse));
            let Some(file) = file else { continue };
            let known = files.iter().map(|other| &other.path);
            let known = known.chain(variants.iter().map(|variant| &variant.file.path));
            let known = known.chain(adapter.map(|adapter| &adapter.file.path));
            if known.into_iter().any(|path| *path == file.path) {
                self.fault(&part, "path", "a file that is listed once");
            }
            files.push(file);
        }
        (files, paths)
    }
}
