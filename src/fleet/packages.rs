//! Packages: from a folder to a signed target.
//!
//! ```text
//!  folder ─► open, verify ─► gate, each variant ─► manifest ─► objects and target on the desk
//! ```
//!
//! A package is only proposed if it passed its own gate suite here, by its own bars, on the engine
//! that devices run. What was found goes into the target's custom field. Who must go without says
//! why, and that goes there too.

use serde::Serialize;
use serde_json::{Value, json};

use super::desk::Desk;
use super::fault::{Done, FleetError, refused, usage};
use super::gate::{self, Examiner, Verdict};
use super::post::Post;
use super::rings::{self, Named};
use crate::ota::object::CHUNK_BYTES;
use crate::ota::release::{lay_out, manifest_of, target_of};
use crate::ota::tuf::write::target_file;
use crate::package::Package;

/// Signs in the reason for going without a gate: a sentence, for whoever reads the target.
const MAX_REASON_BYTES: usize = 500;
/// A reason has at least a word or two.
const MIN_REASON_BYTES: usize = 10;

/// Whether a package is held against its gate.
pub enum Gated<'a> {
    /// It is, by this examiner.
    By(&'a mut dyn Examiner),
    /// It is not, for this reason.
    Skipped(&'a str),
}

/// What was proposed.
#[derive(Debug)]
pub struct Proposed {
    /// The package.
    pub package: Named,
    /// How its variants did; none where the gate was skipped.
    pub verdicts: Vec<Verdict>,
    /// Bytes of all its objects.
    pub bytes: u64,
}

/// Whether files are laid on the desk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lay {
    /// They are.
    Out,
    /// This is a rehearsal.
    Nothing,
}

/// Proposes a package.
pub fn add(desk: &mut Desk, package: &Package, gated: Gated<'_>, lay: Lay) -> Done<Proposed> {
    let own = package.manifest();
    let named = Named {
        name: own.name.clone(),
        seq: own.seq,
    };
    let mut role = desk.role(Post::Packages)?;
    hold_number(&named, role.targets.keys())?;
    let (verdicts, found) = match gated {
        Gated::By(examiner) => {
            let verdicts = gate::examine(package, examiner)?;
            let failed: Vec<_> = verdicts.iter().flat_map(Verdict::failures).collect();
            if !failed.is_empty() {
                return refused(format!(
                    "package {named} does not pass its own gate here, so it is not signed:\n  {}",
                    failed.join("\n  ")
                ));
            }
            let found = gate::custom(&verdicts);
            (verdicts, found)
        }
        Gated::Skipped(reason) => {
            let reason = reason.trim();
            if !(MIN_REASON_BYTES..=MAX_REASON_BYTES).contains(&reason.len()) {
                return usage(format!(
                    "--without-gate: a reason of {MIN_REASON_BYTES} to {MAX_REASON_BYTES} bytes, \
                     which is signed with the package"
                ));
            }
            (Vec::new(), json!({"skipped": reason}))
        }
    };
    let disk = FleetError::at(package.folder());
    let manifest = manifest_of(package, CHUNK_BYTES).map_err(disk)?;
    if lay == Lay::Out {
        let staged = desk.staged_folder();
        lay_out(package, &manifest, &staged).map_err(FleetError::at(&staged))?;
    }
    let (target, text) = target_of(&manifest);
    let custom = json!({
        "name": named.name,
        "seq": named.seq,
        "version": own.version,
        "gate": found,
    });
    let bytes = super::publish::objects(&manifest)
        .iter()
        .map(|object| object.bytes())
        .sum();
    let file = target_file(text.as_bytes(), Some(custom));
    role.targets.insert(target.path.clone(), file);
    desk.stage_file(&target.path, text.into_bytes());
    desk.stage_role(Post::Packages, role)?;
    Ok(Proposed {
        package: named,
        verdicts,
        bytes,
    })
}

/// A number is given once, and a higher one than all before it.
fn hold_number<'a>(named: &Named, there: impl Iterator<Item = &'a String>) -> Done<()> {
    let own = there.filter_map(|path| Named::parse(path).ok());
    let highest = own
        .filter(|it| it.name == named.name)
        .map(|it| it.seq)
        .max();
    match highest {
        Some(highest) if highest >= named.seq => refused(format!(
            "package {named}: {}-{highest} is in this repository already, and devices take higher \
             numbers only: make it anew with `lineside models make --seq {}`",
            named.name,
            highest + 1
        )),
        Some(_) | None => Ok(()),
    }
}

/// Takes a package out of the repository's targets. Its objects stay where they lie.
pub fn remove(desk: &mut Desk, package: &Named) -> Done<()> {
    let mut role = desk.role(Post::Packages)?;
    if role.targets.remove(&package.target()).is_none() {
        return refused(format!("package {package} is not in this repository"));
    }
    let rings = rings::all(desk)?;
    let runs = |it: &&crate::ota::rollout::Rollout| it.package_target() == package.target();
    if let Some(ring) = rings.values().find(runs) {
        return refused(format!("package {package}: ring {} runs it", ring.ring));
    }
    desk.stage_role(Post::Packages, role)
}

/// A package, as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its target.
    pub target: String,
    /// Its version for people, as the signer noted it.
    pub version: Option<String>,
    /// Its variants, best first.
    pub variants: Vec<String>,
    /// Bytes of all its objects.
    pub bytes: u64,
    /// How it passed its gate: items that were right, of how many; or why there was none.
    pub gate: String,
}

/// What is known of a package from its target's custom field.
pub(super) fn gate_told(custom: Option<&Value>) -> String {
    let gate = custom.and_then(|custom| custom.get("gate"));
    let Some(gate) = gate else {
        return "nothing is said of it".to_owned();
    };
    if let Some(why) = gate.get("skipped").and_then(Value::as_str) {
        return format!("SKIPPED: {}", super::diff::clean(why));
    }
    let variants = gate.get("variants").and_then(Value::as_array);
    let told = variants.into_iter().flatten().filter_map(|variant| {
        let text = |key| variant.get(key).and_then(Value::as_str);
        let number = |key| variant.get(key).and_then(Value::as_u64);
        Some(format!(
            "{} {} of {}",
            super::diff::clean(text("quantization")?),
            number("right")?,
            number("items")?
        ))
    });
    told.collect::<Vec<_>>().join(", ")
}
