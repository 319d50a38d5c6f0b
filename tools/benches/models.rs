//! Models to measure with: real shapes, random weights, the bundled model's tokenizer.
//!
//! `tools/bench models DIR [--f16]` writes two networks of the `llama` architecture, of about a
//! hundred and five hundred million weights, in `Q8_0` or, with `--f16`, in `F16`, from which
//! `answer quantize` makes the other kinds. They answer nonsense, at the speed of a model of
//! that size; and since their tokenizer is the bundled one, the same prompts make the same
//! tokens in all of them.
//!
//! Invariants: the same seed gives the same bytes; no more than a chunk of a tensor is ever held
//! in memory; a file appears whole under its name or not at all.

#![allow(missing_docs)]

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use lineside::package::Package;

/// What a tensor begins at a multiple of.
const ALIGNMENT: u64 = 32;
/// Bytes that are made at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of the header of the model that lends its tokenizer.
const MAX_HEADER_BYTES: u64 = 64 << 20;
/// Weights of a block in `Q8_0`, and bytes of its scale.
const BLOCK: usize = 32;
const SCALE_BYTES: usize = 2;
/// The spread of a byte that is any number from -127 to 127.
const BYTE_SPREAD: f64 = 73.3;

/// The shape of a network.
struct Shape {
    name: &'static str,
    seed: u64,
    width: u64,
    layers: u64,
    heads: u64,
    kv_heads: u64,
    feed_forward: u64,
}

/// A head is 64 wide in both. Widths are multiples of 256, which some quantizations need.
const HEAD_WIDTH: u64 = 64;
const CONTEXT_TOKENS: u32 = 4096;
const SHAPES: [Shape; 2] = [
    Shape {
        name: "random-100m",
        seed: 100,
        width: 768,
        layers: 16,
        heads: 12,
        kv_heads: 4,
        feed_forward: 2048,
    },
    Shape {
        name: "random-500m",
        seed: 500,
        width: 1280,
        layers: 28,
        heads: 20,
        kv_heads: 5,
        feed_forward: 3584,
    },
];

/// How weights are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    F32,
    F16,
    Q8,
}

impl Kind {
    /// Its number in the format.
    fn number(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8 => 8,
        }
    }

    /// The number of a file that is mostly of it, and its name.
    fn file_type(self) -> (u32, &'static str) {
        match self {
            Self::F32 => (0, "F32"),
            Self::F16 => (1, "F16"),
            Self::Q8 => (7, "Q8_0"),
        }
    }

    fn bytes(self, weights: u64) -> u64 {
        match self {
            Self::F32 => weights * 4,
            Self::F16 => weights * 2,
            Self::Q8 => weights / BLOCK as u64 * (BLOCK + SCALE_BYTES) as u64,
        }
    }
}

fn main() -> Result<()> {
    let mut folder = None;
    let mut kind = Kind::Q8;
    // Cargo adds `--bench` to what it runs.
    for argument in std::env::args().skip(1).filter(|it| it != "--bench") {
        match argument.as_str() {
            "--f16" => kind = Kind::F16,
            option if option.starts_with('-') => bail!("there is no option {option}"),
            _ => folder = Some(PathBuf::from(argument)),
        }
    }
    let folder = folder.context("where to: tools/bench models DIR")?;
    fs::create_dir_all(&folder)?;
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
    let package = Package::open(&bundled).map_err(|faults| anyhow::anyhow!("{faults}"))?;
    let (variant, _) = package.variants().next().context("a package has a model")?;
    let tokenizer = Tokenizer::of(&package.model_path(variant))?;
    for shape in &SHAPES {
        let (_, word) = kind.file_type();
        let path = folder.join(format!("{}-{word}.gguf", shape.name));
        let unfinished = path.with_extension("part");
        let weights = write(&unfinished, shape, kind, &tokenizer)
            .with_context(|| format!("writing {}", unfinished.display()))?;
        fs::rename(&unfinished, &path)?;
        println!(
            "{}: {} million weights",
            path.display(),
            weights / 1_000_000
        );
    }
    Ok(())
}

/// A tensor to be made.
struct Tensor {
    name: String,
    /// Inputs of a row, then rows.
    shape: Vec<u64>,
    kind: Kind,
    /// How far its weights lie around nothing; none where all are one.
    spread: Option<f64>,
}

impl Shape {
    fn tensors(&self, vocabulary: u64, kind: Kind) -> Vec<Tensor> {
        let matrix = |name: String, inputs: u64, rows: u64, gain: f64| Tensor {
            name,
            shape: vec![inputs, rows],
            kind,
            spread: Some(gain / root(inputs)),
        };
        let ones = |name: String| Tensor {
            name,
            shape: vec![self.width],
            kind: Kind::F32,
            spread: None,
        };
        let (width, keys) = (self.width, self.kv_heads * HEAD_WIDTH);
        // What goes back into the stream is weaker, so that depth does not drown the input.
        let back = 1.0 / root(2 * self.layers);
        let mut all = vec![matrix("token_embd.weight".into(), width, vocabulary, 1.0)];
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            all.extend([
                ones(name("attn_norm")),
                matrix(name("attn_q"), width, self.heads * HEAD_WIDTH, 1.0),
                matrix(name("attn_k"), width, keys, 1.0),
                matrix(name("attn_v"), width, keys, 1.0),
                matrix(name("attn_output"), self.heads * HEAD_WIDTH, width, back),
                ones(name("ffn_norm")),
                matrix(name("ffn_gate"), width, self.feed_forward, 1.0),
                matrix(name("ffn_up"), width, self.feed_forward, 1.0),
                matrix(name("ffn_down"), self.feed_forward, width, back),
            ]);
        }
        all.push(ones("output_norm.weight".into()));
        // Not shared with the embedding: each token would be its own best successor. The gain
        // makes some tokens clearly likelier than others, as a trained model does.
        all.push(matrix("output.weight".into(), width, vocabulary, 3.0));
        all
    }

    fn describe(&self, pairs: &mut Pairs, vocabulary: u64, kind: Kind) -> Result<()> {
        pairs.text("general.architecture", "llama");
        pairs.text("general.name", self.name);
        pairs.number("general.file_type", kind.file_type().0);
        pairs.number("general.quantization_version", 2);
        for (key, number) in [
            ("context_length", CONTEXT_TOKENS.into()),
            ("embedding_length", self.width),
            ("block_count", self.layers),
            ("feed_forward_length", self.feed_forward),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("attention.key_length", HEAD_WIDTH),
            ("attention.value_length", HEAD_WIDTH),
            ("rope.dimension_count", HEAD_WIDTH),
            ("vocab_size", vocabulary),
        ] {
            pairs.number(&format!("llama.{key}"), u32::try_from(number)?);
        }
        pairs.fraction("llama.rope.freq_base", 10_000.0);
        pairs.fraction("llama.attention.layer_norm_rms_epsilon", 1e-5);
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "widths are small")]
fn root(number: u64) -> f64 {
    (number as f64).sqrt()
}

/// Writes a model; returns how many weights it has.
fn write(path: &Path, shape: &Shape, kind: Kind, tokenizer: &Tokenizer) -> Result<u64> {
    let tensors = shape.tensors(tokenizer.vocabulary, kind);
    let mut pairs = Pairs::default();
    shape.describe(&mut pairs, tokenizer.vocabulary, kind)?;

    let mut file = BufWriter::with_capacity(CHUNK_BYTES, File::create(path)?);
    file.write_all(b"GGUF")?;
    file.write_all(&3_u32.to_le_bytes())?;
    file.write_all(&(tensors.len() as u64).to_le_bytes())?;
    file.write_all(&(pairs.count + tokenizer.pairs.count).to_le_bytes())?;
    file.write_all(&pairs.bytes)?;
    file.write_all(&tokenizer.pairs.bytes)?;
    let (mut offset, mut weights) = (0, 0);
    for tensor in &tensors {
        file.write_all(&text(&tensor.name))?;
        file.write_all(&u32::try_from(tensor.shape.len())?.to_le_bytes())?;
        for side in &tensor.shape {
            file.write_all(&side.to_le_bytes())?;
        }
        file.write_all(&tensor.kind.number().to_le_bytes())?;
        file.write_all(&u64::to_le_bytes(offset))?;
        let count: u64 = tensor.shape.iter().product();
        offset += tensor.kind.bytes(count).next_multiple_of(ALIGNMENT);
        weights += count;
    }
    pad(&mut file)?;
    for (index, tensor) in tensors.iter().enumerate() {
        // A generator for each tensor: one that changes its size leaves the others as they were.
        let mut random = fastrand::Rng::with_seed(shape.seed << 32 | index as u64);
        fill(&mut file, tensor, &mut random)?;
        pad(&mut file)?;
    }
    file.into_inner()?.sync_all()?;
    Ok(weights)
}

/// Zeros up to the next place where a tensor may begin.
fn pad(file: &mut BufWriter<File>) -> io::Result<()> {
    let at = file.stream_position()?;
    let missing = at.next_multiple_of(ALIGNMENT) - at;
    io::copy(&mut io::repeat(0).take(missing), file).map(drop)
}

fn fill(file: &mut impl Write, tensor: &Tensor, random: &mut fastrand::Rng) -> Result<()> {
    let mut left: u64 = tensor.kind.bytes(tensor.shape.iter().product());
    let Some(spread) = tensor.spread else {
        ensure!(tensor.kind == Kind::F32, "only a norm is all ones");
        for _ in 0..left / 4 {
            file.write_all(&1.0_f32.to_le_bytes())?;
        }
        return Ok(());
    };
    let block = match tensor.kind {
        Kind::Q8 => BLOCK + SCALE_BYTES,
        Kind::F16 | Kind::F32 => 2,
    };
    let mut chunk = vec![0; CHUNK_BYTES / block * block];
    while left > 0 {
        let take = chunk.len().min(usize::try_from(left)?);
        let part = &mut chunk[..take];
        random.fill(part);
        match tensor.kind {
            Kind::Q8 => as_blocks(part, spread),
            Kind::F16 => as_halves(part, spread),
            Kind::F32 => bail!("a matrix in F32 is not needed"),
        }
        file.write_all(part)?;
        left -= take as u64;
    }
    Ok(())
}

/// Makes blocks of random bytes: the weights stay as they are, the scale is the same in all.
fn as_blocks(bytes: &mut [u8], spread: f64) {
    let scale = half(spread / BYTE_SPREAD).to_le_bytes();
    for block in bytes.chunks_exact_mut(BLOCK + SCALE_BYTES) {
        block[..SCALE_BYTES].copy_from_slice(&scale);
        for weight in &mut block[SCALE_BYTES..] {
            // -128 is no weight: quantizing never makes it.
            *weight = if *weight == 0x80 { 0x81 } else { *weight };
        }
    }
}

/// Makes numbers of 16 bit of random bytes: sign and fraction stay, the exponent is the one that
/// brings them closest to the spread.
fn as_halves(bytes: &mut [u8], spread: f64) {
    // Between a power of two and the next, numbers lie 1.53 times that power from nothing.
    let exponent = half(spread / 1.53 * std::f64::consts::SQRT_2) & 0x7c00;
    for pair in bytes.chunks_exact_mut(2) {
        let number = u16::from_le_bytes([pair[0], pair[1]]) & 0x83ff | exponent;
        pair.copy_from_slice(&number.to_le_bytes());
    }
}

/// A positive number as 16 bit, cut off behind its third digit.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the numbers are positive and within the range, as is seen to"
)]
fn half(number: f64) -> u16 {
    const LEAST_NORMAL: f64 = 1.0 / 16_384.0;
    const LEAST: f64 = LEAST_NORMAL / 1024.0;
    assert!((LEAST..1.0).contains(&number), "{number} has no place");
    if number < LEAST_NORMAL {
        return (number / LEAST) as u16;
    }
    let bits = (number as f32).to_bits();
    let exponent = (bits >> 23) - (127 - 15);
    (exponent << 10 | bits >> 13 & 0x3ff) as u16
}

/// Pairs of a header.
#[derive(Default)]
struct Pairs {
    bytes: Vec<u8>,
    count: u64,
}

impl Pairs {
    fn pair(&mut self, key: &str, kind: u32, value: &[u8]) {
        self.bytes.extend(text(key));
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(value);
        self.count += 1;
    }

    fn text(&mut self, key: &str, value: &str) {
        self.pair(key, 8, &text(value));
    }

    fn number(&mut self, key: &str, value: u32) {
        self.pair(key, 4, &value.to_le_bytes());
    }

    fn fraction(&mut self, key: &str, value: f32) {
        self.pair(key, 6, &value.to_le_bytes());
    }
}

fn text(value: &str) -> Vec<u8> {
    [&(value.len() as u64).to_le_bytes(), value.as_bytes()].concat()
}

/// What a model file says of its tokenizer, byte for byte.
struct Tokenizer {
    pairs: Pairs,
    vocabulary: u64,
}

impl Tokenizer {
    fn of(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let header = lineside::package::gguf::read(
            BufReader::new(file.try_clone()?),
            file.metadata()?.len(),
        )?;
        let mut source = Header(BufReader::new(File::open(path)?.take(MAX_HEADER_BYTES)));
        source.bytes(8 + 8)?; // magic, version, tensors: the reader before vouched for them
        let mut pairs = Pairs::default();
        for _ in 0..source.u64()? {
            let length = source.u64()?;
            let key = String::from_utf8(source.bytes(length)?)?;
            let kind = source.u32()?;
            let value = source.value(kind)?;
            if key.starts_with("tokenizer.") {
                pairs.pair(&key, kind, &value);
            }
        }
        let vocabulary = header.vocabulary;
        Ok(Self { pairs, vocabulary })
    }
}

/// The header of a model file that was read well before.
struct Header<R>(R);

impl<R: Read> Header<R> {
    fn bytes(&mut self, count: u64) -> Result<Vec<u8>> {
        ensure!(count <= MAX_HEADER_BYTES, "{count} bytes of one value");
        let mut bytes = vec![0; usize::try_from(count)?];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        let mut bytes = [0; 4];
        self.0.read_exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The bytes of a value, its lengths and kinds included.
    fn value(&mut self, kind: u32) -> Result<Vec<u8>> {
        let plain = |kind| match kind {
            0 | 1 | 7 => Some(1),
            2 | 3 => Some(2),
            4..=6 => Some(4),
            10..=12 => Some(8),
            _ => None,
        };
        if let Some(bytes) = plain(kind) {
            return self.bytes(bytes);
        }
        if kind == 8 {
            let length = self.u64()?;
            let text = self.bytes(length)?;
            return Ok([&length.to_le_bytes()[..], &text].concat());
        }
        ensure!(kind == 9, "a value of the unknown kind {kind}");
        let (items, count) = (self.u32()?, self.u64()?);
        let mut value = [&items.to_le_bytes()[..], &count.to_le_bytes()].concat();
        match plain(items) {
            Some(bytes) => value.extend(self.bytes(bytes * count)?),
            None => {
                for _ in 0..count {
                    value.extend(self.value(items)?);
                }
            }
        }
        Ok(value)
    }
}
