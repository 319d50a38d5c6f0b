//! Packages that differ from the bundled one in one thing, made for a test.

use std::fs;
use std::path::{Path, PathBuf};

use lineside::package::Package;
use ring::digest::{SHA256, digest};
use toml::{Table, Value};

/// The folder of a package on its way to be another.
pub struct Variation {
    dir: PathBuf,
    sheet: Table,
}

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage")
}

impl Variation {
    /// The bundled package under another number, in the variant that takes the least, with a third of
    /// its suite: a test has many gates, and bars so low that no rounding decides.
    pub fn new(dir: &Path, seq: u64) -> Self {
        let dir = dir.join(format!("factory-triage-{seq}"));
        let manifest = fs::read_to_string(bundled().join("manifest.toml")).unwrap();
        let mut sheet: Table = manifest.parse().unwrap();
        sheet["seq"] = Value::Integer(i64::try_from(seq).unwrap());
        for name in ["model", "calibration", "risk"] {
            let entries = sheet[name].as_array_mut().unwrap();
            entries.retain(|it| it["quantization"].as_str() == Some("Q4_K_M"));
        }
        fs::create_dir_all(dir.join("grammars")).unwrap();
        let mut made = Self { dir, sheet };
        for path in [
            "grammars/extract.gbnf",
            "grammars/triage.gbnf",
            "gate.jsonl",
        ] {
            fs::copy(bundled().join(path), made.dir.join(path)).unwrap();
        }
        made.model(&fs::read(bundled().join("factory-triage-2-Q4_K_M.gguf")).unwrap());
        let mut item = 0;
        made.suite(|_| {
            item += 1;
            item % 3 == 0
        });
        let bars = made.bars()["task"].as_array_mut().unwrap();
        for bar in bars.iter_mut().filter_map(Value::as_table_mut) {
            let accuracy = bar["accuracy"].as_float().unwrap();
            bar["accuracy"] = Value::Float(accuracy - 0.15);
        }
        made.bars()["calibration_error"] = Value::Float(0.2);
        made
    }

    fn file(&mut self, list: &str, key: &str, path: &str, bytes: &[u8]) {
        fs::write(self.dir.join(path), bytes).unwrap();
        let entries = self.sheet[list].as_array_mut().unwrap();
        let mut entries = entries.iter_mut().filter_map(Value::as_table_mut);
        let entry = entries.find(|it| it[key].as_str() == Some(path)).unwrap();
        let sha256 = digest(&SHA256, bytes);
        let sha256 = sha256.as_ref().iter().map(|byte| format!("{byte:02x}"));
        entry["sha256"] = Value::String(sha256.collect());
        entry["bytes"] = Value::Integer(i64::try_from(bytes.len()).unwrap());
    }

    /// Another model.
    pub fn model(&mut self, bytes: &[u8]) {
        self.file("model", "file", "factory-triage-2-Q4_K_M.gguf", bytes);
    }

    /// Nothing but the variant that takes the most.
    pub fn larger(&mut self) {
        let manifest = fs::read_to_string(bundled().join("manifest.toml")).unwrap();
        let whole: Table = manifest.parse().unwrap();
        for name in ["model", "calibration", "risk"] {
            let mut entries = whole[name].as_array().unwrap().clone();
            entries.retain(|it| it["quantization"].as_str() == Some("Q8_0"));
            self.sheet[name] = Value::Array(entries);
        }
        fs::remove_file(self.dir.join("factory-triage-2-Q4_K_M.gguf")).unwrap();
        let model = "factory-triage-2-Q8_0.gguf";
        fs::copy(bundled().join(model), self.dir.join(model)).unwrap();
    }

    /// A model with these bytes in place of those.
    pub fn patched(&mut self, key: &str, after: usize, bytes: &[u8]) {
        let path = self.dir.join("factory-triage-2-Q4_K_M.gguf");
        let mut model = fs::read(path).unwrap();
        let key = key.as_bytes();
        let at = model.windows(key.len()).position(|it| it == key).unwrap();
        let at = at + key.len() + after;
        model[at..at + bytes.len()].copy_from_slice(bytes);
        self.model(&model);
    }

    /// Only the suite's items of which this holds.
    pub fn suite(&mut self, mut keep: impl FnMut(&serde_json::Value) -> bool) {
        let suite = fs::read_to_string(self.dir.join("gate.jsonl")).unwrap();
        let kept = suite
            .lines()
            .filter(|line| keep(&serde_json::from_str(line).unwrap()));
        let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
        self.file("file", "path", "gate.jsonl", kept.as_bytes());
    }

    /// No suite at all.
    pub fn without_suite(&mut self) {
        self.sheet.remove("bars");
        let files = self.sheet["file"].as_array_mut().unwrap();
        files.retain(|it| it["path"].as_str() != Some("gate.jsonl"));
        fs::remove_file(self.dir.join("gate.jsonl")).unwrap();
    }

    /// The sheet's table of bars.
    pub fn bars(&mut self) -> &mut Table {
        self.sheet["bars"].as_table_mut().unwrap()
    }

    /// Removes what is said of a task in a list.
    pub fn forget(&mut self, list: &[&str], key: &str, task: &str) {
        let (last, tables) = list.split_last().unwrap();
        let mut table = &mut self.sheet;
        for name in tables {
            table = table[*name].as_table_mut().unwrap();
        }
        let entries = table[*last].as_array_mut().unwrap();
        entries.retain(|it| it[key].as_str() != Some(task));
    }

    /// A task of it.
    pub fn task(&mut self, name: &str) -> &mut Table {
        let tasks = self.sheet["task"].as_array_mut().unwrap();
        let mut tasks = tasks.iter_mut().filter_map(Value::as_table_mut);
        tasks.find(|it| it["name"].as_str() == Some(name)).unwrap()
    }

    /// The package.
    pub fn package(self) -> Package {
        let text = toml::to_string(&self.sheet).unwrap();
        fs::write(self.dir.join("manifest.toml"), text).unwrap();
        let package = Package::open(&self.dir).unwrap_or_else(|faults| panic!("{faults}"));
        package.verify().unwrap();
        package
    }
}
