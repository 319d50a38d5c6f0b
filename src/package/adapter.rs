//! Whether a low-rank adapter belongs to a model, found out from their headers.
//!
//! For a matrix of the model, `blk.0.attn_q.weight` say, an adapter has two thin ones,
//! `….lora_a` and `….lora_b`, whose product is added to it:
//!
//! ```text
//!  model: inputs × outputs      a: inputs × rank      b: rank × outputs
//! ```
//!
//! llama.cpp looks at this too, but ends its process over some of what it finds, and passes over
//! some. So an adapter comes to it only if everything here holds.

use std::io::{self, BufReader, Read};

use super::gguf::{self, AdapterHeader, GgufError, Tensor, Tensors};
use super::manifest::FilePath;

/// The greatest rank: those in use have 4 to 256.
const MAX_RANK: u64 = 1024;
/// F32, F16, `Q8_0` and BF16: what converters write.
const KINDS: [u32; 4] = [0, 1, 8, 30];
/// The one matrix that is not multiplied with, but looked up in.
const EMBEDDING: &str = "token_embd.weight";
const HALVES: [&str; 2] = [".lora_a", ".lora_b"];

/// What is wrong, and what would be right.
type Misfit = (String, String);

/// Holds an adapter against the model files that it is to change. `open` gives a file's bytes, and
/// how many there are.
pub(super) fn fits<R: Read>(
    path: &FilePath,
    architecture: &str,
    models: &[&FilePath],
    open: impl Fn(&FilePath) -> io::Result<(R, u64)>,
) -> Result<(), Misfit> {
    let open = |path: &FilePath| {
        let (file, bytes) = open(path)?;
        Ok::<_, GgufError>((BufReader::new(file), bytes))
    };
    let adapter = open(path)
        .and_then(|(file, bytes)| gguf::read_adapter(file, bytes))
        .map_err(|error| {
            let wanted = "a low-rank adapter in the GGUF format, as convert_lora_to_gguf.py writes";
            (error.to_string(), wanted.to_owned())
        })?;
    is_one(&adapter, architecture)?;
    let pairs = pairs(&adapter.tensors)?;
    for model in models {
        // One that cannot be read was told of already.
        let Ok(tensors) = open(model).and_then(|(file, bytes)| gguf::read_tensors(file, bytes))
        else {
            continue;
        };
        let name = model.as_str();
        let name = name.rsplit('/').next().unwrap_or(name);
        for pair in &pairs {
            pair.fits(&tensors, name)?;
        }
    }
    Ok(())
}

fn is_one(adapter: &AdapterHeader, architecture: &str) -> Result<(), Misfit> {
    let said = |text: &Option<String>| text.clone().unwrap_or_else(|| "(not set)".into());
    if adapter.general_type.as_deref() != Some("adapter") {
        let value = format!("general.type = {}", said(&adapter.general_type));
        return Err((value, "\"adapter\": this is something else".into()));
    }
    if adapter.adapter_type.as_deref() != Some("lora") {
        let value = format!("adapter.type = {}", said(&adapter.adapter_type));
        return Err((value, "\"lora\", the only kind that is known here".into()));
    }
    if adapter.architecture != architecture {
        let value = format!("general.architecture = {}", adapter.architecture);
        let wanted = format!("\"{architecture}\", the model's: it was trained for another one");
        return Err((value, wanted));
    }
    if !adapter.has_sound_alpha {
        let value = "adapter.lora.alpha is no number of 32 bits with a fraction";
        return Err((value.into(), "one, or none at all".into()));
    }
    Ok(())
}

/// Two halves of what is added to a matrix.
struct Pair<'a> {
    matrix: &'a str,
    a: Tensor,
    b: Tensor,
}

fn pairs(tensors: &Tensors) -> Result<Vec<Pair<'_>>, Misfit> {
    let half = |name: &str, half: &str| tensors.get(&format!("{name}{half}")).copied();
    let mut pairs = Vec::new();
    for (name, tensor) in tensors {
        let Some(matrix) = HALVES.iter().find_map(|half| name.strip_suffix(half)) else {
            let wanted = "halves only, whose names end with .lora_a or .lora_b";
            return Err((format!("it has a tensor {name}"), wanted.into()));
        };
        let (Some(a), Some(b)) = (half(matrix, HALVES[0]), half(matrix, HALVES[1])) else {
            let value = format!("{name} has no other half");
            return Err((value, "both halves of each matrix".into()));
        };
        if !KINDS.contains(&tensor.kind) {
            let value = format!("{name} is stored as kind {}", tensor.kind);
            return Err((value, "F32, F16, BF16 or Q8_0".into()));
        }
        if name.ends_with(HALVES[0]) {
            pairs.push(Pair { matrix, a, b });
        }
    }
    if pairs.is_empty() {
        return Err((
            "it has no weights".into(),
            "halves of at least one matrix".into(),
        ));
    }
    Ok(pairs)
}

impl Pair<'_> {
    fn fits(&self, tensors: &Tensors, model: &str) -> Result<(), Misfit> {
        let matrix = self.matrix;
        if matrix == EMBEDDING {
            let value = format!("it changes {EMBEDDING}");
            return Err((value, "matrices only that are multiplied with".into()));
        }
        let Some(whole) = tensors.get(matrix) else {
            let value = format!("it changes {matrix}, which {model} does not have");
            return Err((value, "an adapter that was trained for this model".into()));
        };
        let [inputs, outputs, experts, more] = whole.shape;
        if outputs == 1 || more != 1 {
            let value = format!("it changes {matrix}, which is no matrix");
            return Err((value, "matrices only".into()));
        }
        let rank = self.a.shape[1];
        let fits = (1..=MAX_RANK).contains(&rank)
            && self.a.shape == [inputs, rank, experts, 1]
            && self.b.shape == [rank, outputs, experts, 1];
        if fits {
            return Ok(());
        }
        let value = format!(
            "{matrix} is {inputs} by {outputs} in {model}, its halves here are {} by {} and {} by {}",
            self.a.shape[0], self.a.shape[1], self.b.shape[0], self.b.shape[1]
        );
        let wanted = format!(
            "{inputs} by a rank of up to {MAX_RANK}, and that rank by {outputs}: an adapter that \
             was trained for this model"
        );
        Err((value, wanted))
    }
}
