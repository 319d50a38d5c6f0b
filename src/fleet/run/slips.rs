//! Documents that are carried to a signature and back.

use std::path::Path;

use serde_json::{Value, json};

use super::{args, hands, look, show, tell};
use crate::clock::Wall;
use crate::fleet::desk::Desk;
use crate::fleet::fault::{Done, missing, usage};
use crate::fleet::sign::Slip;

pub(super) fn export_unsigned(order: &args::ExportUnsigned, now: Wall) -> Done<()> {
    let desk = look(&order.place, now)?;
    let slips = Slip::of_desk(&desk)?;
    if slips.is_empty() {
        return missing("nothing on the desk lacks signatures");
    }
    let mut written: Vec<Value> = Vec::new();
    for (name, slip) in &slips {
        let path = order.to.join(name);
        if !order.dry_run {
            slip.write(&path)?;
        }
        written.push(path.display().to_string().into());
    }
    let words = || {
        let lines: Vec<_> = written.iter().filter_map(Value::as_str).collect();
        lines.join("\n") + "\n"
    };
    tell(order.json, words, &json!({"slips": &written}))
}

pub(super) fn sign_slips(order: &args::Sign) -> Done<()> {
    let mut show = show(order.json);
    let mut hands = hands(&order.hands, order.dry_run)?;
    if hands.is_empty() {
        return usage("which key is to sign? Give --key FILE");
    }
    let mut signed = Vec::new();
    for path in &order.slips {
        signed.extend(hands.sign_slip(path, &mut show)?);
    }
    let word = if order.dry_run {
        "would sign"
    } else {
        "signed"
    };
    let words = || {
        let lines = signed.iter();
        let lines = lines.map(|it| format!("{word} {} with {}", it.role, it.key));
        lines.collect::<Vec<_>>().join("\n") + "\n"
    };
    tell(order.json, words, &json!({"ok": true, "signed": &signed}))
}

pub(super) fn merge(desk: &mut Desk, path: &Path) -> Done<String> {
    let slip = Slip::read(path)?;
    let added = slip.merge(desk)?;
    Ok(format!(
        "{}: {added} new signatures of {}",
        path.display(),
        slip.role
    ))
}
