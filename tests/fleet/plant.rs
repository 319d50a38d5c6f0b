//! A plant: a folder with keys of several people, and the tool to sign with them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// The variable that all keys here have their passphrase in.
const VARIABLE: &str = "PLANT_PASSPHRASE";
pub(crate) const PASSPHRASE: &str = "correct horse";

/// The bundled package.
pub(crate) fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage")
}

/// Its name and number, as targets are called.
pub(crate) fn bundled_name() -> String {
    let manifest = lineside::package::manifest_in(&bundled()).unwrap();
    format!("{}-{}", manifest.name, manifest.seq)
}

pub(crate) struct Plant(PathBuf);

impl Plant {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fleet-{}-{next}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// A repository where one key signs everything but the machine's part; published.
    pub(crate) fn simple() -> Self {
        let plant = Self::new();
        plant.key("ann");
        plant.key("online");
        plant.done(&[
            "init",
            "repo",
            "--keys",
            "root,targets,packages,rollout,offline=ann",
            "--keys",
            "snapshot,timestamp=online",
            "--key",
            "ann",
            "--key",
            "online",
            "--passphrase-env",
            VARIABLE,
            "--yes",
        ]);
        plant
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.at("repo")
    }

    /// A new key, and its public half under `NAME.pub`. Returns its id.
    pub(crate) fn key(&self, name: &str) -> String {
        let kind: &[&str] = if name.starts_with("ben") {
            &["--p256"]
        } else {
            &[]
        };
        let made = [
            "key",
            "new",
            name,
            "--comment",
            name,
            "--passphrase-env",
            VARIABLE,
        ];
        self.done(&[&made[..], kind].concat());
        let (public, _) = self.done(&["key", "show", name, "--public"]);
        fs::write(self.at(&format!("{name}.pub")), public).unwrap();
        let (shown, _) = self.done(&["key", "show", name, "--json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, words: &[S]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_lineside-fleet"))
            .args(words)
            .current_dir(&self.0)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env(VARIABLE, PASSPHRASE)
            .env("WRONG", "another horse")
            .output()
            .unwrap()
    }

    /// What it writes where it ends with this code.
    #[track_caller]
    pub(crate) fn ended<S: AsRef<OsStr>>(&self, words: &[S], code: i32) -> (String, String) {
        let output = self.run(words);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(
            !out.contains(PASSPHRASE) && !err.contains(PASSPHRASE),
            "{out}{err}"
        );
        let said: Vec<_> = words
            .iter()
            .map(|it| it.as_ref().to_string_lossy())
            .collect();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{}\n{out}{err}",
            said.join(" ")
        );
        (out, err)
    }

    #[track_caller]
    pub(crate) fn done<S: AsRef<OsStr>>(&self, words: &[S]) -> (String, String) {
        self.ended(words, 0)
    }

    /// A command in the repository, with these keys.
    #[track_caller]
    pub(crate) fn with(&self, keys: &[&str], words: &[&str], code: i32) -> (String, String) {
        let mut all = words.to_vec();
        all.extend(["--repo", "repo", "--yes", "--passphrase-env", VARIABLE]);
        for key in keys {
            all.extend(["--key", key]);
        }
        self.ended(&all, code)
    }

    /// The same, and it goes well; its JSON.
    #[track_caller]
    pub(crate) fn json(&self, keys: &[&str], words: &[&str]) -> Value {
        let (out, _) = self.with(keys, &[words, &["--json"]].concat(), 0);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// What there is.
    #[track_caller]
    pub(crate) fn list(&self) -> Value {
        let (out, _) = self.done(&["list", "--repo", "repo", "--json"]);
        serde_json::from_str(&out).unwrap()
    }

    /// The ids of the keys that sign for a role.
    pub(crate) fn ids(&self, role: &str) -> Vec<String> {
        let list = self.list();
        let roles = list["roles"].as_array().unwrap();
        let own = roles.iter().find(|it| it["role"] == role).unwrap();
        let keys = own["keys"].as_array().unwrap().iter();
        keys.map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// Nothing is wrong with a repository.
    #[track_caller]
    pub(crate) fn sound(&self, repository: &str) {
        let (out, _) = self.done(&["verify", repository]);
        assert!(out.contains("nothing is wrong"), "{out}");
    }

    /// Every file that is served, with its content.
    pub(crate) fn served(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        files(&self.repo())
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Every file below a folder, with its content.
pub(crate) fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    found
}

/// A copy of a package with another manifest.
pub(crate) fn changed(to: &Path, change: impl Fn(&str) -> String) {
    let from = bundled();
    for path in files(&from).keys() {
        let name = path.strip_prefix(&from).unwrap();
        fs::create_dir_all(to.join(name).parent().unwrap()).unwrap();
        fs::copy(path, to.join(name)).unwrap();
    }
    let manifest = to.join("manifest.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(manifest, change(&text)).unwrap();
}

/// The same package under another number.
pub(crate) fn numbered(to: &Path, seq: u64) {
    changed(to, |text| {
        let (before, rest) = text.split_once("seq = ").unwrap();
        let (_, after) = rest.split_once('\n').unwrap();
        format!("{before}seq = {seq}\n{after}")
    });
}
