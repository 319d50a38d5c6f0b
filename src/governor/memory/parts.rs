//! What an engine's process takes, part by part.
//!
//! Every part follows from the model's shape and from how it is run; the constants are what one
//! token, cell, node or thread takes, looked up in the sources or measured (`tools/bench plan`).
//! The parts are those of a process that has been worked to its full batch, cache and context.

use super::shape::{Run, Shape};
use super::{Cpu, Wishes};

/// Bytes of a model from which on its engine's memory lies in huge pages. What their ends take that
/// nobody uses is lost in such a model's figures; in a smaller one's it would show.
pub const HUGE_PAGES_FROM_BYTES: u64 = 64 << 20;

/// Sequences of the runtime's cache beside the conversations and the instructions: lines of trees,
/// loose beginnings, and the one for trials. The engine's floor holds itself to it.
pub const BESIDE_SEQUENCES: u32 = 21;
/// Conversations of a draft model, and the tokens that it may guess beyond a context. Its place in the
/// engine holds itself to them.
pub const DRAFT_TALKS: u32 = 2;
/// See [`DRAFT_TALKS`].
pub const DRAFTED_TOKENS: u32 = 8;
/// Sequences that the runtime can tell apart.
const MAX_SEQUENCES: u32 = 256;
/// The runtime counts its cache in pages of so many tokens.
const CELLS_PAGE: u32 = 256;

/// Tokens of a conversation in one pass whose successors are asked for: its own, and a guess.
const ROWS_A_TALK: u64 = 2;
/// Bytes that the runtime keeps for a cell of its cache beside keys and values: position, shift,
/// which sequences are in it, and its places in two trees.
const CELL_BYTES: u64 = 150;
/// Bytes for each token of the vocabulary, its text apart: the runtime's tables in both directions
/// and its pieces, our pieces and markers.
const TOKEN_BYTES: u64 = 176;
/// Bytes for each byte of their texts: the nodes of our tree of tokens, which share beginnings.
const TEXT_SHARE_BYTES: u64 = 6;
/// Bytes for each pair that is merged: two texts in a table of the runtime.
const MERGE_BYTES: u64 = 180;
/// Bytes for each tensor: of the model, and as nodes of the graphs.
const TENSOR_BYTES: u64 = 10 << 10;
/// Bytes of the process without a model: heap, stacks, tables of the program.
const BASE_BYTES: u64 = 5400 << 10;
/// Bytes for each thread beside its scratch.
const THREAD_BYTES: u64 = 64 << 10;
/// Bytes for each instruction: its rule with its states and masks, and its tokens.
const INSTRUCTION_BYTES: u64 = 200 << 10;

/// Bytes of an engine's process, part by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The weights, read into memory.
    pub weight_bytes: u64,
    /// The table of tokens a second time, as the output.
    pub output_copy_bytes: u64,
    /// Keys and values of the whole cache, and states of blocks that keep one.
    pub cache_bytes: u64,
    /// Which token lies where in it.
    pub cells_bytes: u64,
    /// What a pass computes between its layers.
    pub compute_bytes: u64,
    /// What the model thinks of the next tokens.
    pub output_bytes: u64,
    /// Scratch of the threads.
    pub scratch_bytes: u64,
    /// The vocabulary: the runtime's tables and our tree.
    pub vocabulary_bytes: u64,
    /// The instructions' rules and masks.
    pub rules_bytes: u64,
    /// The process itself and the graphs.
    pub base_bytes: u64,
    /// An adapter.
    pub beside_bytes: u64,
    /// A model that guesses ahead, with all its parts.
    pub draft_bytes: u64,
    /// A sealed model's file, opened in memory: as far as it goes beyond what the room is taken for
    /// once the model is loaded and the file closed.
    pub sealed_bytes: u64,
    /// In a graphics processor's memory; not part of the rest.
    pub graphics_bytes: u64,
}

impl Parts {
    /// All of the engine's process.
    pub fn engine_bytes(&self) -> u64 {
        let parts = self.list().map(|(_, bytes)| bytes);
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// Each with its name, for people.
    pub fn list(&self) -> [(&'static str, u64); 13] {
        [
            ("weights", self.weight_bytes),
            ("output", self.output_copy_bytes),
            ("cache", self.cache_bytes),
            ("cells", self.cells_bytes),
            ("compute", self.compute_bytes),
            ("logits", self.output_bytes),
            ("scratch", self.scratch_bytes),
            ("vocabulary", self.vocabulary_bytes),
            ("rules", self.rules_bytes),
            ("base", self.base_bytes),
            ("adapter", self.beside_bytes),
            ("draft", self.draft_bytes),
            ("sealed", self.sealed_bytes),
        ]
    }
}

/// What a model takes that is run so.
pub fn of(shape: &Shape, run: &Run, wishes: &Wishes) -> Parts {
    let parts = alone(shape, run, u64::from(runtime_sequences(run)));
    let draft = wishes.draft.as_ref().map(|draft| draft_bytes(draft, run));
    let parts = Parts {
        rules_bytes: INSTRUCTION_BYTES.saturating_mul(run.instructions.into()),
        beside_bytes: wishes.adapter_bytes,
        draft_bytes: draft.unwrap_or_default(),
        ..parts
    };
    let mut parts = on_graphics(shape, run, parts);
    if wishes.sealed {
        parts.sealed_bytes = sealed(shape, wishes, &parts);
    }
    parts
}

/// The file is as large as weights, vocabulary and adapter together. What is taken only after it was
/// closed has its room; the cells of the cache, and what is computed, come later still.
fn sealed(shape: &Shape, wishes: &Wishes, parts: &Parts) -> u64 {
    let file = (shape.weight_bytes)
        .saturating_add(shape.vocabulary_bytes)
        .saturating_add(wishes.adapter_bytes);
    let later = (parts.cache_bytes)
        .saturating_add(parts.compute_bytes)
        .saturating_add(parts.scratch_bytes)
        .saturating_add(parts.rules_bytes)
        .saturating_add(parts.draft_bytes);
    file.saturating_sub(later)
}

/// A model in memory, without what our engine adds.
fn alone(shape: &Shape, run: &Run, rows: u64) -> Parts {
    let cells = u64::from(run.cache_tokens.next_multiple_of(CELLS_PAGE));
    let logits = rows.saturating_mul(shape.vocabulary).saturating_mul(4);
    Parts {
        weight_bytes: shape.weight_bytes,
        output_copy_bytes: output_copy(shape, run.cpu),
        cache_bytes: (shape.token_bytes(run.kv).saturating_mul(cells))
            .saturating_add(shape.state_bytes.saturating_mul(rows)),
        cells_bytes: cells.saturating_mul(CELL_BYTES),
        compute_bytes: compute(shape, run, cells),
        output_bytes: logits,
        scratch_bytes: scratch(shape, run),
        vocabulary_bytes: vocabulary(shape),
        base_bytes: BASE_BYTES.saturating_add(TENSOR_BYTES.saturating_mul(shape.tensors)),
        ..Parts::default()
    }
}

/// A draft model has a small cache of its own, and its vocabulary is not looked through again.
fn draft_bytes(draft: &Shape, run: &Run) -> u64 {
    let context = run.context_tokens.saturating_add(DRAFTED_TOKENS);
    let run = Run {
        cache_tokens: context.saturating_mul(DRAFT_TALKS),
        batch_tokens: run.batch_tokens.min(run.context_tokens),
        ..*run
    };
    let parts = alone(draft, &run, u64::from(DRAFT_TALKS));
    parts.engine_bytes().saturating_sub(BASE_BYTES)
}

/// Moves what lies on a graphics processor there: whole blocks with their part of the cache, and
/// behind the last one the output. What is computed there needs as much again.
fn on_graphics(shape: &Shape, run: &Run, parts: Parts) -> Parts {
    if run.gpu_layers == 0 || shape.blocks == 0 {
        return parts;
    }
    let there = u64::from(run.gpu_layers.min(shape.blocks));
    let share = |bytes: u64| {
        let moved = u128::from(bytes) * u128::from(there) / u128::from(shape.blocks);
        u64::try_from(moved).unwrap_or(u64::MAX)
    };
    let mut weights = share(shape.block_bytes);
    if run.gpu_layers > shape.blocks {
        let beside = shape.weight_bytes.saturating_sub(shape.block_bytes);
        weights = weights.saturating_add(match shape.shared_output {
            Some(_) => 0,
            None => beside.saturating_sub(shape.embedding_bytes),
        });
    }
    let cache = share(parts.cache_bytes);
    Parts {
        weight_bytes: parts.weight_bytes.saturating_sub(weights),
        cache_bytes: parts.cache_bytes.saturating_sub(cache),
        graphics_bytes: weights
            .saturating_add(cache)
            .saturating_add(parts.compute_bytes)
            .saturating_add(parts.output_copy_bytes),
        ..parts
    }
}

fn runtime_sequences(run: &Run) -> u32 {
    let sequences = u32::from(run.sequences) + u32::from(run.instructions) + BESIDE_SEQUENCES;
    sequences.min(MAX_SEQUENCES)
}

fn output_copy(shape: &Shape, cpu: Cpu) -> u64 {
    let copied = shape.shared_output.filter(|matrix| cpu.repacks(matrix));
    copied.map_or(0, |matrix| matrix.bytes)
}

/// What lies between two layers, and what attention looks at. The runtime reserves rows of logits for
/// a whole batch, but only those that are asked for are ever touched; they lie where the layers did.
fn compute(shape: &Shape, run: &Run, cells: u64) -> u64 {
    let rows = u64::from(run.sequences).saturating_mul(ROWS_A_TALK);
    let logits = rows.saturating_mul(shape.vocabulary).saturating_mul(4);
    let tokens = u64::from(run.batch_tokens);
    let queries = shape.heads.saturating_mul(shape.key_length);
    let inside = (shape.width * 2 + shape.feed_forward * 3).max(shape.width * 2 + queries * 3);
    let passing = inside.saturating_mul(tokens).saturating_mul(4);
    // No pass looks at more than all conversations at once.
    let talks = u64::from(run.context_tokens).saturating_mul(run.sequences.into());
    let mask = cells.min(talks).saturating_mul(tokens);
    let attention = if run.flash {
        mask.saturating_mul(2)
    } else {
        mask.saturating_mul(4 + 4 * shape.heads)
    };
    passing.max(logits).saturating_add(attention)
}

fn scratch(shape: &Shape, run: &Run) -> u64 {
    let product = |matrix| {
        run.cpu
            .product_bytes(matrix, run.batch_tokens.into(), run.threads)
    };
    let greatest = shape.matrices.iter().map(product).max().unwrap_or(0);
    greatest.saturating_add(THREAD_BYTES.saturating_mul(run.threads.into()))
}

fn vocabulary(shape: &Shape) -> u64 {
    let tokens = shape.vocabulary.saturating_mul(TOKEN_BYTES);
    let texts = shape.vocabulary_bytes.saturating_mul(TEXT_SHARE_BYTES);
    let merges = shape.merges.saturating_mul(MERGE_BYTES);
    tokens.saturating_add(texts).saturating_add(merges)
}

/// Bytes as people read them.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub fn shown(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if bytes == u64::MAX {
        "any amount".into()
    } else if mib >= 10_240.0 {
        format!("{:.1} GiB", mib / 1024.0)
    } else if mib >= 100.0 {
        format!("{mib:.0} MiB")
    } else {
        format!("{mib:.1} MiB")
    }
}
