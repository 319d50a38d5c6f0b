//! The subcommands: what was asked for, carried out and told.

mod looks;
mod slips;

use std::io::{self, Write as _};
use std::path::Path;

use serde_json::json;

use super::args::{self, Change, Command, Hands as HandsArgs, Place, Ways};
use super::desk::{Desk, News, Pile};
use super::fault::{Done, FleetError, missing, refused, usage};
use super::gate::{self, Examiner};
use super::key::Passphrases;
use super::list;
use super::packages::{self, Gated, Lay};
use super::publish::{self, Gap, Published};
use super::rings::{self, Named};
use super::rotate::{Rotation, renew, rotate};
use super::sign::{Consent, Hands, Signed, ask};
use super::verify;
use super::{init, keys};
use crate::clock::{DAY_MS, Wall};
use crate::package::Package;

/// Runs a subcommand. `examiner` runs gates; the command `engine` is the caller's.
pub fn run(command: Command, now: Wall, examiner: &mut dyn Examiner) -> Done<()> {
    match command {
        Command::Init(order) => begin(&order, now),
        Command::Key(command) => keys::run(command),
        Command::Package(command) => package(command, now, examiner),
        Command::Ring(args::RingCommand::Open {
            ring,
            package,
            share,
            not_before,
            change,
        }) => {
            let package = Named::parse(&package)?;
            changed(&change, now, |desk, _| {
                let before = rings::all(desk)?.remove(&ring);
                let rollout = rings::open(desk, &ring, &package, share, not_before)?;
                let goes_on = match before {
                    Some(before) if before.halt => "; it was halted, and goes on",
                    Some(_) | None => "",
                };
                Ok(vec![format!(
                    "ring {ring}: {package} for {}‰ of its devices{goes_on}",
                    rollout.permille
                )])
            })
        }
        Command::Ring(args::RingCommand::Show { place, json }) => {
            let rings = list::rings(&look(&place, now)?)?;
            tell(json, || list::rings_told(&rings), &rings)
        }
        Command::Halt(halt) => halted(&halt, now, true),
        Command::Resume(halt) => halted(&halt, now, false),
        Command::Root(args::RootCommand::Rotate(order)) => rotated(&order, now),
        Command::Renew(order) => changed(&order.change, now, |desk, _| {
            for (post, days) in args::numbers(&order.days)? {
                desk.settings
                    .set_days(post, u32::try_from(days).unwrap_or(u32::MAX))?;
            }
            for role in &order.roles {
                renew(desk, init::post(role)?)?;
            }
            Ok(Vec::new())
        }),
        Command::Refresh(order) => refresh(&order, now),
        Command::Status(order) => looks::status(&order, now),
        Command::ExportUnsigned(order) => slips::export_unsigned(&order, now),
        Command::Sign(order) => slips::sign_slips(&order),
        Command::Merge(order) => changed(&order.change, now, |desk, _| {
            let slips = order.slips.iter();
            slips.map(|path| slips::merge(desk, path)).collect()
        }),
        Command::Publish(order) => {
            if order.change.ways.propose {
                return usage("publish --propose: one or the other");
            }
            changed(&order.change, now, |desk, _| {
                if desk.staged().0.is_empty() {
                    return missing("nothing is on the desk");
                }
                Ok(Vec::new())
            })?;
            let lacks = if order.change.ways.dry_run {
                Vec::new()
            } else {
                look(&order.change.place, now)?.lacks()?
            };
            if lacks.is_empty() {
                Ok(())
            } else {
                missing("it is not published: signatures are missing")
            }
        }
        Command::Discard(order) => looks::discard(&order, now),
        Command::Export(order) => looks::exported(&order, now),
        Command::Verify(order) => looks::verified(&order, now),
        Command::List(order) => {
            let inventory = list::inventory(&look(&order.place, now)?)?;
            tell(order.json, || list::told(&inventory), &inventory)
        }
        Command::Engine => usage("the engine is started by the tool itself"),
    }
}

/// Prints for people or for programs.
pub(super) fn tell(
    as_json: bool,
    words: impl FnOnce() -> String,
    value: &impl serde::Serialize,
) -> Done<()> {
    let text = if as_json {
        let text = serde_json::to_string(value);
        text.expect("texts and numbers have a JSON form") + "\n"
    } else {
        words()
    };
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

/// Where differences are shown: beside the result where that is for programs.
fn show(as_json: bool) -> impl FnMut(&str) -> io::Result<()> {
    move |words: &str| {
        if as_json {
            writeln!(io::stderr(), "{words}")
        } else {
            writeln!(io::stdout(), "{words}")
        }
    }
}

fn look(place: &Place, now: Wall) -> Done<Desk> {
    Desk::open(&place.repo, place.desk.as_deref(), now, Pile::Taken)
}

fn hands(args: &HandsArgs, dry_run: bool) -> Done<Hands> {
    let consent = match (dry_run, args.yes) {
        (true, _) => Consent::Rehearsal,
        (false, true) => Consent::Given,
        (false, false) => Consent::Asked,
    };
    let passphrases = if dry_run {
        Passphrases::default()
    } else {
        Passphrases::read(&args.passphrase_file, &args.passphrase_env)?
    };
    Hands::new(&args.keys, passphrases, consent)
}

/// Opens the desk, changes it, signs and publishes as far as it goes.
fn changed(
    change: &Change,
    now: Wall,
    act: impl FnOnce(&mut Desk, Lay) -> Done<Vec<String>>,
) -> Done<()> {
    let mut desk = look(&change.place, now)?;
    finish(&mut desk, &change.hands, &change.ways, act)
}

fn finish(
    desk: &mut Desk,
    with: &HandsArgs,
    ways: &Ways,
    act: impl FnOnce(&mut Desk, Lay) -> Done<Vec<String>>,
) -> Done<()> {
    let lay = if ways.dry_run { Lay::Nothing } else { Lay::Out };
    let was_clear = desk.staged().0.is_empty();
    let settings = desk.settings.clone();
    let mut show = show(ways.json);
    let mut hands = hands(with, ways.dry_run)?;
    let done = act(desk, lay).and_then(|words| {
        for line in &words {
            show(line)?;
        }
        let signed = hands.sign_desk(desk, News::default(), &mut show)?;
        Ok((words, signed))
    });
    let (words, signed) = match done {
        Ok(done) => done,
        Err(error) => {
            // What was laid out for this change alone goes again.
            if was_clear && lay == Lay::Out {
                desk.clear()?;
            }
            return Err(error);
        }
    };
    if ways.dry_run {
        return conclude(
            ways,
            &words,
            &signed,
            None,
            desk,
            "dry run: nothing was signed or written",
        );
    }
    desk.save()?;
    if desk.settings != settings {
        desk.save_settings()?;
    }
    let lacks = desk.lacks()?;
    let ready = lacks.is_empty() && !desk.staged().0.is_empty();
    if !ready || ways.propose {
        let end = if desk.staged().0.is_empty() {
            "nothing changed"
        } else {
            "on the desk, not published; see `status`"
        };
        return conclude(ways, &words, &signed, None, desk, end);
    }
    let published = consented(
        with,
        &format!("publish in {}?", desk.repository().display()),
    )
    .and_then(|()| publish(desk, ways));
    match published {
        Ok(published) => conclude(ways, &words, &signed, Some(&published), desk, "published"),
        Err(error) => {
            if was_clear && matches!(error, FleetError::Refused(_)) {
                desk.clear()?;
            }
            Err(error)
        }
    }
}

fn consented(with: &HandsArgs, question: &str) -> Done<()> {
    if with.yes { Ok(()) } else { ask(question) }
}

fn publish(desk: &mut Desk, ways: &Ways) -> Done<Published> {
    let gap = if ways.accept_gap {
        Gap::Accepted
    } else {
        Gap::Never
    };
    publish::publish(desk, gap, &mut |_| Ok(()))
}

fn conclude(
    ways: &Ways,
    words: &[String],
    signed: &[Signed],
    published: Option<&Published>,
    desk: &Desk,
    end: &str,
) -> Done<()> {
    let lacks = desk.lacks()?;
    let waiting: Vec<list::Waiting> = lacks.iter().cloned().map(list::Waiting::from).collect();
    let report = json!({
        "ok": true,
        "dry_run": ways.dry_run,
        "told": words,
        "signed": signed,
        "published": published,
        "waiting": waiting,
    });
    let told = || {
        let mut text = String::new();
        if let Some(published) = published {
            let versions = published.versions.iter();
            let versions = versions.map(|(role, version)| format!("{role} {version}"));
            text = format!(
                "published: {}; {} targets and {} objects laid out\n",
                versions.collect::<Vec<_>>().join(", "),
                published.targets,
                published.objects
            );
        } else {
            text.push_str(end);
            text.push('\n');
            if !lacks.is_empty() {
                text.push_str(&publish::told(&lacks));
                text.push('\n');
            }
        }
        text
    };
    tell(ways.json, told, &report)
}

fn begin(order: &args::Init, now: Wall) -> Done<()> {
    let mut settings = super::settings::Settings::default();
    for (post, days) in args::numbers(&order.days)? {
        settings.set_days(post, u32::try_from(days).unwrap_or(u32::MAX))?;
    }
    let mut appointments = init::Appointments::default();
    for (post, threshold) in args::numbers(&order.threshold)? {
        appointments.thresholds.insert(post, threshold);
    }
    for said in &order.appointed {
        let (roles, file) = said
            .split_once('=')
            .ok_or_else(|| FleetError::Usage(format!("--keys {said}: ROLE=FILE is wanted")))?;
        let file = super::key::KeyFile::read(Path::new(file))?;
        for role in roles.split(',') {
            appointments.appoint(init::post(role)?, &file)?;
        }
    }
    appointments.check()?;
    let keep = !order.ways.dry_run;
    let folder = order.desk.as_deref();
    let mut desk = Desk::begin(&order.repository, folder, now, settings, keep)?;
    let made = finish(&mut desk, &order.hands, &order.ways, |desk, _| {
        init::init(desk, &appointments)?;
        Ok(Vec::new())
    });
    if made.is_err() && keep && desk.staged().0.is_empty() {
        desk.give_up();
    }
    made
}

fn package(command: args::PackageCommand, now: Wall, examiner: &mut dyn Examiner) -> Done<()> {
    match command {
        args::PackageCommand::Add {
            folder,
            without_gate,
            change,
        } => {
            let opened = Package::open(&folder);
            let package = opened.and_then(|package| package.verify().map(|()| package));
            let package = package.map_err(|faults| FleetError::Refused(faults.to_string()))?;
            changed(&change, now, |desk, lay| {
                let gated = match &without_gate {
                    Some(why) => Gated::Skipped(why),
                    None => Gated::By(examiner),
                };
                let proposed = packages::add(desk, &package, gated, lay)?;
                let mut words = Vec::new();
                if let Some(why) = &without_gate {
                    words.push(format!(
                        "WARNING: {} was NOT held against its gate. This is signed with it: {}",
                        proposed.package,
                        super::diff::clean(why)
                    ));
                } else {
                    words.push(gate::told(&proposed.verdicts));
                }
                words.push(format!(
                    "package {}: {} bytes",
                    proposed.package, proposed.bytes
                ));
                Ok(words)
            })
        }
        args::PackageCommand::Remove { package, change } => {
            let package = Named::parse(&package)?;
            changed(&change, now, |desk, _| {
                packages::remove(desk, &package)?;
                Ok(Vec::new())
            })
        }
        args::PackageCommand::Tiers(order) => super::tiers::run(&order, examiner),
    }
}

fn halted(order: &args::Halt, now: Wall, halted: bool) -> Done<()> {
    changed(&order.change, now, |desk, _| {
        let word = if halted { "halted" } else { "goes on" };
        let changed = rings::set_halted(desk, &order.rings, halted)?;
        let words: Vec<_> = changed
            .iter()
            .map(|it| format!("ring {}: {word}", it.ring))
            .collect();
        if words.is_empty() {
            return refused(format!("no ring changes: each {word} already"));
        }
        Ok(words)
    })
}

fn rotated(order: &args::Rotate, now: Wall) -> Done<()> {
    let mut rotation = Rotation {
        remove: order.remove.clone(),
        threshold: order.new_threshold,
        ..Rotation::default()
    };
    let mut come: Vec<&Path> = order.add.iter().map(AsRef::as_ref).collect();
    for said in &order.replace {
        let (id, file) = said
            .split_once('=')
            .ok_or_else(|| FleetError::Usage(format!("--replace {said}: ID=FILE is wanted")))?;
        rotation.remove.push(id.to_owned());
        come.push(Path::new(file));
    }
    for path in come {
        rotation.add.push(super::key::KeyFile::read(path)?);
    }
    let post = init::post(&order.role)?;
    changed(&order.change, now, |desk, _| {
        rotate(desk, post, &rotation)?;
        Ok(Vec::new())
    })
}

/// Beside what waits on the desk: that may take days, and a timestamp must not.
fn refresh(order: &args::Refresh, now: Wall) -> Done<()> {
    let (change, ways) = (&order.change, &order.change.ways);
    let folder = change.place.desk.as_deref();
    let mut desk = Desk::open(&change.place.repo, folder, now, Pile::Aside)?;
    let snapshot = desk.current().snapshot()?.expires.moment();
    let half = DAY_MS / 2 * u64::from(desk.settings.days(super::post::Post::Snapshot));
    let news = News {
        snapshot: order.snapshot || snapshot.0.saturating_sub(half) <= now.0,
        timestamp: true,
    };
    let mut show = show(ways.json);
    let mut hands = hands(&change.hands, ways.dry_run)?;
    let signed = hands.sign_desk(&mut desk, news, &mut show)?;
    let mut published = None;
    if !ways.dry_run {
        let lacks = desk.lacks()?;
        if !lacks.is_empty() {
            return missing(format!(
                "signatures are missing; give their keys:\n{}",
                publish::told(&lacks)
            ));
        }
        published = Some(publish(&mut desk, ways)?);
        desk = desk.reopened()?;
    }
    let soon = list::soon(&verify::terms(desk.current(), now)?, &desk.settings);
    let words: Vec<_> = soon.iter().map(|it| format!("soon: {it}")).collect();
    if !ways.json {
        for line in &words {
            show(line)?;
        }
    }
    conclude(
        ways,
        &words,
        &signed,
        published.as_ref(),
        &desk,
        "dry run: nothing was signed",
    )
}
