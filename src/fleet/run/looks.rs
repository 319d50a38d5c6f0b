//! What is looked at, thrown away, and copied.

use std::io::{self, Write as _};

use serde_json::json;

use super::{args, hands, look, show, tell};
use crate::clock::Wall;
use crate::fleet::desk::{Desk, Pile};
use crate::fleet::fault::{Done, FleetError, missing, refused};
use crate::fleet::rings::Named;
use crate::fleet::sign::ask;
use crate::fleet::verify::{self, Whole};
use crate::fleet::{diff, disk, export, list, publish};
use crate::ota::tuf::{Expiry, Limits};

pub(super) fn status(order: &args::Status, now: Wall) -> Done<()> {
    let desk = look(&order.place, now)?;
    let mut show = show(order.json);
    for role in desk.staged_roles() {
        let before = desk.current().0.get(&role);
        show(&diff(&role, before, &desk.staged().0[&role]))?;
    }
    let (lacks, stale) = (desk.lacks()?, desk.stale()?);
    let waiting: Vec<list::Waiting> = lacks.iter().cloned().map(list::Waiting::from).collect();
    let report = json!({"staged": desk.staged_roles(), "waiting": waiting, "stale": stale});
    let words = || {
        let mut text = match (desk.staged().0.is_empty(), lacks.is_empty()) {
            (true, _) => "nothing is on the desk\n".to_owned(),
            (false, true) => {
                "all signed: `publish` with the keys of snapshot and timestamp\n".to_owned()
            }
            (false, false) => publish::told(&lacks) + "\n",
        };
        for role in &stale {
            text.push_str(role);
            text.push_str(
                ": overtaken by what was published since: discard it and propose again\n",
            );
        }
        text
    };
    tell(order.json, words, &report)
}

pub(super) fn discard(order: &args::Discard, now: Wall) -> Done<()> {
    let mut desk = look(&order.place, now)?;
    let roles = desk.staged_roles().join(", ");
    if roles.is_empty() {
        return missing("nothing is on the desk");
    }
    let mut words = format!("would throw away: {roles}\n");
    if !order.dry_run {
        if !order.yes {
            ask(&format!("throw away what is staged of {roles}?"))?;
        }
        desk.clear()?;
        words = format!("thrown away: {roles}\n");
    }
    Ok(io::stdout().write_all(words.as_bytes())?)
}

pub(super) fn exported(order: &args::Export, now: Wall) -> Done<()> {
    let folder = order.place.desk.as_deref();
    let mut desk = Desk::open(&order.place.repo, folder, now, Pile::Aside)?;
    let packages = order.package.iter().map(|it| Named::parse(it));
    let wanted = export::Order {
        to: std::path::absolute(&order.to).map_err(FleetError::at(&order.to))?,
        for_days: order.for_days,
        packages: packages.collect::<Done<_>>()?,
    };
    let mut hands = hands(&order.hands, order.dry_run)?;
    let mut show = show(order.json);
    let done = export::export(&mut desk, &wanted, &mut hands, &mut show, !order.dry_run)?;
    let words = || {
        let mut text = format!(
            "{}: {}; {} objects, {} bytes; good until {}\n",
            order.to.display(),
            done.packages.join(", "),
            done.objects,
            done.bytes,
            done.until
        );
        for note in &done.notes {
            text.push_str("note: ");
            text.push_str(note);
            text.push('\n');
        }
        text
    };
    tell(order.json, words, &done)
}

pub(super) fn verified(order: &args::Verify, now: Wall) -> Done<()> {
    let at = match &order.at {
        None => now,
        Some(text) => {
            let moment = Expiry::parse(text).map(Expiry::moment);
            moment.ok_or_else(|| {
                FleetError::Usage(format!(
                    "--at {text}: a moment such as 2027-01-31T00:00:00Z"
                ))
            })?
        }
    };
    let anchor = match &order.root {
        Some(path) => Some(disk::bytes(path, Limits::default().root_bytes)?),
        None => None,
    };
    let whole = if order.partial {
        Whole::Partly
    } else {
        Whole::Everything
    };
    let report = verify::verify(&order.repository, anchor, at, whole)?;
    let words = || {
        let mut text = format!(
            "{} roots, roles {}; {} targets, {} objects of {} bytes hashed\n",
            report.roots,
            report.roles.join(", "),
            report.targets,
            report.objects,
            report.object_bytes
        );
        for path in &report.absent {
            text.push_str("not here: ");
            text.push_str(path);
            text.push('\n');
        }
        if report.ok {
            text.push_str("nothing is wrong\n");
        }
        text
    };
    tell(order.json, words, &report)?;
    if report.ok {
        Ok(())
    } else {
        refused(format!(
            "{}:\n  {}",
            order.repository.display(),
            report.faults.join("\n  ")
        ))
    }
}
