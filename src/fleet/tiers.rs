//! Quantization tiers: several variants from one file, as one package, each calibrated and held
//! against the gate by itself.
//!
//! ```text
//!  F16 ─► quantize, each tier ─► make ─► calibrate, each variant ─► gate, each variant ─► OUT
//!                                              └────────── figures ──────────┘─► OUT.tiers.txt
//! ```
//!
//! A coarser tier is another model in what it gets wrong and in how sure it is of that, so the
//! curve of one says nothing of another. Nothing is signed here: `package add` runs the gate again.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::Tiers;
use super::disk;
use super::fault::{Done, FleetError, refused, usage};
use super::gate::{self, Examiner, Verdict};
use super::run::tell;
use crate::cli::calibrate::calibrate_new;
use crate::engine::quantize::{Log, Tier, quantize};
use crate::package::make::{Existing, MakeError, Order, make};

/// What a package has where nobody says otherwise: one tier for boards with room, one for the others.
const USUAL: [&str; 2] = ["Q8_0", "Q4_K_M"];

/// Makes the package, and tells how each of its variants did.
pub(super) fn run(order: &Tiers, examiner: &mut dyn Examiner) -> Done<()> {
    let tiers = tiers(order)?;
    let bench = Bench::new(&order.out)?;
    let mut models = Vec::new();
    if order.keep_source {
        models.push(order.gguf.clone());
    }
    for tier in tiers {
        models.push(bench.quantized(&order.gguf, tier)?);
    }
    let made = make(&Order {
        models,
        tasks: order.tasks.clone(),
        gate: Some(order.gate.clone()),
        out: order.out.clone(),
        name: order.name.clone(),
        seq: order.seq,
        existing: if order.replace {
            Existing::Replace
        } else {
            Existing::Keep
        },
    });
    let made = made.map_err(|error| match error {
        MakeError::Order(what) => FleetError::Usage(what),
        MakeError::Faults(faults) => FleetError::Refused(faults.to_string()),
        MakeError::Io { path, error } => FleetError::Disk { path, error },
    })?;
    let calibrated = calibrate_new(&made.package).map_err(|error| {
        FleetError::Refused(format!("{}: calibration: {error}", order.out.display()))
    })?;
    let few = "the suite has too few items for curves: confidence is raw\n".to_owned();
    let (package, curves) = calibrated.unwrap_or((made.package, few));
    let verdicts = gate::examine(&package, examiner)?;
    let sizes = package.variants();
    let sizes = sizes.map(|(it, _)| format!("{:<8} {:>14} bytes", it.quantization, it.file.bytes));
    let text = format!(
        "{}\n{}\n\n{curves}\n{}\n",
        order.out.display(),
        sizes.collect::<Vec<_>>().join("\n"),
        gate::told(&verdicts)
    );
    let mut report = order.out.as_os_str().to_owned();
    report.push(".tiers.txt");
    disk::write(Path::new(&report), text.as_bytes())?;
    let value = json!({
        "ok": true,
        "folder": order.out.display().to_string(),
        "name": package.manifest().name,
        "seq": package.manifest().seq,
        "gate": verdicts,
    });
    tell(order.json, || text.clone(), &value)?;
    let missed: Vec<_> = verdicts.iter().flat_map(Verdict::failures).collect();
    if missed.is_empty() {
        Ok(())
    } else {
        refused(format!(
            "{}: it was made, but would not be signed: it misses its bars:\n  {}",
            order.out.display(),
            missed.join("\n  ")
        ))
    }
}

fn tiers(order: &Tiers) -> Done<Vec<Tier>> {
    let names: Vec<&str> = if order.tiers.is_empty() {
        USUAL.to_vec()
    } else {
        order.tiers.iter().map(String::as_str).collect()
    };
    let known = || Tier::all().map(Tier::name).collect::<Vec<_>>().join(", ");
    let mut tiers = Vec::new();
    for name in names {
        let Some(tier) = Tier::parse(name) else {
            return usage(format!("--tier {name}: there are {}", known()));
        };
        if tiers.contains(&tier) {
            return usage(format!("--tier {name}: it stands there twice"));
        }
        tiers.push(tier);
    }
    Ok(tiers)
}

/// A folder beside the package where quantized files lie until they are part of it.
struct Bench(PathBuf);

impl Bench {
    fn new(out: &Path) -> Done<Self> {
        let Some(name) = out.file_name() else {
            return usage(format!("{}: names no folder of its own", out.display()));
        };
        let name = format!(".{}.tiers-{}", name.to_string_lossy(), std::process::id());
        let folder = out.with_file_name(name);
        fs::create_dir_all(&folder).map_err(FleetError::at(&folder))?;
        Ok(Self(folder))
    }

    fn quantized(&self, source: &Path, tier: Tier) -> Done<PathBuf> {
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        let stem = ["-F16", "-f16", "-F32", "-f32", "-BF16", "-bf16"]
            .iter()
            .find_map(|end| stem.strip_suffix(end))
            .unwrap_or(&stem);
        let to = self.0.join(format!("{stem}-{}.gguf", tier.name()));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = u16::try_from(threads).unwrap_or(1);
        let done = quantize(source, &to, tier, threads, Log::Silent);
        done.map_err(|error| FleetError::Refused(error.to_string()))?;
        Ok(to)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // what is in the package has a link of its own
    }
}
