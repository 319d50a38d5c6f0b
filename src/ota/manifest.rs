//! The manifest of a package over the air: the one file that is signed, and that names all others.
//!
//! ```text
//!  TUF target NAME-SEQ.json ─► manifest ─┬─► sheet: the folder's manifest.toml, with prompts,
//!     (length, SHA-256)                  │          tasks, thresholds, calibration and bars
//!                                        ├─► files: grammars, schemas, the gate suite, an adapter
//!                                        └─► variants: one model in several quantizations, best
//!                                                first, each with what its header says
//! ```
//!
//! Purpose: [`Manifest::parse`] turns verified bytes into something that a download can be planned
//! from, before anything else was fetched.
//!
//! Invariants: what was parsed has distinct paths that cannot leave the package's folder, objects
//! with one digest for each chunk, and no more of anything than a package may have.
//!
//! How it fails: [`ManifestError`] names the part. The bytes are signed; a fault here is a mistake
//! of the signer's, or a format of another version.

use serde::{Deserialize, Serialize};

use super::object::{Object, ObjectError};
use crate::package::gguf::Header;
use crate::package::{
    self, Digest, FilePath, MAX_FILES, MAX_SEQ, MAX_VARIANTS, MAX_WORD_BYTES, Manifest as Sheet,
};

/// The version of the format.
pub const FORMAT: u64 = 1;
/// Bytes of a manifest: the digests of a ladder of quantizations that has 800 GB in all.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// What a package consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its name.
    pub name: String,
    /// Its number; never goes back.
    pub seq: u64,
    /// The folder's own manifest, which lists every variant.
    pub sheet: Object,
    /// The model's variants, best first.
    pub variants: Vec<Variant>,
    /// Every other file.
    pub files: Vec<File>,
}

/// A file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it lies in the folder.
    pub path: FilePath,
    /// What it is.
    pub object: Object,
}

/// A variant of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// How its weights are stored.
    pub quantization: String,
    /// Its file.
    pub file: File,
    /// What its file's header says. Held against the file once its beginning is there.
    pub facts: Facts,
}

/// The figures of a GGUF header, for people and for tools that do not fetch the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The family of networks.
    pub architecture: String,
    /// Tokens that it was trained to look back on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u64>,
    /// The width of the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_length: Option<u64>,
    /// Its depth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_count: Option<u64>,
    /// Attention heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<u64>,
    /// Heads of keys and values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<u64>,
    /// The width of a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_length: Option<u64>,
    /// The width of a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_length: Option<u64>,
    /// Tokens of the vocabulary.
    pub vocabulary: u64,
    /// Weights.
    pub parameters: u64,
    /// Tensors.
    pub tensors: u64,
    /// Bytes that they take.
    pub tensor_bytes: u64,
    /// Where they begin.
    pub data_offset: u64,
}

impl Facts {
    /// Those of a header.
    pub fn of(header: &Header) -> Self {
        Self {
            architecture: header.architecture.clone(),
            context_tokens: header.context_tokens,
            embedding_length: header.embedding_length,
            block_count: header.block_count,
            heads: header.heads,
            kv_heads: header.kv_heads,
            key_length: header.key_length,
            value_length: header.value_length,
            vocabulary: header.vocabulary,
            parameters: header.parameters,
            tensors: header.tensors,
            tensor_bytes: header.tensor_bytes,
            data_offset: header.data_offset,
        }
    }
}

/// Why a manifest cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is longer than any.
    #[error("it has {0} bytes: no manifest has more than {MAX_MANIFEST_BYTES}")]
    TooLong(u64),
    /// It is no JSON of this shape.
    #[error("it cannot be read: {0}")]
    Json(String),
    /// A version of the format that is not read here.
    #[error("format {0}: this appliance reads format {FORMAT}; update it for this package")]
    Format(u64),
    /// A part is none.
    #[error("{part}: {wanted}")]
    Part {
        /// Which.
        part: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// A file that cannot be.
    #[error("{part}: {error}")]
    Object {
        /// Which.
        part: String,
        /// What is wrong.
        error: ObjectError,
    },
    /// It and the folder's own manifest say different things.
    #[error("the package's own manifest disagrees with the signed one about {0}")]
    Disagrees(String),
}

#[derive(Serialize, Deserialize)]
struct Version {
    format: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: u64,
    name: String,
    seq: u64,
    sheet: WireObject,
    variants: Vec<WireVariant>,
    files: Vec<WireFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireObject {
    bytes: u64,
    sha256: String,
    /// Where there is more than one chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunk_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    chunks: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireVariant {
    quantization: String,
    path: String,
    object: WireObject,
    header: Facts,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireFile {
    path: String,
    object: WireObject,
}

impl Manifest {
    /// Reads a manifest whose bytes were verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLong(bytes.len() as u64));
        }
        let json = |error: serde_json::Error| ManifestError::Json(error.to_string());
        // Another format may have another shape: that it is another is then the better word.
        let version: Version = serde_json::from_slice(bytes).map_err(json)?;
        if version.format != FORMAT {
            return Err(ManifestError::Format(version.format));
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(json)?;
        if !package::is_package_name(&wire.name) {
            return Err(part("name", "1 to 64 of a-z, 0-9 and '-'"));
        }
        if !(1..=MAX_SEQ).contains(&wire.seq) {
            return Err(part("seq", "a number from 1 to 2^53"));
        }
        if !(1..=MAX_VARIANTS).contains(&wire.variants.len()) {
            return Err(part("variants", "1 to 16 of them"));
        }
        // An adapter is a file like any other here.
        if wire.files.len() > MAX_FILES + 1 {
            return Err(part("files", "257 at most"));
        }
        let sheet = object("sheet", &wire.sheet)?;
        let variants = wire.variants.into_iter().map(variant);
        let variants = variants.collect::<Result<Vec<_>, _>>()?;
        let files = wire.files.iter().map(|it| file(&it.path, &it.object));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let manifest = Self {
            name: wire.name,
            seq: wire.seq,
            sheet,
            variants,
            files,
        };
        manifest.distinct()?;
        Ok(manifest)
    }

    /// Its bytes, the same for the same manifest.
    pub fn to_json(&self) -> String {
        let wire = Wire {
            format: FORMAT,
            name: self.name.clone(),
            seq: self.seq,
            sheet: wire_object(&self.sheet),
            variants: (self.variants.iter())
                .map(|variant| WireVariant {
                    quantization: variant.quantization.clone(),
                    path: variant.file.path.as_str().to_owned(),
                    object: wire_object(&variant.file.object),
                    header: variant.facts.clone(),
                })
                .collect(),
            files: (self.files.iter())
                .map(|file| WireFile {
                    path: file.path.as_str().to_owned(),
                    object: wire_object(&file.object),
                })
                .collect(),
        };
        let text = serde_json::to_string_pretty(&wire);
        text.expect("a tree of texts and numbers has a JSON form") + "\n"
    }

    /// The name of the target that it is.
    pub fn target_name(&self) -> String {
        format!("{}-{}.json", self.name, self.seq)
    }

    fn distinct(&self) -> Result<(), ManifestError> {
        let models = self.variants.iter().map(|variant| &variant.file.path);
        let mut paths: Vec<_> = models
            .chain(self.files.iter().map(|file| &file.path))
            .collect();
        paths.sort();
        if let Some(twice) = paths.windows(2).find(|two| two[0] == two[1]) {
            return Err(part(twice[0].as_str(), "a path that stands there once"));
        }
        let mut names: Vec<_> = self.variants.iter().map(|it| &it.quantization).collect();
        names.sort();
        match names.windows(2).find(|two| two[0] == two[1]) {
            Some(twice) => Err(part(twice[0], "a quantization that stands there once")),
            None => Ok(()),
        }
    }

    /// Holds the folder's own manifest against this one: name, number, and every file.
    pub fn agrees(&self, sheet: &Sheet) -> Result<(), ManifestError> {
        let disagrees = |what: &str| Err(ManifestError::Disagrees(what.to_owned()));
        if sheet.name != self.name {
            return disagrees("the name");
        }
        if sheet.seq != self.seq {
            return disagrees("the number");
        }
        if sheet.variants.len() != self.variants.len() {
            return disagrees("the variants");
        }
        for (listed, own) in sheet.variants.iter().zip(&self.variants) {
            let same = listed.quantization == own.quantization;
            if !same || !is_listed(&listed.file, &own.file) {
                return disagrees(own.file.path.as_str());
            }
        }
        let adapter = sheet.adapter.iter().map(|adapter| &adapter.file);
        let listed: Vec<_> = adapter.chain(&sheet.files).collect();
        if listed.len() != self.files.len() {
            return disagrees("the files");
        }
        for file in listed {
            if !self.files.iter().any(|own| is_listed(file, own)) {
                return disagrees(file.path.as_str());
            }
        }
        Ok(())
    }
}

fn is_listed(listed: &package::Listed, own: &File) -> bool {
    listed.path == own.path
        && listed.bytes == own.object.bytes()
        && listed.sha256 == own.object.sha256()
}

fn part(part: &str, wanted: &'static str) -> ManifestError {
    let part = crate::fault::quoted(part);
    ManifestError::Part { part, wanted }
}

fn variant(wire: WireVariant) -> Result<Variant, ManifestError> {
    if !package::is_word(&wire.quantization) {
        return Err(part(&wire.quantization, "the name of a quantization"));
    }
    if !(1..=MAX_WORD_BYTES).contains(&wire.header.architecture.len()) {
        let what = "an architecture of 1 to 64 bytes";
        return Err(part(&wire.header.architecture, what));
    }
    Ok(Variant {
        quantization: wire.quantization,
        file: file(&wire.path, &wire.object)?,
        facts: wire.header,
    })
}

fn file(path: &str, wire: &WireObject) -> Result<File, ManifestError> {
    let wanted = "a path inside the package";
    let parsed = FilePath::parse(path).ok_or_else(|| part(path, wanted))?;
    if package::UNLISTED.contains(&path) {
        return Err(part(
            path,
            "a file of its own name: this one is never listed",
        ));
    }
    Ok(File {
        path: parsed,
        object: object(path, wire)?,
    })
}

fn object(name: &str, wire: &WireObject) -> Result<Object, ManifestError> {
    let digest = |hex: &String| {
        let wanted = "digests of 64 hexadecimal digits in small letters";
        Digest::parse(hex).ok_or_else(|| part(name, wanted))
    };
    let sha256 = digest(&wire.sha256)?;
    let chunks = wire.chunks.iter().map(digest);
    let chunks = chunks.collect::<Result<Vec<_>, _>>()?;
    let made = match wire.chunk_bytes {
        Some(chunk_bytes) => Object::new(sha256, wire.bytes, chunk_bytes, chunks),
        None if chunks.is_empty() => Object::single(sha256, wire.bytes),
        None => return Err(part(name, "chunk_bytes beside chunks")),
    };
    made.map_err(|error| ManifestError::Object {
        part: name.to_owned(),
        error,
    })
}

fn wire_object(object: &Object) -> WireObject {
    let several = !object.chunks().is_empty();
    WireObject {
        bytes: object.bytes(),
        sha256: object.sha256().to_string(),
        chunk_bytes: several.then_some(object.chunk_bytes()),
        chunks: object.chunks().iter().map(Digest::to_string).collect(),
    }
}

#[cfg(test)]
mod tests;
