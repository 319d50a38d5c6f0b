//! Why a plan is what it is, for people.

use super::ladder::{self, whole_context};
use super::{Board, Kv, Run, Shape, Wishes};

/// What a plan sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Tokens of one conversation.
    Context,
    /// Tokens of the shared cache.
    Cache,
    /// How it stores its numbers.
    KvType,
    /// Conversations at a time.
    Sequences,
    /// Tokens of one pass.
    Batch,
    /// Blocks on a graphics processor.
    GpuLayers,
    /// Threads.
    Threads,
}

impl Setting {
    /// As the configuration calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Context => "context_tokens",
            Self::Cache => "cache_tokens",
            Self::KvType => "kv_type",
            Self::Sequences => "sequences",
            Self::Batch => "batch_tokens",
            Self::GpuLayers => "gpu_layers",
            Self::Threads => "threads",
        }
    }
}

/// One setting and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Which.
    pub setting: Setting,
    /// What it is set to.
    pub value: String,
    /// Why.
    pub why: String,
}

const FIXED: &str = "as the site says";
const SHORT: &str = "memory is short";

/// Of all settings.
pub(super) fn of(shape: &Shape, board: &Board, wishes: &Wishes, run: &Run) -> Vec<Reason> {
    let threads = match wishes.threads {
        Some(threads) => threads.to_string(),
        None => format!("1 to {}", board.cores),
    };
    let reason = |setting, value: String, why: String| Reason {
        setting,
        value,
        why,
    };
    vec![
        reason(
            Setting::Context,
            run.context_tokens.to_string(),
            context(shape, wishes, run),
        ),
        reason(
            Setting::Sequences,
            run.sequences.to_string(),
            match wishes.sequences {
                Some(_) => FIXED.into(),
                None if run.sequences < ladder::SEQUENCES => {
                    format!("{SHORT} for {}", ladder::SEQUENCES)
                }
                None => "what small boards gain from".into(),
            },
        ),
        reason(Setting::Cache, run.cache_tokens.to_string(), cache(run)),
        reason(
            Setting::KvType,
            run.kv.word().into(),
            match (wishes.kv, run.kv) {
                (Some(_), _) => FIXED.into(),
                (None, Kv::F16) => "exact, and there is room".into(),
                (None, Kv::Q8 | Kv::Q4) => format!("{SHORT} for f16"),
            },
        ),
        reason(Setting::Batch, run.batch_tokens.to_string(), batch(run)),
        reason(
            Setting::GpuLayers,
            run.gpu_layers.to_string(),
            match (wishes.gpu_layers, board.vram_bytes) {
                (Some(_), _) => FIXED.into(),
                (None, None | Some(0)) => "no graphics memory is known of".into(),
                (None, Some(_)) if run.gpu_layers > shape.blocks => "all of them fit".into(),
                (None, Some(_)) => format!("of {}, what its memory holds", shape.blocks),
            },
        ),
        reason(
            Setting::Threads,
            threads,
            match wishes.threads {
                Some(_) => FIXED.into(),
                None => "the engine measures which is best".into(),
            },
        ),
    ]
}

fn context(shape: &Shape, wishes: &Wishes, run: &Run) -> String {
    let whole = whole_context(shape, wishes);
    if wishes.context_tokens.is_some() {
        FIXED.into()
    } else if run.context_tokens < whole {
        format!("{SHORT} for {whole}")
    } else if whole < wishes.package_context_tokens {
        "what the model was trained for".into()
    } else {
        "what the package is made for".into()
    }
}

fn cache(run: &Run) -> String {
    let all = run
        .context_tokens
        .saturating_mul(u32::from(run.sequences) + 1);
    let whole = all.min(ladder::MAX_CACHE_TOKENS.max(run.context_tokens));
    if run.cache_tokens < whole {
        format!("shared by all; {SHORT} for {whole}")
    } else if whole < all {
        "shared by all; more is seldom of use".into()
    } else {
        "all conversations at once, and a beginning".into()
    }
}

fn batch(run: &Run) -> String {
    if run.batch_tokens == ladder::BATCH_TOKENS {
        "how many go through the model at a time".into()
    } else if run.batch_tokens == run.cache_tokens {
        "no more than the cache holds".into()
    } else {
        format!("{SHORT} for {}", ladder::BATCH_TOKENS)
    }
}
