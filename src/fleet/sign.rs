//! Signing: whoever signs sees first what would change, and says yes.
//!
//! Two ways lead here: keys that are at hand sign what is on the desk, and a slip carries one
//! document to somebody elsewhere and back.
//!
//! ```text
//!  desk ── export-unsigned ─► ROLE-VERSION.slip.json ── sign FILE --key K ─► the same ── merge ─► desk
//! ```
//!
//! A slip has the document, the one before it and who may sign, so that it can be read where there
//! is no repository. It is believed in nothing: signatures are over the document alone, and `merge`
//! holds them against the desk's own.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::desk::{Desk, News};
use super::diff::{clean, diff};
use super::disk;
use super::fault::{Done, FleetError, missing, refused, usage};
use super::key::{KeyFile, Passphrases};
use super::post::Post;
use super::rings;
use crate::ota::tuf::Key;
use crate::ota::tuf::draft::{Circle, Draft};
use crate::ota::tuf::metadata::Targets;
use crate::ota::tuf::write::Signer;

/// The version of a slip's format.
const FORMAT: u64 = 1;
/// Bytes of a slip: two documents of the largest kind, and room.
const MAX_SLIP_BYTES: u64 = 16 << 20;
/// Of an id, what people compare.
pub(super) const SHORT_ID: usize = 12;

/// Who is asked before a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Whoever sits at the terminal.
    Asked,
    /// It was given on the command line.
    Given,
    /// Nobody: nothing is signed, only shown.
    Rehearsal,
}

/// Keys that are at hand, and how they are used.
pub struct Hands {
    keys: Vec<(KeyFile, Option<Signer>)>,
    passphrases: Passphrases,
    consent: Consent,
}

/// A signature that was made, or would have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Signed {
    /// Of which role.
    pub role: String,
    /// By which key.
    pub key: String,
}

impl Hands {
    /// Reads the keys' files. Nothing is opened yet.
    pub fn new(paths: &[PathBuf], passphrases: Passphrases, consent: Consent) -> Done<Self> {
        let keys = paths.iter().map(|path| Ok((KeyFile::read(path)?, None)));
        Ok(Self {
            keys: keys.collect::<Done<_>>()?,
            passphrases,
            consent,
        })
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Signs what is on the desk, as far as these keys may: first what is there, then what follows
    /// from it. Each difference is shown to `tell` before it is signed.
    pub fn sign_desk(
        &mut self,
        desk: &mut Desk,
        news: News,
        tell: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> Done<Vec<Signed>> {
        let mut done: Vec<Signed> = Vec::new();
        let mut shown: Vec<(String, Vec<u8>)> = Vec::new();
        loop {
            desk.advance(news)?;
            let mut is_new = false;
            for role in desk.staged_roles() {
                let may = desk.may_sign(&role)?;
                let before = desk.current().0.get(&role).cloned();
                let draft = desk.staged().0[&role].clone();
                let version = (role.clone(), draft.payload().to_vec());
                if !shown.contains(&version) {
                    tell(&diff(&role, before.as_ref(), &draft))?;
                    shown.push(version.clone());
                }
                for index in 0..self.keys.len() {
                    let id = self.keys[index].0.id.clone();
                    if !may.keyids.contains(&id) || draft.has_signature(&id) {
                        continue;
                    }
                    let signed = Signed {
                        role: role.clone(),
                        key: id,
                    };
                    if done.contains(&signed) && self.consent == Consent::Rehearsal {
                        continue;
                    }
                    if self.sign(index, &role, |signer| {
                        let draft = desk.staged_mut(&role);
                        let draft = draft.expect("it is one of the roles that are staged");
                        draft.sign(signer).map_err(|error| error.to_string())
                    })? {
                        is_new = true;
                    }
                    done.push(signed);
                }
            }
            if !is_new {
                return Ok(done);
            }
        }
    }

    /// Asks for consent, opens the key and has it sign. False in a rehearsal.
    fn sign(
        &mut self,
        index: usize,
        what: &str,
        sign: impl FnOnce(&Signer) -> Result<(), String>,
    ) -> Done<bool> {
        let (file, signer) = &mut self.keys[index];
        match self.consent {
            Consent::Rehearsal => return Ok(false),
            Consent::Given => {}
            Consent::Asked => ask(&format!("sign {what} with {}?", called(file)))?,
        }
        let signer = match signer {
            Some(signer) => signer,
            None => signer.insert(file.signer(&mut self.passphrases)?),
        };
        sign(signer).map_err(FleetError::Refused)?;
        Ok(true)
    }

    /// Signs a slip where it lies. Returns which keys did.
    pub fn sign_slip(
        &mut self,
        path: &Path,
        tell: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> Done<Vec<Signed>> {
        let mut slip = Slip::read(path)?;
        let before = slip.before.clone();
        tell(&diff(&slip.role, before.as_ref(), &slip.document))?;
        for doubt in doubts(&slip.role, &slip.document)? {
            tell(&doubt)?;
        }
        let mut done = Vec::new();
        for index in 0..self.keys.len() {
            let file = &self.keys[index].0;
            let (id, called) = (file.id.clone(), called(file));
            if !slip.circle.keyids.contains(&id) {
                return refused(format!(
                    "{}: {called} is none of the keys of {}",
                    path.display(),
                    slip.role
                ));
            }
            if let Some(before) = &before
                && !is_signed_by(before, &self.keys[index].0)
            {
                tell(&format!(
                    "note: the version before was not signed with {called}: if you have a copy of \
                     your own, compare"
                ))?;
            }
            let role = slip.role.clone();
            let document = &mut slip.document;
            if self.sign(index, &role, |signer| {
                document.sign(signer).map_err(|error| error.to_string())
            })? {
                slip.write(path)?;
            }
            done.push(Signed { role, key: id });
        }
        if done.is_empty() {
            return usage("which key is to sign? Give --key FILE");
        }
        Ok(done)
    }
}

/// What a document of rings leaves open; refused where it says one thing and has the hash of another.
fn doubts(role: &str, document: &Draft) -> Done<Vec<String>> {
    let mut doubts = Vec::new();
    if !matches!(Post::of(role), Some(Post::Rollout | Post::Offline)) {
        return Ok(doubts);
    }
    let targets = document.content::<Targets>();
    let targets = targets.map_err(|why| FleetError::Refused(format!("{role}: {why}")))?;
    for (path, file) in &targets.targets {
        match rings::says_what_it_is(path, file) {
            Some(true) => {}
            Some(false) => {
                return refused(format!(
                    "{path}: its hash is of something else than what stands beside it"
                ));
            }
            None => doubts.push(format!(
                "note: {path}: what the ring is to run is not said here, only its hash"
            )),
        }
    }
    Ok(doubts)
}

fn is_signed_by(draft: &Draft, file: &KeyFile) -> bool {
    let one = Circle {
        keyids: vec![file.id.clone()],
        threshold: 1,
        keys: [(file.id.clone(), file.key.clone())].into(),
    };
    draft.is_signed(&one)
}

/// A key, for people.
pub(super) fn called(file: &KeyFile) -> String {
    let comment = clean(&file.comment);
    let short = &file.id[..SHORT_ID];
    if comment.is_empty() {
        format!("key {short} ({})", file.path.display())
    } else {
        format!("key {short} ({comment}, {})", file.path.display())
    }
}

/// Asks at the terminal; anything but yes ends everything.
pub(super) fn ask(question: &str) -> Done<()> {
    let mut input = io::stdin().lock();
    if !input.is_terminal() {
        return usage(format!(
            "{question} Nobody can be asked here: --yes says yes to all of it"
        ));
    }
    write!(io::stderr(), "{question} [yes/no] ")?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    match answer.trim() {
        "y" | "yes" => Ok(()),
        _ => missing("not agreed to: nothing was signed or published"),
    }
}

/// One document on its way to a signature and back.
#[derive(Clone, Debug)]
pub struct Slip {
    /// Of which role.
    pub role: String,
    /// The document.
    pub document: Draft,
    /// The one that is published.
    pub before: Option<Draft>,
    /// Who may sign.
    pub circle: Circle,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: u64,
    role: String,
    document: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    threshold: u64,
    keys: std::collections::BTreeMap<String, Key>,
}

impl Slip {
    /// The slips for everything on the desk that lacks signatures.
    pub fn of_desk(desk: &Desk) -> Done<Vec<(String, Self)>> {
        let lacks = desk.lacks()?;
        let mut slips = Vec::new();
        for role in desk.staged_roles() {
            let Some(lack) = lacks.iter().find(|lack| lack.role == role) else {
                continue;
            };
            let mut circle = desk.may_sign(&role)?;
            circle.threshold = lack.threshold;
            let slip = Self {
                document: desk.staged().0[&role].clone(),
                before: desk.current().0.get(&role).cloned(),
                circle,
                role,
            };
            slips.push((format!("{}-{}.slip.json", slip.role, lack.version), slip));
        }
        Ok(slips)
    }

    /// Reads one.
    pub fn read(path: &Path) -> Done<Self> {
        let wrong = |why: &dyn std::fmt::Display| {
            FleetError::Refused(format!("{}: no slip to be signed: {why}", path.display()))
        };
        let bytes = disk::bytes(path, MAX_SLIP_BYTES)?;
        let wire: Wire = serde_json::from_slice(&bytes).map_err(|error| wrong(&error))?;
        if wire.format != FORMAT {
            return Err(wrong(&format!("format {}, not {FORMAT}", wire.format)));
        }
        let draft = |value: &Value| {
            let draft = Draft::parse(value.to_string().as_bytes());
            draft.map_err(|why| wrong(&why))
        };
        let document = draft(&wire.document)?;
        let kind = Post::of(&wire.role).map(Post::kind);
        if kind != document.kind() {
            return Err(wrong(&format!("its document is not one of {}", wire.role)));
        }
        for (id, key) in &wire.keys {
            if key.id().ok().as_ref() != Some(id) {
                return Err(wrong(&format!("key {id} is another one")));
            }
        }
        Ok(Self {
            role: wire.role,
            document,
            before: wire.before.as_ref().map(draft).transpose()?,
            circle: Circle {
                keyids: wire.keys.keys().cloned().collect(),
                threshold: wire.threshold,
                keys: wire.keys,
            },
        })
    }

    /// Writes it.
    pub fn write(&self, path: &Path) -> Done<()> {
        let value = |draft: &Draft| {
            let value = serde_json::from_slice(&draft.to_bytes());
            value.expect("a document's bytes are JSON")
        };
        let wire = Wire {
            format: FORMAT,
            role: self.role.clone(),
            document: value(&self.document),
            before: self.before.as_ref().map(value),
            threshold: self.circle.threshold,
            keys: self.circle.keys.clone(),
        };
        let text = serde_json::to_string_pretty(&wire);
        let text = text.expect("texts and numbers have a JSON form") + "\n";
        disk::write(path, text.as_bytes())
    }

    /// Takes its signatures over to the desk. Returns how many were new.
    pub fn merge(&self, desk: &mut Desk) -> Done<usize> {
        let may = desk.may_sign(&self.role)?;
        let role = &self.role;
        let Some(draft) = desk.staged_mut(role) else {
            return refused(format!("{role}: nothing of it is on the desk"));
        };
        match draft.merge(&self.document, &may) {
            Some(added) => Ok(added),
            None => refused(format!(
                "{role}: the slip is of another document than the one on the desk: export it anew"
            )),
        }
    }
}
