//! Rings: what each is to run, for which share of its devices, and whether it is halted. Each
//! change is a new version of the role that signs for the ring.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::desk::Desk;
use super::fault::{Done, FleetError, refused, usage};
use super::post::Post;
use super::publish;
use crate::ota::rollout::{PLACES, RING_WANTED, Rollout, is_ring};
use crate::ota::tuf::Expiry;
use crate::ota::tuf::metadata::TargetFile;
use crate::ota::tuf::write::target_file;
use crate::package::{self, MAX_SEQ};

/// A package by name and number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its number.
    pub seq: u64,
}

impl Named {
    /// From `NAME-SEQ`, as targets are called.
    pub fn parse(text: &str) -> Done<Self> {
        let text = text.strip_suffix(".json").unwrap_or(text);
        let parts = text.rsplit_once('-');
        let parsed = parts.and_then(|(name, seq)| Some((name, seq.parse().ok()?)));
        match parsed {
            Some((name, seq)) if package::is_package_name(name) && (1..=MAX_SEQ).contains(&seq) => {
                Ok(Self {
                    name: name.to_owned(),
                    seq,
                })
            }
            Some(_) | None => usage(format!(
                "{text}: no package; it is called NAME-SEQ, such as factory-triage-3"
            )),
        }
    }

    /// Its target.
    pub fn target(&self) -> String {
        format!("{}-{}.json", self.name, self.seq)
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.name, self.seq)
    }
}

/// A share of a ring in thousandths, from `10%`, `0.5%` or `100‰`.
pub fn share(text: &str) -> Result<u16, String> {
    let wanted = || format!("{text}: a share such as 10%, 0.5% or 100‰");
    let permille = if let Some(thousandths) = text.strip_suffix('‰') {
        thousandths.trim().parse().map_err(|_| wanted())?
    } else {
        let percent = text.strip_suffix('%').ok_or_else(wanted)?.trim();
        let (whole, tenths) = percent.split_once('.').unwrap_or((percent, "0"));
        let digit = |text: &str| text.len() == 1 && text.bytes().all(|it| it.is_ascii_digit());
        let whole: u16 = whole.parse().map_err(|_| wanted())?;
        if !digit(tenths) {
            return Err(wanted());
        }
        let tenths: u16 = tenths.parse().map_err(|_| wanted())?;
        whole.saturating_mul(10).saturating_add(tenths)
    };
    if permille <= PLACES {
        Ok(permille)
    } else {
        Err(format!("{text}: more than all of the ring"))
    }
}

/// A moment as metadata has it.
pub fn moment(text: &str) -> Result<Expiry, String> {
    Expiry::parse(text).ok_or_else(|| format!("{text}: no moment like 2030-01-31T12:00:00Z"))
}

/// Has a ring run a package, from now on and not halted.
pub fn open(
    desk: &mut Desk,
    ring: &str,
    package: &Named,
    permille: u16,
    not_before: Option<Expiry>,
) -> Done<Rollout> {
    hold_name(ring)?;
    let packages = desk.role(Post::Packages)?;
    if !packages.targets.contains_key(&package.target()) {
        let mut there: Vec<_> = packages.targets.keys().map(String::as_str).collect();
        if there.is_empty() {
            there.push("none");
        }
        return refused(format!(
            "package {package} is not in this repository; there are: {}",
            there.join(", ")
        ));
    }
    let mut rollout = Rollout::new(ring, &package.name, package.seq, permille)
        .map_err(|error| FleetError::Usage(error.to_string()))?;
    rollout.not_before = not_before;
    if let Some(before) = all(desk)?.get(ring) {
        hold_forward(before, &rollout)?;
    }
    stage(desk, &rollout)?;
    Ok(rollout)
}

/// Halts rings, or lets them go on; all of them where none is named. Returns those that changed.
pub fn set_halted(desk: &mut Desk, rings: &[String], halted: bool) -> Done<Vec<Rollout>> {
    let there = all(desk)?;
    let unknown = rings.iter().find(|ring| !there.contains_key(*ring));
    if let Some(ring) = unknown {
        return refused(format!("ring {ring}: there is none of this name"));
    }
    let meant = |ring: &String| rings.is_empty() || rings.contains(ring);
    let mut changed = Vec::new();
    for (ring, before) in &there {
        if meant(ring) && before.halt != halted {
            let mut rollout = before.clone();
            rollout.halt = halted;
            stage(desk, &rollout)?;
            changed.push(rollout);
        }
    }
    Ok(changed)
}

/// All rings, as they would be published.
pub fn all(desk: &Desk) -> Done<BTreeMap<String, Rollout>> {
    let mut rings = BTreeMap::new();
    let latest = desk.latest();
    for post in [Post::Rollout, Post::Offline] {
        if !latest.0.contains_key(post.name()) {
            continue;
        }
        for (path, file) in &latest.targets(post.name())?.targets {
            let rollout = publish::ring(desk, path, file)?;
            rings.insert(rollout.ring.clone(), rollout);
        }
    }
    Ok(rings)
}

/// A ring never goes back to a lower number of the package that it runs.
pub(super) fn hold_forward(before: &Rollout, after: &Rollout) -> Done<()> {
    if before.package == after.package && after.seq < before.seq {
        return refused(format!(
            "ring {}: it runs {}-{} now, and devices refuse a lower number than they have had. To go \
             back, publish what {}-{} has under a new number",
            after.ring, before.package, before.seq, after.package, after.seq
        ));
    }
    Ok(())
}

/// What a ring's target says of it beside its hash.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    package: String,
    seq: u64,
    permille: u16,
    halt: bool,
    #[serde(default)]
    not_before: Option<Expiry>,
}

/// Whether a ring's target says in clear what its hash is of. Whoever signs elsewhere has only
/// these, and must not sign for another ring than the one that they read of. None where it says
/// nothing.
pub(super) fn says_what_it_is(path: &str, file: &TargetFile) -> Option<bool> {
    let ring = path.strip_prefix("rollout/")?.strip_suffix(".json")?;
    let said: Said = serde_json::from_value(file.custom.clone()?).ok()?;
    let Ok(mut rollout) = Rollout::new(ring, &said.package, said.seq, said.permille) else {
        return Some(false);
    };
    rollout.halt = said.halt;
    rollout.not_before = said.not_before;
    let is = target_file(rollout.to_json().as_bytes(), None);
    Some(is.length == file.length && is.hashes == file.hashes)
}

fn hold_name(ring: &str) -> Done<()> {
    if is_ring(ring) {
        Ok(())
    } else {
        usage(format!("ring {ring}: its name is none: {RING_WANTED}"))
    }
}

fn stage(desk: &mut Desk, rollout: &Rollout) -> Done<()> {
    let post = Post::of_ring(&rollout.ring);
    let mut role = desk.role(post)?;
    let path = Rollout::target_of(&rollout.ring);
    let text = rollout.to_json();
    let mut custom = json!({
        "package": rollout.package,
        "seq": rollout.seq,
        "permille": rollout.permille,
        "halt": rollout.halt,
    });
    if let Some(moment) = rollout.not_before {
        custom["not_before"] = json!(moment);
    }
    let file = target_file(text.as_bytes(), Some(custom));
    role.targets.insert(path.clone(), file);
    desk.stage_file(&path, text.into_bytes());
    desk.stage_role(post, role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_said_in_percent_or_in_thousandths() {
        for (text, permille) in [
            ("100%", 1000),
            ("10%", 100),
            ("0.5%", 5),
            ("12.5 %", 125),
            ("100‰", 100),
            ("1‰", 1),
            ("0%", 0),
        ] {
            assert_eq!(share(text), Ok(permille), "{text}");
        }
        for text in [
            "", "10", "%", "101%", "1001‰", "-1%", "0.55%", "1.%", "ten%", "1e2%",
        ] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_package_is_called_by_name_and_number() {
        let named = Named::parse("factory-triage-12").unwrap();
        assert_eq!((named.name.as_str(), named.seq), ("factory-triage", 12));
        assert_eq!(Named::parse("a-1.json").unwrap().target(), "a-1.json");
        for text in ["", "factory-triage", "a-0", "A-1", "a-1-", "-1", "a--1x"] {
            assert!(Named::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_target_of_a_ring_says_what_its_hash_is_of_or_is_found_out() {
        let rollout = Rollout::new("canary", "a", 3, 100).unwrap();
        let custom = json!({"package": "a", "seq": 3, "permille": 100, "halt": false});
        let file = target_file(rollout.to_json().as_bytes(), Some(custom));
        let path = Rollout::target_of("canary");
        assert_eq!(says_what_it_is(&path, &file), Some(true));
        assert_eq!(says_what_it_is("rollout/broad.json", &file), Some(false));
        for (key, value) in [
            ("seq", json!(4)),
            ("halt", json!(true)),
            ("not_before", json!("2030-01-31T12:00:00Z")),
            ("package", json!("")),
        ] {
            let mut other = file.clone();
            other.custom.as_mut().unwrap()[key] = value;
            assert_eq!(says_what_it_is(&path, &other), Some(false), "{key}");
        }
        let silent = TargetFile {
            custom: None,
            ..file
        };
        assert_eq!(says_what_it_is(&path, &silent), None);
    }

    #[test]
    fn a_ring_goes_forward_only_and_to_another_package_freely() {
        let of = |package: &str, seq| Rollout::new("canary", package, seq, 1000).unwrap();
        assert!(hold_forward(&of("a", 3), &of("a", 3)).is_ok());
        assert!(hold_forward(&of("a", 3), &of("a", 4)).is_ok());
        assert!(hold_forward(&of("a", 3), &of("b", 1)).is_ok());
        let error = hold_forward(&of("a", 3), &of("a", 2)).unwrap_err();
        assert!(error.to_string().contains("a lower number"), "{error}");
    }
}
