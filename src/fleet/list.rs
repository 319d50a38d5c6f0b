//! What is where: roles with their keys and terms, packages, rings, and what waits on the desk.

use std::fmt::Write as _;

use serde::Serialize;

use super::desk::{Desk, Lack};
use super::fault::Done;
use super::packages::{Row, gate_told};
use super::post::Post;
use super::publish::{manifest, objects};
use super::rings;
use super::settings::Settings;
use super::sign::SHORT_ID;
use super::verify::{Term, is_automatic, is_soon, terms};
use crate::ota::tuf::{Expiry, Key};

/// Everything that there is.
#[derive(Clone, Debug, Serialize)]
pub struct Inventory {
    /// Where it is.
    pub repository: String,
    /// The roles.
    pub roles: Vec<Term>,
    /// The keys, by their ids: which kind each is.
    pub keys: std::collections::BTreeMap<String, String>,
    /// The packages.
    pub packages: Vec<Row>,
    /// The rings.
    pub rings: Vec<Ring>,
    /// What expires soon, and what is to be done.
    pub soon: Vec<String>,
    /// What waits on the desk for signatures.
    pub waiting: Vec<Waiting>,
}

/// A ring, for people.
#[derive(Clone, Debug, Serialize)]
pub struct Ring {
    /// Its name.
    pub ring: String,
    /// What it runs.
    pub package: String,
    /// For how many of a thousand devices.
    pub permille: u16,
    /// Whether it is halted.
    pub halt: bool,
    /// Before which nobody begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Expiry>,
}

/// A document that waits.
#[derive(Clone, Debug, Serialize)]
pub struct Waiting {
    /// Of which role.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// Signatures that it has.
    pub signed: u64,
    /// Signatures that it takes.
    pub threshold: u64,
    /// The ids of those who may still sign.
    pub by: Vec<String>,
}

impl From<Lack> for Waiting {
    fn from(lack: Lack) -> Self {
        Self {
            role: lack.role,
            version: lack.version,
            signed: lack.signed,
            threshold: lack.threshold,
            by: lack.by,
        }
    }
}

/// Rings, for people.
pub fn rings(desk: &Desk) -> Done<Vec<Ring>> {
    let all = rings::all(desk)?;
    let rings = all.into_values().map(|it| Ring {
        package: format!("{}-{}", it.package, it.seq),
        ring: it.ring,
        permille: it.permille,
        halt: it.halt,
        not_before: it.not_before,
    });
    Ok(rings.collect())
}

/// Looks at what is published, and at what waits.
pub fn inventory(desk: &Desk) -> Done<Inventory> {
    let papers = desk.current();
    let roles = terms(papers, desk.now())?;
    let mut keys = std::collections::BTreeMap::new();
    for term in &roles {
        let circle = papers.circle(&term.role)?;
        let kinds = circle.keys.into_iter();
        keys.extend(kinds.map(|(id, Key { scheme, .. })| (id, scheme)));
    }
    let mut packages = Vec::new();
    if papers.0.contains_key(Post::Packages.name()) {
        for (path, file) in papers.targets(Post::Packages.name())?.targets {
            let manifest = manifest(desk, &path, &file)?;
            let custom = file.custom.as_ref();
            let version = custom.and_then(|it| it.get("version")?.as_str());
            packages.push(Row {
                version: version.map(super::diff::clean),
                variants: (manifest.variants.iter())
                    .map(|it| it.quantization.clone())
                    .collect(),
                bytes: objects(&manifest).iter().map(|it| it.bytes()).sum(),
                gate: gate_told(custom),
                target: path,
            });
        }
    }
    Ok(Inventory {
        repository: desk.repository().display().to_string(),
        soon: soon(&roles, &desk.settings),
        waiting: desk.lacks()?.into_iter().map(Waiting::from).collect(),
        rings: rings(desk)?,
        packages,
        keys,
        roles,
    })
}

/// What expires soon, and what is to be done.
pub fn soon(roles: &[Term], settings: &Settings) -> Vec<String> {
    let due = roles.iter().filter(|term| {
        let usual = Post::of(&term.role).map_or(0, |post| settings.days(post));
        is_soon(term, usual)
    });
    let told = due.map(|term| {
        let what = if is_automatic(&term.role) {
            "run `refresh`".to_owned()
        } else {
            format!("run `renew {}` with its keys", term.role)
        };
        if term.days < 0 {
            format!("{} EXPIRED at {}: {what}", term.role, term.expires)
        } else {
            format!(
                "{} expires in {} days ({}): {what}",
                term.role, term.days, term.expires
            )
        }
    });
    told.collect()
}

/// For people.
pub fn told(it: &Inventory) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        let _ = writeln!(text, "{}", words.trim_end()); // a String takes all
    };
    line(format!("repository  {}", it.repository));
    for term in &it.roles {
        let ids = term.keys.iter();
        let ids = ids.map(|id| id[..SHORT_ID.min(id.len())].to_owned());
        line(format!(
            "role        {:<10} version {:<4} until {}  {} of {}",
            term.role,
            term.version,
            term.expires,
            term.threshold,
            ids.collect::<Vec<_>>().join(", ")
        ));
    }
    for (id, scheme) in &it.keys {
        line(format!("key         {id}  {scheme}"));
    }
    for package in &it.packages {
        line(format!(
            "package     {:<28} version {:<8} {:<20} {:>12} bytes  gate: {}",
            package.target.trim_end_matches(".json"),
            package.version.as_deref().unwrap_or("?"),
            package.variants.join(" "),
            package.bytes,
            package.gate
        ));
    }
    text.push_str(&rings_told(&it.rings));
    for what in &it.soon {
        let _ = writeln!(text, "soon        {what}");
    }
    for lack in &it.waiting {
        let _ = writeln!(
            text,
            "waiting     {} {}: {} of {} signatures",
            lack.role, lack.version, lack.signed, lack.threshold
        );
    }
    text
}

/// Rings, for people.
pub fn rings_told(rings: &[Ring]) -> String {
    let mut text = String::new();
    for ring in rings {
        let halted = if ring.halt { "  HALTED" } else { "" };
        let early = ring.not_before.map(|it| format!("  not before {it}"));
        let early = early.unwrap_or_default();
        let _ = writeln!(
            text,
            "ring        {:<16} {:<28} {:>4}‰{halted}{early}",
            ring.ring, ring.package, ring.permille
        );
    }
    text
}
