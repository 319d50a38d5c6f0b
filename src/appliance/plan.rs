//! Which variant of a package is served on this board, and how: from the files' headers, the site's
//! wishes and the room in memory to the engine's options.
//!
//! The board is looked at once, at the start, and that look counts for everybody: router, lessons and
//! engine speak of the same variant.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::config::{self, Settings};
use crate::engine::protocol::{Flash, KvType, Mapping, Options, Without};
use crate::governor::memory::{
    self, Board, Cpu, Kv, Matrix, Plan, Refusal, Shape, Wishes, parts, room,
};
use crate::ota::keeper::STORE;
use crate::package::{Header, Manifest, Package, Variant, gguf};

/// Jobs inside the engine, for each conversation: enough that no pass runs with a place free while
/// requests wait on the disk.
const QUEUE_FACTOR: u16 = 4;
/// How long reading a prompt may hold up those who write.
const PASS_MS: u32 = 25;

/// What this machine has to give, as the site limits it.
pub fn board(settings: &Settings) -> (Board, &'static str) {
    let budget = settings.memory_budget_bytes;
    let room = room::read(&settings.roots.procfs, &settings.roots.sysfs, budget);
    (board_with(room.ram_bytes), room.limited_by)
}

/// This machine with so much memory.
pub fn board_with(ram_bytes: u64) -> Board {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Board {
        ram_bytes,
        vram_bytes: None,
        cores: u16::try_from(cores).unwrap_or(u16::MAX),
        cpu: Cpu::of_this_build(),
    }
}

/// A variant that fits, and how it is run.
#[derive(Clone, Debug)]
pub struct Chosen<'p> {
    /// Which.
    pub variant: &'p Variant,
    /// How.
    pub plan: Plan,
    /// The better ones that do not fit.
    pub refused: Vec<(&'p Variant, Refusal)>,
}

/// The best variant of a package that fits; else all of them with the reasons.
pub fn choose<'p>(
    package: &'p Package,
    board: &Board,
    engine: &config::Engine,
) -> Result<Chosen<'p>, Vec<(&'p Variant, Refusal)>> {
    let wishes = wishes(package, engine);
    let mut refused = Vec::new();
    for (variant, header) in package.variants() {
        match memory::plan(&shape(header), board, &wishes) {
            Ok(plan) => {
                return Ok(Chosen {
                    variant,
                    plan,
                    refused,
                });
            }
            Err(refusal) => refused.push((variant, refusal)),
        }
    }
    Err(refused)
}

/// Why none of them can be served, in one line.
pub fn why(refused: &[(&Variant, Refusal)]) -> String {
    let mut why = String::from("the model does not fit into memory");
    for (variant, refusal) in refused {
        let _ = write!(why, "; {} {refusal}", variant.quantization); // a String takes all
    }
    if refused.is_empty() {
        why = "the package has no model".into();
    }
    why
}

/// The folder that serves, as far as can be seen without asking the service: what was committed
/// last, else the configuration's.
pub fn folder(settings: &Settings) -> Option<PathBuf> {
    let committed = settings.ota.as_ref().and_then(|_| {
        let current = settings.state_dir.join(STORE).join("current");
        std::fs::canonicalize(current).ok()
    });
    committed.or_else(|| settings.model_package.clone())
}

/// The manifest of a folder as it is served on this board; see [`as_served`]. None where it cannot be
/// read; the engine says why.
pub fn served(folder: &Path, board: &Board, settings: &Settings) -> Option<Manifest> {
    let Ok(package) = Package::open_with(folder, settings.at_rest.device_key.as_ref()) else {
        return crate::package::manifest_in(folder).ok();
    };
    Some(match choose(&package, board, &settings.engine) {
        Ok(chosen) => as_served(package.manifest(), chosen.variant, &chosen.plan),
        Err(_) => package.manifest().clone(),
    })
}

/// The manifest with the variant that is served as its first, and its context what the plan allows.
pub fn as_served(manifest: &Manifest, variant: &Variant, plan: &Plan) -> Manifest {
    let mut manifest = manifest.clone();
    if let Some(place) = manifest.variants.iter().position(|it| it == variant) {
        manifest.variants[..=place].rotate_right(1);
    }
    manifest.runtime.context_tokens = plan.run.context_tokens.into();
    manifest
}

/// What the site has fixed, and what the package wants.
pub fn wishes(package: &Package, engine: &config::Engine) -> Wishes {
    let manifest = package.manifest();
    let context = u32::try_from(manifest.runtime.context_tokens).unwrap_or(u32::MAX);
    Wishes {
        package_context_tokens: context,
        instructions: u16::try_from(manifest.tasks.len()).unwrap_or(u16::MAX),
        adapter_bytes: manifest.adapter.as_ref().map_or(0, |it| it.file.bytes),
        sealed: package.is_sealed(),
        ..wishes_of_site(engine)
    }
}

/// What the site has fixed.
pub fn wishes_of_site(engine: &config::Engine) -> Wishes {
    Wishes {
        context_tokens: engine.context_tokens,
        sequences: engine.sequences,
        kv: engine.kv_type.map(|kv| match kv {
            config::KvType::F16 => Kv::F16,
            config::KvType::Q8 => Kv::Q8,
            config::KvType::Q4 => Kv::Q4,
        }),
        gpu_layers: engine.gpu_layers,
        threads: engine.threads,
        flash: engine.flash_attention,
        package_context_tokens: u32::MAX,
        instructions: 0,
        adapter_bytes: 0,
        sealed: false,
        draft: engine.draft_model.as_deref().and_then(draft),
    }
}

/// A draft model that cannot be read is the engine's to refuse.
fn draft(path: &Path) -> Option<Shape> {
    let file = std::fs::File::open(path).ok()?;
    let bytes = file.metadata().ok()?.len();
    let header = gguf::read(std::io::BufReader::new(file), bytes).ok()?;
    Some(shape(&header))
}

/// How the engine is told to run by a plan.
pub fn options(plan: &Plan, engine: &config::Engine) -> Options {
    let run = &plan.run;
    Options {
        context_tokens: run.context_tokens,
        cache_tokens: run.cache_tokens,
        sequences: run.sequences,
        queue: run.sequences.saturating_mul(QUEUE_FACTOR),
        threads: plan.threads,
        batch_tokens: run.batch_tokens,
        pass_ms: PASS_MS,
        gpu_layers: run.gpu_layers,
        kv_type: match run.kv {
            Kv::F16 => KvType::F16,
            Kv::Q8 => KvType::Q8_0,
            Kv::Q4 => KvType::Q4_0,
        },
        flash_attention: match engine.flash_attention {
            None => Flash::Auto,
            Some(true) => Flash::On,
            Some(false) => Flash::Off,
        },
        // A mapped file is in memory twice where weights are repacked.
        mapping: Mapping::Read,
        without: Without::default(),
    }
}

/// What a file's header says of the memory that its model takes.
pub fn shape(header: &Header) -> Shape {
    let layout = &header.layout;
    let known = |number: Option<u64>| number.unwrap_or_default();
    let (heads, kv_heads) = (known(header.heads), known(header.kv_heads));
    let (key_length, value_length) = (known(header.key_length), known(header.value_length));
    let fused = layout.fused_blocks.saturating_mul(kv_heads);
    let matrix = |kind: u32, (inputs, rows, bytes): (u64, u64, u64)| Matrix {
        kind,
        inputs,
        rows,
        bytes,
    };
    let embedding = layout.embedding;
    let shared = embedding.filter(|_| layout.output_bytes.is_none());
    Shape {
        weight_bytes: header.tensor_bytes,
        block_bytes: layout.block_bytes,
        embedding_bytes: embedding.map_or(0, |(_, bytes)| bytes),
        blocks: u32::try_from(known(header.block_count)).unwrap_or(u32::MAX),
        shared_output: shared
            .map(|(table, bytes)| matrix(table.kind, (table.shape[0], table.shape[1], bytes))),
        matrices: (layout.matrices.iter())
            .map(|(kind, it)| matrix(*kind, (it.inputs, it.rows, it.bytes)))
            .collect(),
        tensors: header.tensors,
        width: known(header.embedding_length),
        feed_forward: known(header.feed_forward),
        heads,
        key_length,
        value_length,
        key_width: layout
            .key_width
            .saturating_add(fused.saturating_mul(key_length)),
        value_width: layout
            .value_width
            .saturating_add(fused.saturating_mul(value_length)),
        attending_blocks: u32::try_from(layout.attending_blocks).unwrap_or(u32::MAX),
        state_bytes: header.state_bytes.saturating_mul(layout.recurrent_blocks),
        vocabulary: header.vocabulary,
        vocabulary_bytes: header.vocabulary_bytes,
        merges: header.merges,
        trained_tokens: header
            .context_tokens
            .map_or(u32::MAX, |tokens| u32::try_from(tokens).unwrap_or(u32::MAX)),
    }
}

/// For the log: what was chosen, and why no better one.
pub fn told(chosen: &Chosen<'_>) -> String {
    let needs = parts::shown(chosen.plan.needs_bytes);
    let there = parts::shown(chosen.plan.there_bytes);
    let run = &chosen.plan.run;
    let mut told = format!(
        "{} is the best variant that fits: needs {needs} of {there} with {} tokens of context, {} \
         conversations and a cache in {}",
        chosen.variant.quantization,
        run.context_tokens,
        run.sequences,
        run.kv.word()
    );
    for (variant, refusal) in &chosen.refused {
        let _ = write!(
            told,
            "; {} needs {}",
            variant.quantization,
            parts::shown(refusal.needs_bytes)
        ); // a String takes all
    }
    told
}
