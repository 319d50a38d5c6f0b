//! The same made-up repositories, read here, by python-tuf and by the crate sigstore-tuf.
//!
//! A valid repository is changed at random: bytes, fields, signatures, versions, which file lies
//! under which name; often signed again by those who must, so that what is signed is wrong, too.
//! Nothing may be accepted here that both refuse; what several accept must mean the same to them.
//! Where this client is stricter, that is counted and shown. What it accepts and python-tuf does not
//! must be one of these, each with its reason:
//!
//! | Here | python-tuf | Why |
//! | --- | --- | --- |
//! | a key of an unknown kind signs nothing | the whole document is refused | a repository can introduce a kind of key before all appliances know it; the threshold still needs known keys |
//! | signatures are over the document as it came | over what python-tuf makes of it again, without what it does not keep (more entries in a timestamp's `meta`, a field that is `null`) | the specification, section 4: fields that are not known are part of what is signed |
//! | hashes of unknown kinds beside a known one say nothing | refused | the known one decides |
//! | a pattern with `[` covers nothing | a class of signs | it is not in the specification's grammar |

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::json;

use super::*;
use crate::ota::tests::repository::{Describe, Shelf};

/// How many are tried where nobody says more: a fraction of a minute.
const SEEDS: u64 = 1500;

struct Oracle {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    /// The Python with `tuf`; none where there is none.
    fn python() -> Option<Self> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = match std::env::var_os("LINESIDE_TUF_PYTHON") {
            Some(python) => PathBuf::from(python),
            None => repository.join("target/tuf-oracle/bin/python"),
        };
        let script = repository.join("tools/tuf_oracle.py");
        python
            .exists()
            .then(|| Self::start(Command::new(python).arg(script)))
    }

    /// The program with sigstore-tuf, where somebody has built it.
    fn sigstore() -> Option<Self> {
        let program = std::env::var_os("LINESIDE_TUF_SIGSTORE")?;
        Some(Self::start(&mut Command::new(program)))
    }

    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let asks = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            asks,
            answers,
        }
    }

    fn ask(&mut self, case: &Case) -> String {
        let hexed = |files: &Shelf| {
            let pairs = files.files.iter();
            Value::Object(
                pairs
                    .map(|(name, bytes)| (name.clone(), key::hex(bytes).into()))
                    .collect(),
            )
        };
        let line = json!({
            "anchor": key::hex(&case.repository.anchor()),
            "before": hexed(&case.before),
            "after": hexed(&case.repository.files),
            "target": case.path,
            "now": NOW.0 / 1000,
        });
        writeln!(self.asks, "{line}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert!(answer.ends_with('\n'), "the oracle fell silent");
        answer.trim_end().to_owned()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Case {
    repository: Repository,
    before: Shelf,
    path: &'static str,
    /// What was done to it, in words.
    done: Vec<String>,
}

const PATHS: [&str; 4] = [FILE, "packages/a.json", "packages/press/b.json", "nowhere"];

impl Case {
    fn new(dice: &mut fastrand::Rng) -> Self {
        let mut repository = Repository::new();
        repository.describe = if dice.bool() {
            Describe::Fully
        } else {
            Describe::VersionOnly
        };
        repository.delegate(
            TARGETS,
            "packages",
            &["packages/*", "packages/*/?.json"],
            write::Then::Stop,
        );
        repository.delegate(
            "packages",
            "press",
            &["packages/press/*"],
            write::Then::GoOn,
        );
        repository.put("packages", "packages/a.json", b"a");
        repository.put("press", "packages/press/b.json", b"b");
        repository.publish();
        let before = repository.files.clone();
        let second = repository.signer();
        repository.entrust(metadata::Kind::Root, 2, &[0, second]);
        repository.publish_root(&[]);
        repository.put(TARGETS, FILE, b"newer");
        repository.publish();
        let mut case = Self {
            repository,
            before,
            path: PATHS[dice.usize(..PATHS.len())],
            done: Vec::new(),
        };
        for _ in 0..dice.usize(1..=2) {
            case.change(dice);
        }
        case
    }

    fn name(dice: &mut fastrand::Rng) -> String {
        // Mostly what will be fetched.
        const LIKELY: [&str; 6] = [
            "2.root.json",
            "timestamp.json",
            "3.snapshot.json",
            "3.targets.json",
            "2.packages.json",
            "2.press.json",
        ];
        LIKELY[dice.usize(..LIKELY.len())].to_owned()
    }

    fn change(&mut self, dice: &mut fastrand::Rng) {
        let name = Self::name(dice);
        let Some(bytes) = self.repository.files.files.get(&name).cloned() else {
            return;
        };
        let (how, bytes) = match dice.usize(..12) {
            0 => ("a byte", Some(change_byte(bytes, dice))),
            1 => ("away", None),
            2 => {
                let all: Vec<_> = self.repository.files.files.values().collect();
                ("another file", Some(all[dice.usize(..all.len())].clone()))
            }
            3 => ("signatures", Some(change_signatures(&bytes, dice))),
            4 => ("unsigned change", Some(change_signed(&bytes, dice).0)),
            5 => ("the file before", self.older(&name)),
            _ => {
                let (changed, what) = change_signed(&bytes, dice);
                let signed = self.sign_again(&name, &changed);
                self.done.push(what);
                ("signed change", Some(signed.unwrap_or(changed)))
            }
        };
        self.done.push(format!("{name}: {how}"));
        let files = &mut self.repository.files.files;
        match bytes {
            Some(bytes) => files.insert(name, bytes),
            None => files.remove(&name),
        };
    }

    /// The previous version under this name.
    fn older(&self, name: &str) -> Option<Vec<u8>> {
        if name == "timestamp.json" {
            return self.before.files.get(name).cloned();
        }
        let (version, role) = name.split_once('.')?;
        let version = version.parse::<u64>().ok()? - 1;
        self.repository
            .files
            .files
            .get(&format!("{version}.{role}"))
            .cloned()
    }

    /// By those who must, and described anew by the one that describes it.
    fn sign_again(&mut self, name: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let role = name.split('.').rev().nth(1)?.to_owned();
        let mut value: Value = serde_json::from_slice(bytes).ok()?;
        let signed = value.get_mut("signed")?.take();
        let picked = self.repository.picked(&self.repository.hands[&role]);
        let signers: Vec<&Signer> = picked.iter().map(|signer| &**signer).collect();
        let file = sign_value(&signed, &signers).ok()?;
        if self.repository.describe == Describe::Fully {
            match role.as_str() {
                "root" | "timestamp" => {}
                "snapshot" => {
                    let described = write::describe(self.repository.snapshot.version, &file);
                    let meta = &mut self.repository.timestamp.meta;
                    meta.insert("snapshot.json".to_owned(), described);
                    self.repository.sign_timestamp();
                }
                role => {
                    let version = self.repository.roles[role].version;
                    let described = write::describe(version, &file);
                    self.repository.snapshot.list(role, described);
                    self.repository.sign_snapshot();
                    self.repository.sign_timestamp();
                }
            }
        }
        Some(file)
    }

    fn read_here(&self) -> Result<String, TufError> {
        let disk = SimDisk::default();
        let mut client = self.repository.client(&disk);
        client.refresh(NOW, &mut self.before.clone()).unwrap();
        // A start of its own, as the oracle does.
        let mut client = self.repository.client(&disk);
        let mut files = self.repository.files.clone();
        let seen = client.refresh(NOW, &mut files)?;
        let found = client.find(self.path, &mut files)?;
        let hash = found.and_then(|target| target.hashes.get("sha256").cloned());
        let hash = hash.unwrap_or("none".to_owned());
        Ok(format!(
            "ok {} {} {} {} {hash}",
            seen.root, seen.timestamp, seen.snapshot, seen.targets
        ))
    }
}

fn change_byte(mut bytes: Vec<u8>, dice: &mut fastrand::Rng) -> Vec<u8> {
    let at = dice.usize(..bytes.len());
    match dice.usize(..4) {
        0 => bytes[at] ^= 1 << dice.u8(..8),
        1 => bytes.truncate(at),
        2 => bytes.insert(at, b" 0}\"x"[dice.usize(..5)]),
        _ => {
            bytes.remove(at);
        }
    }
    bytes
}

fn change_signatures(bytes: &[u8], dice: &mut fastrand::Rng) -> Vec<u8> {
    // An earlier change may have left nothing to work on.
    let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else {
        return bytes.to_vec();
    };
    let list = value.get_mut("signatures").and_then(Value::as_array_mut);
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        return bytes.to_vec();
    };
    let at = dice.usize(..list.len());
    match dice.usize(..5) {
        0 => drop(list.remove(at)),
        1 => list.push(list[at].clone()),
        2 => list[at]["sig"] = ["", "00", "zz"][dice.usize(..3)].into(),
        3 => list[at]["keyid"] = "somebody".into(),
        _ => list.push(json!({"keyid": "stranger", "sig": "00"})),
    }
    value.to_string().into_bytes()
}

/// Something inside `signed`: another value, a field more or less, a field renamed.
fn change_signed(bytes: &[u8], dice: &mut fastrand::Rng) -> (Vec<u8>, String) {
    let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else {
        return (bytes.to_vec(), "no JSON".to_owned());
    };
    let mut places = Vec::new();
    pointers(&value["signed"], "/signed", &mut places);
    if places.is_empty() {
        return (bytes.to_vec(), "nothing signed".to_owned());
    }
    let place = places[dice.usize(..places.len())].clone();
    let (parent, name) = place.rsplit_once('/').unwrap();
    let what = dice.usize(..8);
    let parent = value.pointer_mut(parent).unwrap();
    match parent {
        Value::Object(object) if what == 0 => drop(object.remove(name)),
        Value::Object(object) if what == 1 => {
            let old = object.remove(name).unwrap_or_default();
            object.insert("renamed".to_owned(), old);
        }
        Value::Object(object) if what == 2 => {
            object.insert("more".to_owned(), another(dice));
        }
        Value::Array(list) if what == 0 => drop(list.pop()),
        Value::Array(list) if what == 1 => {
            let first = list[0].clone();
            list.push(first);
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => *value.pointer_mut(&place).unwrap() = another(dice),
    }
    (value.to_string().into_bytes(), format!("{what} at {place}"))
}

fn pointers(value: &Value, at: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, inner) in object {
                let name = name.replace('~', "~0").replace('/', "~1");
                out.push(format!("{at}/{name}"));
                pointers(inner, &format!("{at}/{name}"), out);
            }
        }
        Value::Array(list) => {
            for (n, inner) in list.iter().enumerate() {
                out.push(format!("{at}/{n}"));
                pointers(inner, &format!("{at}/{n}"), out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn another(dice: &mut fastrand::Rng) -> Value {
    let all = [
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(-1),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1.5),
        json!(true),
        json!(false),
        json!(null),
        json!(""),
        json!("x"),
        json!("*"),
        json!("root"),
        json!("targets"),
        json!("1.0.31"),
        json!("2.0.0"),
        json!("2001-01-01T00:00:00Z"),
        json!("2099-01-01T00:00:00Z"),
        json!("ed25519"),
        json!([]),
        json!({}),
        json!(["x"]),
        json!({"version": 1}),
        json!({"sha256": "00"}),
    ];
    all[dice.usize(..all.len())].clone()
}

/// Why a difference is meant; none if it is not.
fn meant(case: &Case, python: &str) -> Option<&'static str> {
    let done = case.done.join("; ");
    if python.contains("Unsupported public key") {
        return Some("a key of an unknown kind");
    }
    let unsigned_there = python.contains("UnsignedMetadataError");
    if unsigned_there && (done.contains("/signed/meta") || done.contains("/signed/consistent")) {
        return Some("python-tuf signs over what it keeps");
    }
    if python.contains("Unsupported algorithm") {
        return Some("an unknown hash beside a known one");
    }
    None
}

/// What became of the cases.
#[derive(Debug, Default)]
struct Tally {
    /// Accepted by python-tuf and here.
    both: u64,
    /// By neither.
    neither: u64,
    /// Refused here alone, or here and by sigstore-tuf: why.
    stricter: BTreeMap<String, u64>,
    /// Accepted here and not by python-tuf: why that is meant.
    explained: BTreeMap<&'static str, u64>,
    /// Accepted here and not by sigstore-tuf.
    laxer_than_sigstore: BTreeMap<String, u64>,
    faults: Vec<String>,
}

impl Tally {
    fn count(&mut self, seed: u64, case: &Case, python: &str, sigstore: Option<&str>) {
        let here = case.read_here();
        let fault = |what: &str| {
            let told = match &here {
                Ok(here) => here.clone(),
                Err(error) => error.to_string(),
            };
            let done = &case.done;
            format!(
                "seed {seed}: {what}: {done:?}\n  here {told}\n  python-tuf {python}\n  \
                 sigstore-tuf {sigstore:?}"
            )
        };
        let (refused, other) = match sigstore {
            Some(told) if told.starts_with("no ") => (true, None),
            other => (false, other),
        };
        match &here {
            Ok(here) => {
                if other.is_some_and(|other| other != here) {
                    self.faults.push(fault("sigstore-tuf means something else"));
                }
                if refused {
                    let kind = without_digits(sigstore.unwrap_or_default());
                    *self.laxer_than_sigstore.entry(kind).or_default() += 1;
                }
                if here == python {
                    self.both += 1;
                } else if python.starts_with("no ") && refused {
                    self.faults.push(fault("both others refuse it"));
                } else {
                    match meant(case, python) {
                        Some(why) => *self.explained.entry(why).or_default() += 1,
                        None => self.faults.push(fault("python-tuf does not say so")),
                    }
                }
            }
            Err(_) if python.starts_with("no ") => self.neither += 1,
            Err(error) => {
                let kind = without_digits(&error.to_string());
                *self.stricter.entry(kind).or_default() += 1;
            }
        }
    }
}

fn without_digits(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[test]
fn nothing_is_accepted_here_that_the_others_refuse() {
    let Some(mut python) = Oracle::python() else {
        // Past the capture, so that it is seen.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no python-tuf to compare with; `tools/conformance differential` installs it"
        );
        return;
    };
    let mut sigstore = Oracle::sigstore();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds: u64 = number("LINESIDE_TUF_SEEDS").unwrap_or(SEEDS);
    let first: u64 = number("LINESIDE_TUF_FIRST").unwrap_or(0);
    let mut tally = Tally::default();
    for seed in first..first + seeds {
        let case = Case::new(&mut fastrand::Rng::with_seed(seed));
        let told = python.ask(&case);
        let other = sigstore.as_mut().map(|sigstore| sigstore.ask(&case));
        tally.count(seed, &case, &told, other.as_deref());
    }
    let Tally { both, neither, .. } = tally;
    let _ = writeln!(
        std::io::stderr(),
        "{seeds} repositories, sigstore-tuf {}: {both} accepted here and by python-tuf, {neither} \
         by neither\nonly by python-tuf: {:#?}\nonly here, meant: {:#?}\n\
         here and not by sigstore-tuf: {:#?}",
        if sigstore.is_some() {
            "asked, too"
        } else {
            "not asked"
        },
        tally.stricter,
        tally.explained,
        tally.laxer_than_sigstore,
    );
    assert!(tally.faults.is_empty(), "{}", tally.faults.join("\n"));
    assert!(both > 0 && neither > 0);
}
