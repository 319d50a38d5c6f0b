//! What llama.cpp of the pinned version does with weights and matrices, where memory follows from it.
//!
//! Looked up in its sources: `repack.cpp` (which kinds are laid out anew for which processor),
//! `ggml-cpu.c` (the scratch of a matrix product) and `tiled.cpp`. Kinds have the numbers of the
//! file format. Whoever raises the version looks there again; `tests/plan_prediction.rs` notices.

use super::shape::Matrix;

/// The kinds of weights that matter here.
pub(super) const F32: u32 = 0;
const F16: u32 = 1;
const Q4_0: u32 = 2;
const Q8_0: u32 = 8;
const Q4_K: u32 = 12;
const Q5_K: u32 = 13;
const Q6_K: u32 = 14;
const IQ4_NL: u32 = 20;
const BF16: u32 = 30;
const MXFP4: u32 = 39;
const Q1_0: u32 = 41;
/// Kinds whose rows are multiplied in blocks of 256.
const LONG_BLOCKS: &[u32] = &[
    10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 23, 29, 34, 35,
];

/// Bytes that each thread keeps for a product in tiles.
const TILES_BYTES: u64 = 512 << 10;

/// What the build of llama.cpp computes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cpu {
    /// x86-64 with AVX2, which every build for it has.
    Avx2,
    /// ARM with dot products, as the boards have.
    Dotprod,
    /// Anything else.
    #[default]
    Plain,
}

impl Cpu {
    /// That of this build. Whether an ARM build has dot products only its C compiler knows; it is
    /// taken to have them, because then it needs more.
    pub const fn of_this_build() -> Self {
        if cfg!(target_arch = "x86_64") {
            Self::Avx2
        } else if cfg!(target_arch = "aarch64") {
            Self::Dotprod
        } else {
            Self::Plain
        }
    }

    /// Whether such a matrix is laid out anew when it is read. It takes as much memory as before,
    /// but a table of tokens that is the output too is then there twice.
    pub(super) fn repacks(self, matrix: &Matrix) -> bool {
        let eights = matrix.rows.is_multiple_of(8);
        match self {
            Self::Avx2 => eights && matches!(matrix.kind, Q4_0 | Q4_K | IQ4_NL | MXFP4),
            Self::Dotprod => match matrix.kind {
                Q4_K | Q5_K | Q6_K => eights,
                Q4_0 | Q8_0 | IQ4_NL | MXFP4 | Q1_0 => matrix.rows.is_multiple_of(4),
                _ => false,
            },
            Self::Plain => false,
        }
    }

    /// Bytes of scratch for the product with so many tokens.
    pub(super) fn product_bytes(self, matrix: &Matrix, tokens: u64, threads: u16) -> u64 {
        let numbers = matrix.inputs.saturating_mul(tokens);
        match matrix.kind {
            F32 => 0,
            F16 | BF16 => numbers.saturating_mul(2),
            kind if LONG_BLOCKS.contains(&kind) => {
                let tiles = match self {
                    Self::Avx2 if !self.repacks(matrix) => TILES_BYTES,
                    Self::Avx2 | Self::Dotprod | Self::Plain => 0,
                };
                (numbers / 256).saturating_mul(292) + tiles.saturating_mul(threads.into())
            }
            _ => (numbers / 32).saturating_mul(34),
        }
    }
}
