//! The header of a GGUF file: what a model is, read without loading it.
//!
//! ```text
//!  "GGUF" version tensors pairs │ key kind value … │ name shape kind offset … │ padding │ data …
//!  └─────── fixed ────────────┘ └──── metadata ───┘ └────── tensors ─────────┘           └ not read
//! ```
//!
//! Purpose: a file may come from anywhere, so this reader is what decides whether llama.cpp gets
//! to see it. It reads versions 2 and 3 and takes from them what the manifest is held against.
//!
//! Invariants: it never panics, never holds more than the header's own bytes, never reads beyond
//! [`MAX_HEADER_BYTES`], and accepts no tensor that ends behind the file.
//!
//! How it fails: [`GgufError`] says what is wrong and, for a place in the file, at which byte.

mod kinds;
mod layout;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

pub use layout::{Layout, Matrices};
pub use source::GgufError;
use source::{Kind, Source};

/// Bytes of a header. The largest vocabularies with their merges take a tenth of it.
pub const MAX_HEADER_BYTES: u64 = 128 << 20;
/// Metadata pairs. Converters write some forty; more than this is no model.
pub const MAX_PAIRS: u64 = 4096;
/// Tensors. Mixtures of hundreds of experts have a few thousand.
pub const MAX_TENSORS: u64 = 1 << 16;
/// Dimensions of a tensor, as in ggml.
pub const MAX_DIMENSIONS: u32 = 4;
/// Bytes of a key or of a tensor's name. llama.cpp's own stay below a tenth of it.
pub const MAX_NAME_BYTES: u64 = 1024;
/// Bytes of a text that is kept: the longest chat templates have some tens of thousands. A longer
/// one is passed over.
pub const MAX_TEXT_BYTES: u64 = 1 << 20;
/// Bytes between which tensors may be aligned at most: a page of the largest kind.
const MAX_ALIGNMENT: u64 = 1 << 21;
/// Where the file does not say.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Markers that are kept: the largest vocabularies reserve some six thousand.
const MAX_MARKERS: usize = 16 << 10;

/// What a GGUF file says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// The version of its format.
    pub version: u32,
    /// The family of networks, such as `llama`.
    pub architecture: String,
    /// The model's own name, if it has one.
    pub name: Option<String>,
    /// Tokens that it was trained to look back on.
    pub context_tokens: Option<u64>,
    /// The width of the network.
    pub embedding_length: Option<u64>,
    /// Its depth.
    pub block_count: Option<u64>,
    /// Attention heads; the most of any block, where they differ.
    pub heads: Option<u64>,
    /// Heads of keys and values, in the same way.
    pub kv_heads: Option<u64>,
    /// The width of a key; the embedding shared among the heads, where the file does not say.
    pub key_length: Option<u64>,
    /// The width of a value, in the same way.
    pub value_length: Option<u64>,
    /// The width of the widest layer inside a block.
    pub feed_forward: Option<u64>,
    /// Bytes of the state that one block keeps for a sequence, where blocks do so.
    pub state_bytes: u64,
    /// Tokens of the vocabulary.
    pub vocabulary: u64,
    /// Bytes of all their texts.
    pub vocabulary_bytes: u64,
    /// Pairs of tokens that the tokenizer merges.
    pub merges: u64,
    /// Weights, counted from the tensors' shapes.
    pub parameters: u64,
    /// How most of them are stored: the name of `general.file_type`, if it is known.
    pub quantization: Option<&'static str>,
    /// The kind of tokenizer, such as `gpt2` or `llama`.
    pub tokenizer: Option<String>,
    /// The template of a conversation.
    pub chat_template: Option<String>,
    /// Tokens of the vocabulary that stand in brackets, as those of chat templates do.
    pub markers: BTreeSet<String>,
    /// The token that ends an answer.
    pub eos_id: Option<u64>,
    /// The token that begins a text.
    pub bos_id: Option<u64>,
    /// The text of that one, if it stands in brackets.
    pub bos: Option<String>,
    /// The text of the token that ends an answer, likewise.
    pub eos: Option<String>,
    /// Whether a text begins with it.
    pub adds_bos: Option<bool>,
    /// Files that the model was split into.
    pub splits: u64,
    /// Tensors.
    pub tensors: u64,
    /// Bytes that they take.
    pub tensor_bytes: u64,
    /// Where they begin in the file.
    pub data_offset: u64,
    /// What they say of the network.
    pub layout: Layout,
}

/// What a GGUF file with a low-rank adapter says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdapterHeader {
    /// The family of networks that it was trained for.
    pub architecture: String,
    /// What kind of file it calls itself: `adapter`.
    pub general_type: Option<String>,
    /// What kind of adapter: `lora`.
    pub adapter_type: Option<String>,
    /// Whether its `adapter.lora.alpha` is missing or a number as llama.cpp wants it, which ends
    /// the process over any other.
    pub has_sound_alpha: bool,
    /// Its halves of matrices.
    pub tensors: Tensors,
}

/// The tensors of a file by their names.
pub type Tensors = BTreeMap<String, Tensor>;

/// A tensor, without its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its sides; those that it does not have are 1.
    pub shape: [u64; MAX_DIMENSIONS as usize],
    /// The number of the way in which it is stored.
    pub kind: u32,
}

/// A value as far as it is kept.
#[derive(Debug)]
enum Value {
    Whole(u64),
    /// A negative whole number, or a fraction of another width than the next: nothing here is one.
    Other,
    /// A fraction of four bytes, which one is not kept.
    Fraction,
    Yes(bool),
    Text(String),
    /// Of its items there are only the count, the greatest whole number and the bytes of texts.
    List {
        count: u64,
        greatest: Option<u64>,
        bytes: u64,
    },
}

/// Reads a header from the beginning of a file of `file_bytes`. Wrap a file in a
/// [`std::io::BufReader`]: the header is read in small pieces.
pub fn read(from: impl Read, file_bytes: u64) -> Result<Header, GgufError> {
    let (header, _) = read_all(from, file_bytes, |_, _| {})?;
    Ok(header)
}

/// Reads the tensors of a model, likewise.
pub fn read_tensors(from: impl Read, file_bytes: u64) -> Result<Tensors, GgufError> {
    let mut tensors = Tensors::new();
    read_all(from, file_bytes, |name, tensor| {
        tensors.insert(name.to_owned(), tensor);
    })?;
    Ok(tensors)
}

/// Reads the header of an adapter, likewise.
pub fn read_adapter(from: impl Read, file_bytes: u64) -> Result<AdapterHeader, GgufError> {
    let mut tensors = Tensors::new();
    let (header, metadata) = read_all(from, file_bytes, |name, tensor| {
        tensors.insert(name.to_owned(), tensor);
    })?;
    Ok(AdapterHeader {
        architecture: header.architecture,
        general_type: metadata.text("general.type"),
        adapter_type: metadata.text("adapter.type"),
        has_sound_alpha: matches!(
            metadata.0.get("adapter.lora.alpha"),
            None | Some(Value::Fraction)
        ),
        tensors,
    })
}

fn read_all(
    from: impl Read,
    file_bytes: u64,
    mut see: impl FnMut(&str, Tensor),
) -> Result<(Header, Metadata), GgufError> {
    let mut source = Source::new(from, file_bytes);
    let version = source.version()?;
    let tensors = source.u64()?;
    let pairs = source.u64()?;
    GgufError::limit("tensors", tensors, MAX_TENSORS)?;
    GgufError::limit("metadata pairs", pairs, MAX_PAIRS)?;

    let mut header = Header {
        version,
        tensors,
        ..Header::default()
    };
    let (mut values, mut markers) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..pairs {
        let key = source.text("bytes of a key", MAX_NAME_BYTES)?;
        let value = value(&mut source, &key, &mut markers)?;
        if values.insert(key.clone(), value).is_some() {
            return Err(GgufError::Twice(key));
        }
    }
    let alignment = match values.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(Value::Whole(bytes)) if bytes.is_power_of_two() && *bytes <= MAX_ALIGNMENT => *bytes,
        Some(_) => return Err(GgufError::Alignment),
    };
    let extent = weights(&mut source, &mut header, alignment, &mut see)?;
    header.data_offset = source.at().next_multiple_of(alignment);
    let end = header.data_offset.saturating_add(extent);
    if end > file_bytes {
        return Err(GgufError::Truncated {
            needed: end,
            there: file_bytes,
        });
    }
    let metadata = Metadata(values);
    header.describe(&metadata)?;
    let marker = |id: Option<u64>| markers.get(&id?).cloned();
    (header.bos, header.eos) = (marker(header.bos_id), marker(header.eos_id));
    header.markers = markers.into_values().collect();
    Ok((header, metadata))
}

fn value<R: Read>(
    source: &mut Source<R>,
    key: &str,
    markers: &mut BTreeMap<u64, String>,
) -> Result<Value, GgufError> {
    let kind = source.kind()?;
    match kind {
        Kind::Text => {
            let length = source.u64()?;
            if length <= MAX_TEXT_BYTES {
                Ok(Value::Text(source.text_of(length)?))
            } else {
                source.skip(length)?;
                Ok(Value::Other)
            }
        }
        Kind::List => {
            let items = source.kind()?;
            let count = source.u64()?;
            // Before anything is read: so many items cannot be there.
            source.room(count.saturating_mul(items.least_bytes()))?;
            let (mut greatest, begin) = (None, source.at());
            match items {
                Kind::List => return Err(GgufError::Nested(key.to_owned())),
                Kind::Text if key == "tokenizer.ggml.tokens" => {
                    for id in 0..count {
                        let marker = source.marker()?;
                        let marker = marker.filter(|_| markers.len() < MAX_MARKERS);
                        markers.extend(marker.map(|marker| (id, marker)));
                    }
                }
                Kind::Text => {
                    for _ in 0..count {
                        let length = source.u64()?;
                        source.skip(length)?;
                    }
                }
                Kind::Whole { .. } => {
                    for _ in 0..count {
                        greatest = greatest.max(source.whole(items)?);
                    }
                }
                Kind::Fraction { .. } | Kind::Yes => source.skip(count * items.least_bytes())?,
            }
            let bytes = match items {
                // Each stands behind its length.
                Kind::Text => (source.at() - begin).saturating_sub(count.saturating_mul(8)),
                Kind::List | Kind::Whole { .. } | Kind::Fraction { .. } | Kind::Yes => 0,
            };
            Ok(Value::List {
                count,
                greatest,
                bytes,
            })
        }
        Kind::Whole { .. } => Ok(source.whole(kind)?.map_or(Value::Other, Value::Whole)),
        Kind::Yes => Ok(Value::Yes(source.byte()? != 0)),
        Kind::Fraction { bytes } => {
            source.skip(bytes)?;
            Ok(if bytes == 4 {
                Value::Fraction
            } else {
                Value::Other
            })
        }
    }
}

/// Counts the weights, and returns how far the data goes.
fn weights<R: Read>(
    source: &mut Source<R>,
    header: &mut Header,
    alignment: u64,
    see: &mut impl FnMut(&str, Tensor),
) -> Result<u64, GgufError> {
    let mut extent = 0;
    for _ in 0..header.tensors {
        let name = source.text("bytes of a tensor's name", MAX_NAME_BYTES)?;
        let dimensions = source.u32()?;
        GgufError::limit("dimensions", dimensions.into(), MAX_DIMENSIONS.into())?;
        let mut shape = [1; MAX_DIMENSIONS as usize];
        for side in shape.iter_mut().take(dimensions as usize) {
            *side = source.u64()?;
        }
        let kind = source.u32()?;
        let offset = source.u64()?;
        let wrong = |what| GgufError::Tensor {
            name: name.clone(),
            what,
        };
        let count = shape
            .iter()
            .try_fold(1u64, |product, side| product.checked_mul(*side));
        let count = count.ok_or_else(|| wrong("has more weights than can be counted"))?;
        let (block, bytes) =
            kinds::block(kind).ok_or_else(|| wrong("is stored in an unknown way"))?;
        if !shape[0].is_multiple_of(block) {
            return Err(wrong("has rows that are no whole blocks"));
        }
        if !offset.is_multiple_of(alignment) {
            return Err(wrong("is not aligned"));
        }
        let bytes = (count / block).checked_mul(bytes);
        let end = bytes.and_then(|bytes| offset.checked_add(bytes));
        let (Some(bytes), Some(end)) = (bytes, end) else {
            return Err(wrong("ends behind every file"));
        };
        extent = extent.max(end);
        header.parameters = header.parameters.saturating_add(count);
        header.tensor_bytes = header.tensor_bytes.saturating_add(bytes);
        header.layout.see(&name, Tensor { shape, kind }, bytes);
        see(&name, Tensor { shape, kind });
    }
    Ok(extent)
}

impl Header {
    /// Takes the facts out of the metadata.
    fn describe(&mut self, metadata: &Metadata) -> Result<(), GgufError> {
        let architecture = metadata.text("general.architecture");
        self.architecture = architecture.ok_or(GgufError::Nameless)?;
        let own = |key: &str| metadata.whole(&format!("{}.{key}", self.architecture));
        self.context_tokens = own("context_length");
        self.embedding_length = own("embedding_length");
        self.block_count = own("block_count");
        self.heads = own("attention.head_count");
        self.kv_heads = own("attention.head_count_kv").or(self.heads);
        let shared = || self.embedding_length?.checked_div(self.heads?);
        self.key_length = own("attention.key_length").or_else(shared);
        self.value_length = own("attention.value_length").or_else(shared);
        let tokens = metadata.count("tokenizer.ggml.tokens");
        self.vocabulary = tokens.or_else(|| own("vocab_size")).unwrap_or_default();
        self.vocabulary_bytes = metadata.bytes("tokenizer.ggml.tokens");
        self.merges = metadata.count("tokenizer.ggml.merges").unwrap_or_default();
        self.feed_forward = own("feed_forward_length");
        self.state_bytes = state_bytes(&own);
        self.name = metadata.text("general.name");
        self.quantization = metadata.whole("general.file_type").and_then(kinds::name);
        self.tokenizer = metadata.text("tokenizer.ggml.model");
        self.chat_template = metadata.text("tokenizer.chat_template");
        self.eos_id = metadata.whole("tokenizer.ggml.eos_token_id");
        self.bos_id = metadata.whole("tokenizer.ggml.bos_token_id");
        self.adds_bos = metadata.yes("tokenizer.ggml.add_bos_token");
        self.splits = metadata.whole("split.count").unwrap_or(1).max(1);
        Ok(())
    }
}

/// Numbers of four bytes that a block keeps for each sequence: what a convolution looks back on, and
/// the state itself. Networks that call it otherwise keep a matrix for each head.
fn state_bytes(own: &impl Fn(&str) -> Option<u64>) -> u64 {
    let numbers = match (own("ssm.inner_size"), own("ssm.state_size")) {
        (Some(inner), Some(state)) => {
            let groups = own("ssm.group_count").unwrap_or_default();
            let back = own("ssm.conv_kernel").unwrap_or(1).saturating_sub(1);
            let channels = inner.saturating_add(groups.saturating_mul(state).saturating_mul(2));
            (back.saturating_mul(channels)).saturating_add(inner.saturating_mul(state))
        }
        _ => match (own("wkv.head_size"), own("embedding_length")) {
            (Some(head), Some(width)) => head.saturating_add(2).saturating_mul(width),
            _ => 0,
        },
    };
    numbers.saturating_mul(4)
}

struct Metadata(BTreeMap<String, Value>);

impl Metadata {
    fn text(&self, key: &str) -> Option<String> {
        match self.0.get(key)? {
            Value::Text(text) => Some(text.clone()),
            Value::Whole(_)
            | Value::Other
            | Value::Fraction
            | Value::Yes(_)
            | Value::List { .. } => None,
        }
    }

    /// A number; of a list, which has one for each block, the greatest.
    fn whole(&self, key: &str) -> Option<u64> {
        match self.0.get(key)? {
            Value::Whole(number) => Some(*number),
            Value::List { greatest, .. } => *greatest,
            Value::Text(_) | Value::Other | Value::Fraction | Value::Yes(_) => None,
        }
    }

    fn yes(&self, key: &str) -> Option<bool> {
        match self.0.get(key)? {
            Value::Yes(yes) => Some(*yes),
            Value::Text(_)
            | Value::Other
            | Value::Fraction
            | Value::Whole(_)
            | Value::List { .. } => None,
        }
    }

    /// Of a list of texts.
    fn bytes(&self, key: &str) -> u64 {
        match self.0.get(key) {
            Some(Value::List { bytes, .. }) => *bytes,
            Some(
                Value::Text(_) | Value::Other | Value::Fraction | Value::Whole(_) | Value::Yes(_),
            )
            | None => 0,
        }
    }

    fn count(&self, key: &str) -> Option<u64> {
        match self.0.get(key)? {
            Value::List { count, .. } => Some(*count),
            Value::Text(_) | Value::Other | Value::Fraction | Value::Whole(_) | Value::Yes(_) => {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
