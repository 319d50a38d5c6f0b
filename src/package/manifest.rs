//! What a manifest says, without a trace of TOML.
//!
//! Every limit of a package stands here, once, with its unit and its reason; those of a model
//! file, a curve and the gate suite stand beside their readers.

use std::fmt;

use super::calibration::{Calibration, Method};
use super::estimate::Estimate;
use super::risk::RiskPoints;
use super::task::Task;

/// The version of the format that this reader knows.
pub const FORMAT: u64 = 1;
/// Bytes of a manifest. The bundled one takes a fiftieth of it.
pub const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// Variants of a model: the usual ladder of quantizations has eight steps.
pub const MAX_VARIANTS: usize = 16;
/// Other files: a grammar for each task, and room.
pub const MAX_FILES: usize = 256;
/// Tasks: each has a prefix that stays decoded in memory.
pub const MAX_TASKS: usize = 64;
/// Choices of an answer; each is scored in full.
pub const MAX_CHOICES: usize = 64;
/// Bytes of one choice: a label, not a sentence.
pub const MAX_CHOICE_BYTES: usize = 128;
/// Bytes of an instruction; it counts against the context of every request.
pub const MAX_SYSTEM_BYTES: usize = 16 << 10;
/// Bytes of an input's template: a sentence around each variable.
pub const MAX_INPUT_TEMPLATE_BYTES: usize = 4 << 10;
/// Variables of a task: a form that a person could still fill in.
pub const MAX_VARIABLES: usize = 32;
/// Bytes of a text variable where the manifest sets no limit: a long paragraph.
pub const USUAL_VARIABLE_BYTES: u64 = 4 << 10;
/// Bytes of a text variable at most: more is no message.
pub const MAX_VARIABLE_BYTES: u64 = 64 << 10;
/// Bytes of a grammar or a schema. Compiling a larger one takes seconds on a small board.
pub const MAX_RULE_BYTES: u64 = 64 << 10;
/// Bytes of a name, as in the topics and requests that carry it.
pub const MAX_NAME_BYTES: usize = 64;
/// Bytes of a version or a license's name.
pub const MAX_WORD_BYTES: usize = 64;
/// Bytes of the description: a paragraph on a page about the appliance.
pub const MAX_DESCRIPTION_BYTES: usize = 1024;
/// Languages that are named.
pub const MAX_LANGUAGES: usize = 32;
/// Bytes of a path inside the package, which must fit beside any folder's.
pub const MAX_PATH_BYTES: usize = 200;
/// Folders and file of a path.
pub const MAX_PATH_PARTS: usize = 4;
/// Tokens of an answer, as for a request.
pub const MAX_ANSWER_TOKENS: u64 = 4096;
/// Tokens of context: no board holds the cache of more.
pub const MAX_CONTEXT_TOKENS: u64 = 1 << 20;
/// The greatest sequence number: what TOML and JSON readers everywhere carry exactly.
pub const MAX_SEQ: u64 = 1 << 53;
/// Bytes of one file: a model of seventy billion weights in eight bits, and room.
pub const MAX_FILE_BYTES: u64 = 1 << 38;

/// The greatest scale of an adapter. One is what it was trained for; beyond a few times that, it
/// drowns the model.
pub const MAX_ADAPTER_SCALE: f64 = 4.0;

/// Everything that a manifest says.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The package's name.
    pub name: String,
    /// Grows with every release, and never goes back on a device.
    pub seq: u64,
    /// The version for people.
    pub version: String,
    /// What it is for.
    pub description: String,
    /// Under which terms.
    pub license: String,
    /// Which languages it was made for.
    pub languages: Vec<String>,
    /// Digest of what the model was trained on, where that is known.
    pub data_digest: Option<Digest>,
    /// What it takes to run it.
    pub runtime: Runtime,
    /// The variants of its model, best first.
    pub variants: Vec<Variant>,
    /// What was learnt on top of the model, for every variant of it.
    pub adapter: Option<Adapter>,
    /// Every other file.
    pub files: Vec<Listed>,
    /// What it can be asked for.
    pub tasks: Vec<Task>,
    /// How far to believe it.
    pub curves: Vec<Curve>,
    /// How sure an answer must be, where a site says how many errors it can bear.
    pub risks: Vec<Risk>,
    /// What it must reach on a device before it serves there.
    pub bars: Option<Bars>,
    /// What its requests are like before its model sees them.
    pub estimate: Option<Estimate>,
}

/// What it takes to run a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// The oldest appliance that can serve it.
    pub lineside: Version,
    /// The family of networks, as in the model files.
    pub architecture: String,
    /// Context that a request gets at least.
    pub context_tokens: u64,
    /// How the model is spoken to.
    pub chat_template: ChatTemplate,
}

/// Where the template of a conversation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatTemplate {
    /// It is `ChatML`, whatever the file says.
    ChatMl,
    /// The model file has one.
    Gguf,
}

impl ChatTemplate {
    /// The word in a manifest.
    pub fn word(self) -> &'static str {
        match self {
            Self::ChatMl => "chatml",
            Self::Gguf => "gguf",
        }
    }
}

/// One model file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The file.
    pub file: Listed,
    /// How its weights are stored.
    pub quantization: String,
}

/// A low-rank adapter, which changes a model's matrices as it is loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// The file.
    pub file: Listed,
    /// How much of it counts, from 0 (nothing) to [`MAX_ADAPTER_SCALE`].
    pub scale: f64,
}

/// A file with its size and digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Where it lies in the package.
    pub path: FilePath,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// A curve and what it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// The task.
    pub task: String,
    /// The variant.
    pub quantization: String,
    /// How it was found.
    pub method: Method,
    /// The curve.
    pub calibration: Calibration,
}

/// What keeps errors to a share, and what it is for. In terms of the calibrated confidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Risk {
    /// The task.
    pub task: String,
    /// The variant.
    pub quantization: String,
    /// By how many labelled answers it was found.
    pub labels: u64,
    /// The confidence for each share.
    pub points: RiskPoints,
}

/// What the gate demands on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    /// The suite that it runs.
    pub suite: FilePath,
    /// Memory that serving may take.
    pub memory_bytes: Option<u64>,
    /// The median time of an answer.
    pub latency_ms: Option<u64>,
    /// How far confidence may be off, on average.
    pub calibration_error: Option<f64>,
    /// Task by task, the share of items that are answered entirely right.
    pub accuracy: Vec<(String, f64)>,
}

/// The path of a file inside a package: it cannot leave the folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilePath(String);

impl FilePath {
    /// The path, if it is one: parts of plain letters, digits, '.', '-' and '_', none of them
    /// hidden, joined by '/'.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |part: &str| {
            let bytes = part.bytes();
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !part.is_empty() && !part.starts_with('.') && bytes.into_iter().all(known)
        };
        let good = text.len() <= MAX_PATH_BYTES
            && text.split('/').count() <= MAX_PATH_PARTS
            && text.split('/').all(plain);
        good.then(|| Self(text.to_owned()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::finished(&ring::digest::digest(&ring::digest::SHA256, bytes))
    }

    pub(crate) fn finished(digest: &ring::digest::Digest) -> Self {
        let bytes = digest.as_ref().try_into();
        Self(bytes.expect("a SHA-256 has 32 bytes"))
    }

    /// The digest, from 64 hexadecimal digits in small letters.
    pub fn parse(hex: &str) -> Option<Self> {
        let small = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if hex.len() != 64 || !hex.bytes().all(small) {
            return None;
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A version of the appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub [u32; 3]);

impl Version {
    /// The version, from three numbers with dots between.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut number = || {
            let part = parts.next()?;
            let digits = (1..=9).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            let number = part.parse().ok()?;
            digits.then_some(number)
        };
        let version = [number()?, number()?, number()?];
        parts.next().is_none().then_some(Self(version))
    }

    /// This appliance's.
    pub fn own() -> Self {
        Self::parse(env!("CARGO_PKG_VERSION")).expect("the crate's version is three numbers")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// Whether a text can name a package.
pub fn is_package_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(known)
}

/// Whether a text can name a variable: as a template writes it.
pub fn is_variable_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(known)
        && !name.starts_with(|first: char| first.is_ascii_digit())
}

/// Whether a text can name a task, a prompt's version, or a field of an answer.
pub fn is_word(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(known)
}
