//! One llama.cpp context, where the safe bindings stop: the callback that ends a pass, threads
//! that change at run time, a sequence's state as bytes.
//!
//! Owns the context and the arrays of its batch. The only `unsafe` of the project is here.
//!
//! Invariants, each held before native code could notice (it would abort the process):
//!
//! - a batch has at most [`Shape::batch_tokens`] tokens, each with at least one sequence, and all
//!   sequences, positions and token ids are in range;
//! - logits are read only of positions that were asked for in the last pass that succeeded;
//! - the model outlives its context, which the lifetime says.
//!
//! How it fails: by [`PassError`]; what the cache holds after a pass that failed is unknown, and
//! the caller removes what it had sent.

#![expect(
    unsafe_code,
    reason = "the safe bindings have no run-time threads, no abort callback and no raw state"
)]
#![deny(clippy::undocumented_unsafe_blocks)]

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

use super::protocol::{Flash, KvType};

/// What computes, and in whose words a state is written: states of another version mean nothing.
pub(super) const RUNTIME: &str = "llama-cpp-sys-2 0.1.161";

/// Sequences that llama.cpp can tell apart.
pub(super) const MAX_SEQUENCES: u32 = 256;

/// Sizes of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Tokens of the cache, shared by all sequences.
    pub cache_tokens: u32,
    /// Tokens of one pass at most.
    pub batch_tokens: u32,
    /// Sequences; their numbers lie below.
    pub sequences: u32,
    /// How keys and values are stored.
    pub kv_type: KvType,
    /// Whether attention is computed in one go.
    pub flash_attention: Flash,
    /// Threads at the start.
    pub threads: u16,
}

/// Ends the pass that is under way, from any thread; the next ones fail too until it is lowered.
#[derive(Clone, Debug, Default)]
pub(super) struct Brake(Arc<AtomicBool>);

impl Brake {
    /// Ends the pass.
    pub(super) fn pull(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Lets passes go on.
    pub(super) fn release(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Why a pass failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PassError {
    /// The cache has no room.
    #[error("the cache is full")]
    Full,
    /// The brake was pulled.
    #[error("stopped")]
    Stopped,
    /// The runtime failed.
    #[error("the runtime failed with {0}")]
    Failed(i32),
}

/// Tokens for one pass.
#[derive(Debug, Default)]
pub(super) struct Batch {
    tokens: Vec<i32>,
    positions: Vec<i32>,
    /// The sequences of all tokens, one after the other, and how many each has.
    sequences: Vec<i32>,
    counts: Vec<i32>,
    logits: Vec<i8>,
}

impl Batch {
    /// Empties it.
    pub(super) fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.sequences.clear();
        self.counts.clear();
        self.logits.clear();
    }

    /// Adds a token at a position of one or several sequences; returns its row, under which its
    /// logits are found if they are asked for.
    pub(super) fn add(
        &mut self,
        token: u32,
        position: u32,
        sequences: &[u32],
        wanted: Logits,
    ) -> usize {
        assert!(!sequences.is_empty(), "a token belongs to a sequence");
        self.tokens.push(narrow(token));
        self.positions.push(narrow(position));
        self.sequences
            .extend(sequences.iter().map(|it| narrow(*it)));
        self.counts
            .push(narrow(u32::try_from(sequences.len()).unwrap_or(u32::MAX)));
        self.logits.push(i8::from(wanted == Logits::Wanted));
        self.tokens.len() - 1
    }

    /// Asks for the logits of the last token.
    pub(super) fn want_last(&mut self) {
        if let Some(last) = self.logits.last_mut() {
            *last = 1;
        }
    }

    /// Tokens in it.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is nothing to compute.
    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

/// Whether the next token after this one is to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logits {
    /// It is.
    Wanted,
    /// It is not.
    Unwanted,
}

/// What is out of range stays out of range, and is found before the pass.
fn narrow(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(-1)
}

/// A context.
pub(super) struct Context<'m> {
    raw: NonNull<sys::llama_context>,
    model: &'m LlamaModel,
    shape: Shape,
    vocabulary: usize,
    /// Which rows of the last pass have logits.
    rows: Vec<i8>,
    /// Read by the callback for as long as the context lives.
    brake: Brake,
}

impl<'m> Context<'m> {
    /// A context of this model; none if there is not enough memory.
    pub(super) fn new(model: &'m LlamaModel, shape: Shape, brake: &Brake) -> Option<Self> {
        assert!((1..=MAX_SEQUENCES).contains(&shape.sequences));
        // SAFETY: takes and returns plain data.
        let mut params = unsafe { sys::llama_context_default_params() };
        params.n_ctx = shape.cache_tokens;
        params.n_batch = shape.batch_tokens;
        params.n_ubatch = shape.batch_tokens;
        params.n_seq_max = shape.sequences;
        params.n_threads = i32::from(shape.threads);
        params.n_threads_batch = i32::from(shape.threads);
        params.flash_attn_type = match shape.flash_attention {
            Flash::Auto => sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
            Flash::On => sys::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            Flash::Off => sys::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        };
        let kv_type = match shape.kv_type {
            KvType::F16 => sys::GGML_TYPE_F16,
            KvType::Q8_0 => sys::GGML_TYPE_Q8_0,
            KvType::Q4_0 => sys::GGML_TYPE_Q4_0,
        };
        (params.type_k, params.type_v) = (kv_type, kv_type);
        params.kv_unified = true;
        params.no_perf = true;
        params.abort_callback = Some(is_pulled);
        params.abort_callback_data = Arc::as_ptr(&brake.0).cast_mut().cast::<c_void>();
        // SAFETY: the pointer is the model's own, alive for 'm; the callback's data is kept alive
        // by `brake` below, and is only read, atomically.
        let raw = unsafe { sys::llama_init_from_model(pointer_of(model), params) };
        Some(Self {
            raw: NonNull::new(raw)?,
            model,
            shape,
            vocabulary: usize::try_from(model.n_vocab()).unwrap_or_default(),
            rows: Vec::new(),
            brake: brake.clone(),
        })
    }

    /// Its model.
    pub(super) fn model(&self) -> &'m LlamaModel {
        self.model
    }

    /// Its sizes.
    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// Computes a batch.
    pub(super) fn pass(&mut self, batch: &mut Batch) -> Result<(), PassError> {
        self.rows.clear();
        if batch.is_empty() {
            return Ok(());
        }
        self.hold_in_range(batch);
        let mut heads = Vec::with_capacity(batch.len());
        let mut at = 0_usize;
        for count in &batch.counts {
            // Within the vector: the counts add up to its length.
            heads.push(batch.sequences[at..].as_mut_ptr());
            at += usize::try_from(*count).unwrap_or_default();
        }
        let raw = sys::llama_batch {
            n_tokens: i32::try_from(batch.len()).unwrap_or_default(),
            token: batch.tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: batch.positions.as_mut_ptr(),
            n_seq_id: batch.counts.as_mut_ptr(),
            seq_id: heads.as_mut_ptr(),
            logits: batch.logits.as_mut_ptr(),
        };
        // SAFETY: all arrays have `n_tokens` entries and outlive the call; every value was held
        // in range just now, so none of llama.cpp's assertions on batches can fail.
        let code = unsafe { sys::llama_decode(self.raw.as_ptr(), raw) };
        match code {
            0 => {
                self.rows.extend_from_slice(&batch.logits);
                Ok(())
            }
            1 => Err(PassError::Full),
            2 => Err(PassError::Stopped),
            other => Err(PassError::Failed(other)),
        }
    }

    /// A caller's mistake ends this process here, with words, not in native code.
    fn hold_in_range(&self, batch: &Batch) {
        let below = |values: &[i32], limit: usize| {
            let fits = |value: &i32| usize::try_from(*value).is_ok_and(|value| value < limit);
            values.iter().all(fits)
        };
        assert!(
            batch.len() <= self.shape.batch_tokens as usize,
            "batch too long"
        );
        assert!(below(&batch.tokens, self.vocabulary), "token out of range");
        assert!(
            below(&batch.sequences, self.shape.sequences as usize),
            "sequence out of range"
        );
        assert!(
            below(&batch.positions, i32::MAX as usize),
            "position out of range"
        );
        assert!(
            below(&batch.counts, MAX_SEQUENCES as usize + 1),
            "too many sequences"
        );
    }

    /// What the model thinks of each token after the one in this row of the last pass.
    pub(super) fn logits(&self, row: usize) -> &[f32] {
        assert_eq!(
            self.rows.get(row),
            Some(&1),
            "this row's logits were not asked for"
        );
        let index = i32::try_from(row).expect("rows are counted in i32");
        // SAFETY: the row was computed by the last pass; the array has one value for each token
        // of the vocabulary and lives until the next pass, which borrows the context anew.
        unsafe {
            let first = sys::llama_get_logits_ith(self.raw.as_ptr(), index);
            assert!(!first.is_null(), "no logits");
            std::slice::from_raw_parts(first, self.vocabulary)
        }
    }

    /// Lets `to` have everything that `from` has. Costs no memory.
    pub(super) fn share(&mut self, from: u32, to: u32) {
        let (from, to) = (self.sequence(from), self.sequence(to));
        // SAFETY: both sequences are in range; negative positions mean all.
        unsafe { sys::llama_memory_seq_cp(self.memory(), from, to, -1, -1) }
    }

    /// Takes everything from a position on out of a sequence. False where this kind of model
    /// cannot forget the end of a sequence.
    #[must_use]
    pub(super) fn forget(&mut self, sequence: u32, from: u32) -> bool {
        let sequence = self.sequence(sequence);
        // SAFETY: the sequence is in range.
        unsafe { sys::llama_memory_seq_rm(self.memory(), sequence, narrow(from), -1) }
    }

    /// Empties the cache.
    pub(super) fn forget_all(&mut self) {
        // SAFETY: the memory is the context's own.
        unsafe { sys::llama_memory_clear(self.memory(), false) }
    }

    /// Lets passes go on after they were stopped.
    pub(super) fn release_brake(&self) {
        self.brake.release();
    }

    /// Changes the number of threads.
    pub(super) fn set_threads(&mut self, threads: u16) {
        let threads = i32::from(threads.max(1));
        // SAFETY: no pass is under way, for that would borrow the context.
        unsafe { sys::llama_set_n_threads(self.raw.as_ptr(), threads, threads) }
    }

    /// Puts a low-rank adapter in front of the weights.
    pub(super) fn adapt(&mut self, adapter: &Adapter, scale: f32) -> bool {
        let (mut adapters, mut scales) = ([adapter.0.as_ptr()], [scale]);
        // SAFETY: one adapter and one scale; the adapter lives as long as its model, and nobody
        // frees it before.
        let code = unsafe {
            sys::llama_set_adapters_lora(
                self.raw.as_ptr(),
                adapters.as_mut_ptr(),
                1,
                scales.as_mut_ptr(),
            )
        };
        code == 0
    }

    /// A sequence's part of the cache as bytes; none if they are more than `most`.
    pub(super) fn save(&mut self, sequence: u32, most: u64) -> Option<Vec<u8>> {
        let sequence = self.sequence(sequence);
        let raw = self.raw.as_ptr();
        // SAFETY: the sequence is in range; this only counts.
        let size = unsafe { sys::llama_state_seq_get_size(raw, sequence) };
        if size as u64 > most {
            return None;
        }
        let mut bytes = vec![0; size];
        // SAFETY: the buffer has the size that llama.cpp asked for.
        let written =
            unsafe { sys::llama_state_seq_get_data(raw, bytes.as_mut_ptr(), size, sequence) };
        (written == size).then_some(bytes)
    }

    /// Brings back what [`Context::save`] gave, from a context of the same model and shape. Who
    /// calls this has checked that the bytes are those.
    pub(super) fn restore(&mut self, sequence: u32, bytes: &[u8]) -> bool {
        let sequence = self.sequence(sequence);
        // SAFETY: llama.cpp reads no further than the length, and answers 0 if it dislikes it.
        let read = unsafe {
            let raw = self.raw.as_ptr();
            sys::llama_state_seq_set_data(raw, bytes.as_ptr(), bytes.len(), sequence)
        };
        read == bytes.len()
    }

    fn memory(&self) -> sys::llama_memory_t {
        // SAFETY: returns a pointer into the context.
        unsafe { sys::llama_get_memory(self.raw.as_ptr()) }
    }

    fn sequence(&self, sequence: u32) -> i32 {
        assert!(sequence < self.shape.sequences, "sequence out of range");
        narrow(sequence)
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `llama_init_from_model`, freed once, and not used after.
        unsafe { sys::llama_free(self.raw.as_ptr()) }
    }
}

/// A low-rank adapter. It is never freed before its model, which does that itself.
pub(super) struct Adapter(NonNull<sys::llama_adapter_lora>);

impl Adapter {
    /// Reads one for this model; none if the file is no such thing.
    pub(super) fn load(model: &LlamaModel, path: &std::ffi::CStr) -> Option<Self> {
        // SAFETY: the model is alive, and the path ends with a zero byte.
        let raw = unsafe { sys::llama_adapter_lora_init(pointer_of(model), path.as_ptr()) };
        NonNull::new(raw).map(Self)
    }
}

/// Writes a copy of a model file in another precision. False if llama.cpp could not: why stands in
/// its log.
pub(super) fn quantize(
    from: &std::ffi::CStr,
    to: &std::ffi::CStr,
    kind: sys::llama_ftype,
    threads: i32,
) -> bool {
    // SAFETY: plain values and no precondition; both paths end with a zero byte and outlive the call,
    // and so do the parameters, whose pointers are null by default.
    let code = unsafe {
        let mut params = sys::llama_model_quantize_default_params();
        params.nthread = threads;
        params.ftype = kind;
        sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &raw const params)
    };
    code == 0
}

/// The model's own pointer, which the bindings keep to themselves.
fn pointer_of(model: &LlamaModel) -> *mut sys::llama_model {
    let model: *const LlamaModel = model;
    // SAFETY: `LlamaModel` is `repr(transparent)` over a non-null pointer to `llama_model`, in
    // the very version that Cargo.toml pins; the test below would notice if it were not.
    unsafe { model.cast::<*mut sys::llama_model>().read() }
}

/// Asked by llama.cpp between the nodes of a graph.
///
/// # Safety
///
/// `data` points to the brake of the context that asks.
unsafe extern "C" fn is_pulled(data: *mut c_void) -> bool {
    // SAFETY: see above; the context keeps its brake alive.
    let brake = unsafe { &*data.cast_const().cast::<AtomicBool>() };
    brake.load(Ordering::Relaxed)
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}
