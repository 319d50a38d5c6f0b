//! What the tensors of a file say of its network, as far as its memory follows from it.

use std::collections::BTreeMap;

use super::Tensor;

/// The sums and the greatest of a file's tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the tensors that belong to a block.
    pub block_bytes: u64,
    /// The table of the tokens, and its bytes.
    pub embedding: Option<(Tensor, u64)>,
    /// Bytes of the output's own weights; none where it shares the table of the tokens.
    pub output_bytes: Option<u64>,
    /// Keys of one token in all blocks together, counted in numbers.
    pub key_width: u64,
    /// Values, in the same way.
    pub value_width: u64,
    /// Blocks whose queries, keys and values are one matrix, which tells no widths.
    pub fused_blocks: u64,
    /// Blocks that attend, fused ones among them.
    pub attending_blocks: u64,
    /// Blocks that keep a state of a fixed size for each sequence.
    pub recurrent_blocks: u64,
    /// The matrices by the number of the way in which they are stored.
    pub matrices: BTreeMap<u32, Matrices>,
}

/// The greatest among the matrices that are stored in one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matrices {
    /// Inputs of a row.
    pub inputs: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Layout {
    /// One more tensor of the file.
    pub(super) fn see(&mut self, name: &str, tensor: Tensor, bytes: u64) {
        let [inputs, rows, ..] = tensor.shape;
        if rows > 1 {
            let greatest = self.matrices.entry(tensor.kind).or_default();
            greatest.inputs = greatest.inputs.max(inputs);
            greatest.rows = greatest.rows.max(rows);
            greatest.bytes = greatest.bytes.max(bytes);
        }
        match name {
            "token_embd.weight" => self.embedding = Some((tensor, bytes)),
            "output.weight" => self.output_bytes = Some(bytes),
            _ => {}
        }
        let in_block = name.strip_prefix("blk.").and_then(|it| it.split_once('.'));
        let Some((_, part)) = in_block else {
            return;
        };
        self.block_bytes = self.block_bytes.saturating_add(bytes);
        match part {
            // The second: keys and values in one short row; the values are a part of the keys.
            "attn_k.weight" | "attn_kv_a_mqa.weight" => {
                self.attending_blocks += 1;
                self.key_width = self.key_width.saturating_add(rows);
            }
            "attn_v.weight" => self.value_width = self.value_width.saturating_add(rows),
            "attn_qkv.weight" => {
                self.attending_blocks += 1;
                self.fused_blocks += 1;
            }
            "ssm_conv1d.weight" | "time_mix_key.weight" => self.recurrent_blocks += 1,
            _ => {}
        }
    }
}
