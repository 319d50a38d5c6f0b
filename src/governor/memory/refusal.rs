//! Why a model does not fit, and what would.

use std::fmt;

use super::{Board, Kv, Parts, Run, SERVICE_BYTES, Shape, Wishes, needs, parts};

/// A model that does not fit, with the numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The least that it needs with what the site has fixed.
    pub needs_bytes: u64,
    /// What is there.
    pub there_bytes: u64,
    /// The same of a graphics processor's memory, where that is what lacks.
    pub graphics: Option<(u64, u64)>,
    /// What would take it.
    pub parts: Parts,
    /// How it would have been run.
    pub run: Option<Run>,
    /// What would fit.
    pub suggestions: Vec<Suggestion>,
}

/// Something that the site may do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// In words.
    pub what: String,
    /// What it then needs; none where that is another model's or board's matter.
    pub needs_bytes: Option<u64>,
}

pub(super) fn of(
    shape: &Shape,
    board: &Board,
    wishes: &Wishes,
    least: Option<(Run, Parts)>,
) -> Refusal {
    let (run, parts) = match least {
        Some((run, parts)) => (Some(run), parts),
        None => (None, Parts::default()),
    };
    let vram = board.vram_bytes.unwrap_or(u64::MAX);
    Refusal {
        needs_bytes: needs(&parts),
        there_bytes: board.ram_bytes,
        graphics: (parts.graphics_bytes > vram).then_some((parts.graphics_bytes, vram)),
        parts,
        run,
        suggestions: suggestions(shape, board, wishes, &parts),
    }
}

/// One wish less at a time, then all of them, then a cache in 4 bit, then a smaller model.
fn suggestions(shape: &Shape, board: &Board, wishes: &Wishes, parts: &Parts) -> Vec<Suggestion> {
    let kv = |kv| Wishes {
        kv: Some(kv),
        flash: None,
        ..wishes.clone()
    };
    let free = Wishes {
        context_tokens: None,
        sequences: None,
        kv: None,
        gpu_layers: None,
        flash: None,
        ..wishes.clone()
    };
    let tried = [
        Wishes {
            context_tokens: None,
            ..wishes.clone()
        },
        Wishes {
            sequences: None,
            ..wishes.clone()
        },
        kv(Kv::Q8),
        kv(Kv::Q4),
        free.clone(),
        Wishes {
            kv: Some(Kv::Q4),
            ..free
        },
    ];
    let mut found: Vec<Suggestion> = Vec::new();
    for tried in tried {
        if &tried == wishes || (found.len() > 1 && tried.sequences.is_none()) {
            continue;
        }
        let Some((run, needs_bytes)) = fitting(shape, board, &tried) else {
            continue;
        };
        let what = difference(wishes, &run);
        if !what.is_empty() && found.iter().all(|known| known.what != what) {
            found.push(Suggestion {
                what,
                needs_bytes: Some(needs_bytes),
            });
        }
    }
    if found.is_empty() {
        let fixed = needs(parts).saturating_sub(parts.weight_bytes);
        let room = board.ram_bytes.saturating_sub(fixed);
        let what = if room > 0 {
            format!(
                "a variant or model whose weights take at most {}",
                parts::shown(room)
            )
        } else {
            format!("a board with at least {}", parts::shown(needs(parts)))
        };
        found.push(Suggestion {
            what,
            needs_bytes: None,
        });
    }
    found
}

/// The best run under these wishes, without looking for suggestions in turn.
fn fitting(shape: &Shape, board: &Board, wishes: &Wishes) -> Option<(Run, u64)> {
    super::ladder::steps(shape, board, wishes).find_map(|run| {
        let parts = parts::of(shape, &run, wishes);
        super::fits(&parts, board).then(|| (run, needs(&parts)))
    })
}

/// The settings of a run that are not what the site fixed.
fn difference(wishes: &Wishes, run: &Run) -> String {
    let mut said = Vec::new();
    if wishes
        .context_tokens
        .is_some_and(|tokens| tokens != run.context_tokens)
    {
        said.push(format!("context_tokens = {}", run.context_tokens));
    }
    if wishes.sequences.is_some_and(|it| it != run.sequences) {
        said.push(format!("sequences = {}", run.sequences));
    }
    let kv = wishes.kv.unwrap_or(Kv::Q8); // the ladder goes down to that by itself
    if run.kv != kv && (wishes.kv.is_some() || run.kv == Kv::Q4) {
        said.push(format!("kv_type = \"{}\"", run.kv.word()));
    }
    if wishes.flash == Some(false) && run.flash {
        said.push("flash_attention = \"on\"".into());
    }
    if wishes.gpu_layers.is_some_and(|it| it != run.gpu_layers) {
        said.push(format!("gpu_layers = {}", run.gpu_layers));
    }
    said.join(", ")
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = parts::shown;
        if self.run.is_none() {
            return write!(f, "its settings contradict each other");
        }
        match self.graphics {
            Some((needs, there)) => write!(
                f,
                "needs {} of graphics memory, {} are there",
                shown(needs),
                shown(there)
            )?,
            None => write!(
                f,
                "needs {}, {} are there",
                shown(self.needs_bytes),
                shown(self.there_bytes)
            )?,
        }
        let engine = self.parts.engine_bytes();
        let rest = engine
            .saturating_sub(self.parts.weight_bytes)
            .saturating_sub(self.parts.cache_bytes);
        write!(
            f,
            ": weights {}, cache {}, the rest of the engine {}, service and margin {}",
            shown(self.parts.weight_bytes),
            shown(self.parts.cache_bytes),
            shown(rest),
            shown(self.needs_bytes.saturating_sub(engine).max(SERVICE_BYTES))
        )?;
        for (at, suggestion) in self.suggestions.iter().enumerate() {
            let word = if at == 0 { "; would fit:" } else { "; or:" };
            write!(f, "{word} {}", suggestion.what)?;
            if let Some(bytes) = suggestion.needs_bytes {
                write!(f, " ({})", shown(bytes))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
