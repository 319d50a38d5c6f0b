//! The layers of the configuration: which file says what about which key.
//!
//! Purpose: read the reference (the defaults), then the main file, then the fragments in the
//! order of their names, and keep for each key the last word and where it was said. Each file is
//! held against [`KEYS`]; what does not fit becomes a fault and the layer below shows through,
//! so that the rest can be checked too.
//!
//! How it fails: only by faults. A file that is no TOML contributes nothing else.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::Value;
use toml::de::DeTable;

use crate::fault::{Fault, Lines, NOT_SET, Place};

use super::fault::{Faults, HIDDEN};
use super::file::{File, KEYS, Kind};
use super::{Surroundings, keys, secret};

/// The reference, which is also the lowest layer.
pub const REFERENCE: &str = include_str!("reference.toml");

/// Keys whose values may carry a login.
const URLS: [&str; 5] = [
    "broker.url",
    "cloud.url",
    "cloud.proxy",
    "ota.repository",
    "provision.est_url",
];

/// Bytes of one file: the reference with every comment takes a hundredth of it.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A file of the configuration that is in memory already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Where it lies or would lie: faults name it, relative paths inside count from its folder.
    pub file: PathBuf,
    /// What it says.
    pub text: String,
}

/// Who had the last word about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The reference.
    Default,
    /// Found out here, as the words say.
    Derived(&'static str),
    /// One of the site's files.
    Site(Place),
}

/// The last word about a key.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) value: Value,
    pub(super) origin: Origin,
    /// Where each entry of a list stands.
    entries: Vec<Place>,
}

/// Every key that has a value.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    leaves: BTreeMap<&'static str, Leaf>,
    /// The site's files, lowest first.
    pub(super) files: Vec<PathBuf>,
}

impl Layers {
    /// Reads all layers.
    pub(super) fn read(around: &Surroundings, faults: &mut Faults) -> Self {
        let mut layers = Self::default();
        layers.take(REFERENCE, None, faults);
        for file in site_files(around, faults) {
            match read_text(&file) {
                Ok(text) => layers.take(&text, Some(&file), faults),
                Err(wanted) => faults.add(Fault {
                    key: String::new(),
                    value: "this file cannot be used".into(),
                    wanted,
                    place: Some(Place {
                        file: file.clone(),
                        line: 0,
                    }),
                }),
            }
            layers.files.push(file);
        }
        layers
    }

    /// Takes documents instead of files, lowest first.
    pub(super) fn of_documents(documents: &[Document], faults: &mut Faults) -> Self {
        let mut layers = Self::default();
        layers.take(REFERENCE, None, faults);
        for document in documents {
            layers.take(&document.text, Some(&document.file), faults);
            layers.files.push(document.file.clone());
        }
        layers
    }

    /// Lays one document over what is there.
    fn take(&mut self, text: &str, file: Option<&Path>, faults: &mut Faults) {
        let lines = Lines::of(text, file.unwrap_or(Path::new("reference.toml")));
        let (document, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // What a half-read file says about its keys would only mislead.
            for error in errors {
                faults.add(Fault {
                    key: String::new(),
                    value: format!("this is no TOML: {}", error.message()),
                    wanted: "a document in TOML 1.0".into(),
                    place: Some(lines.place(error.span().map_or(0, |span| span.start))),
                });
            }
            return;
        }
        for found in keys::hold_against_table(document.get_ref(), &lines, faults) {
            let origin = match file {
                Some(_) => Origin::Site(found.place),
                None => Origin::Default,
            };
            let leaf = Leaf {
                value: found.value,
                origin,
                entries: found.entries,
            };
            self.leaves.insert(found.key, leaf);
        }
    }

    /// The mirror of all layers together.
    pub(super) fn file(&self) -> Result<File, toml::de::Error> {
        let mut root = toml::Table::new();
        for (name, leaf) in &self.leaves {
            let Some((section, key)) = name.split_once('.') else {
                root.insert((*name).to_owned(), leaf.value.clone());
                continue;
            };
            let section = root
                .entry(section)
                .or_insert_with(|| Value::Table(toml::Table::new()));
            if let Value::Table(section) = section {
                section.insert(key.to_owned(), leaf.value.clone());
            }
        }
        root.try_into()
    }

    /// The text of a key.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        Some(self.leaves.get(key)?.value.as_str()?.to_owned())
    }

    /// Where a key was set, if the site set it.
    pub(super) fn place(&self, key: &str) -> Option<&Place> {
        match &self.leaves.get(key)?.origin {
            Origin::Site(place) => Some(place),
            Origin::Default | Origin::Derived(_) => None,
        }
    }

    /// Where an entry of a list was set, if the site set it.
    pub(super) fn entry_place(&self, key: &str, index: usize) -> Option<&Place> {
        let own = self.leaves.get(key)?.entries.get(index);
        self.place(key).map(|place| own.unwrap_or(place))
    }

    /// A fault about a key as it stands.
    pub(super) fn fault(&self, key: &str, wanted: impl Into<String>) -> Fault {
        let value = match self.leaves.get(key) {
            Some(leaf) => shown(key, &leaf.value),
            None => NOT_SET.to_owned(),
        };
        Fault {
            key: key.to_owned(),
            value,
            wanted: wanted.into(),
            place: self.place(key).cloned(),
        }
    }

    /// Notes what stands in for a key that nobody set.
    pub(super) fn derive(
        &mut self,
        key: &'static str,
        value: impl Into<Value>,
        from: &'static str,
    ) {
        let value = value.into();
        let origin = Origin::Derived(from);
        self.leaves.entry(key).or_insert(Leaf {
            value,
            origin,
            entries: Vec::new(),
        });
    }

    /// All keys with a value, as TOML that says where each came from.
    pub(super) fn effective_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for key in KEYS {
            let Some(leaf) = self.leaves.get(key.name) else {
                continue;
            };
            let Some((of, name)) = key.name.split_once('.') else {
                self.write_entries(key.name, leaf, &mut text);
                section = key.name;
                continue;
            };
            if of != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}[{of}]");
                section = of;
            }
            let _ = write!(text, "{name} = {}", leaf.value);
            let _ = match &leaf.origin {
                Origin::Default => writeln!(text),
                Origin::Derived(from) => writeln!(text, "  # {from}"),
                Origin::Site(place) => writeln!(text, "  # {place}"),
            };
        }
        text
    }

    /// A list of tables that stands in no section.
    fn write_entries(&self, name: &str, leaf: &Leaf, text: &mut String) {
        let entries = leaf.value.as_array().into_iter().flatten();
        for (index, entry) in entries.enumerate() {
            let place = self.entry_place(name, index);
            let place = place.map_or_else(String::new, |place| format!("  # {place}"));
            let _ = writeln!(text, "\n[[{name}]]{place}");
            for (key, value) in entry.as_table().into_iter().flatten() {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
    }
}

/// A value in a fault. A secret's path is shown only if it looks like one: someone may have
/// written the secret itself there.
fn shown(key: &str, value: &Value) -> String {
    let secret = KEYS
        .iter()
        .any(|known| known.name == key && matches!(known.kind, Kind::SecretPath));
    let items = value.as_array().into_iter().flatten();
    let mut texts = items.chain([value]).filter_map(Value::as_str);
    let hide = texts.any(|text| {
        let is_path = text.starts_with('/') || text.starts_with(secret::CREDENTIAL);
        // A login in a URL is a secret too.
        let is_url = URLS.contains(&key);
        (secret && !is_path) || (is_url && text.contains('@'))
    });
    if hide {
        HIDDEN.to_owned()
    } else {
        keys::short(value)
    }
}

/// The main file, if there is one, and the fragments beside it.
fn site_files(around: &Surroundings, faults: &mut Faults) -> Vec<PathBuf> {
    let main = match &around.config {
        Some(file) => file.clone(),
        None => match default_file(around) {
            Some(file) => file,
            None => return Vec::new(),
        },
    };
    let folder = main.parent().unwrap_or(Path::new("/")).join("conf.d");
    let mut fragments = match std::fs::read_dir(&folder) {
        Ok(entries) => entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension() == Some(OsStr::new("toml")))
            .collect::<Vec<_>>(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => {
            faults.add(Fault {
                key: String::new(),
                value: "this folder cannot be used".into(),
                wanted: format!("a folder of fragments that can be read ({e})"),
                place: Some(Place {
                    file: folder,
                    line: 0,
                }),
            });
            Vec::new()
        }
    };
    fragments.sort();
    let mut files = Vec::new();
    // A file that was named must be there; one that was found may be fragments alone.
    if around.config.is_some() || main.exists() {
        files.push(main);
    }
    files.append(&mut fragments);
    files
}

/// The first of the usual places that holds a file or fragments.
fn default_file(around: &Surroundings) -> Option<PathBuf> {
    let own = around
        .folder("XDG_CONFIG_HOME")
        .or_else(|| Some(around.folder("HOME")?.join(".config")));
    own.into_iter()
        .chain([around.etc.clone()])
        .map(|folder| folder.join("lineside/config.toml"))
        .find(|file| file.exists() || file.with_file_name("conf.d").exists())
}

/// A file's text; the fault says what would be right.
fn read_text(file: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    secret::open_plain(file)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("a file that can be read ({e})"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("a file of at most {MAX_FILE_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "a file in UTF-8".into())
}

#[cfg(test)]
impl Layers {
    pub(super) fn origin(&self, key: &str) -> Option<Origin> {
        Some(self.leaves.get(key)?.origin.clone())
    }
}
