//! A model and the way it is run, as far as memory follows from them.

use super::runtime::Cpu;

/// A model. Whoever has read a file's header fills this in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of all weights.
    pub weight_bytes: u64,
    /// Of these, the bytes in blocks.
    pub block_bytes: u64,
    /// Of these, the bytes of the table of tokens.
    pub embedding_bytes: u64,
    /// Blocks.
    pub blocks: u32,
    /// The table of the tokens, where it is the output too.
    pub shared_output: Option<Matrix>,
    /// The greatest matrix of each kind.
    pub matrices: Vec<Matrix>,
    /// Tensors.
    pub tensors: u64,
    /// Numbers between two blocks, for one token.
    pub width: u64,
    /// Numbers of the widest layer inside a block.
    pub feed_forward: u64,
    /// Heads that ask.
    pub heads: u64,
    /// Numbers of one of their keys.
    pub key_length: u64,
    /// Numbers of one of their values.
    pub value_length: u64,
    /// Numbers of one token's keys, in all blocks together.
    pub key_width: u64,
    /// Numbers of its values.
    pub value_width: u64,
    /// Blocks that attend.
    pub attending_blocks: u32,
    /// Bytes of the states that all other blocks keep for one sequence.
    pub state_bytes: u64,
    /// Tokens.
    pub vocabulary: u64,
    /// Bytes of their texts.
    pub vocabulary_bytes: u64,
    /// Pairs of tokens that the tokenizer merges.
    pub merges: u64,
    /// Tokens that it was trained to look back on.
    pub trained_tokens: u32,
}

/// A matrix of weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matrix {
    /// The number of the way in which it is stored, as in the file.
    pub kind: u32,
    /// Inputs of a row.
    pub inputs: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

/// How keys and values are stored in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kv {
    /// 16 bit each.
    #[default]
    F16,
    /// 8 bit and a scale.
    Q8,
    /// 4 bit and a scale.
    Q4,
}

impl Kv {
    /// All of them, the exact one first.
    pub const ALL: [Self; 3] = [Self::F16, Self::Q8, Self::Q4];

    /// As in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8 => "q8_0",
            Self::Q4 => "q4_0",
        }
    }

    /// Bytes of so many numbers.
    pub fn bytes(self, numbers: u64) -> u64 {
        match self {
            Self::F16 => numbers.saturating_mul(2),
            Self::Q8 => numbers.div_ceil(32).saturating_mul(34),
            Self::Q4 => numbers.div_ceil(32).saturating_mul(18),
        }
    }
}

/// How a model is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Tokens of one conversation.
    pub context_tokens: u32,
    /// Tokens of the cache that all conversations share.
    pub cache_tokens: u32,
    /// Conversations at a time.
    pub sequences: u16,
    /// Tokens of one pass.
    pub batch_tokens: u32,
    /// How keys and values are stored.
    pub kv: Kv,
    /// Whether attention is computed in one go.
    pub flash: bool,
    /// Threads at most.
    pub threads: u16,
    /// Blocks on a graphics processor; one more means the output too.
    pub gpu_layers: u32,
    /// Instructions that are known beforehand.
    pub instructions: u16,
    /// What computes.
    pub cpu: Cpu,
}

impl Shape {
    /// Bytes of the cache that one token takes.
    pub fn token_bytes(&self, kv: Kv) -> u64 {
        kv.bytes(self.key_width)
            .saturating_add(kv.bytes(self.value_width))
    }

    /// Whether keys and values can be stored so: they are cut into blocks within a head.
    pub fn can_store(&self, kv: Kv) -> bool {
        let whole = |length: u64| length.is_multiple_of(32);
        kv == Kv::F16 || (whole(self.key_length) && whole(self.value_length))
    }
}
