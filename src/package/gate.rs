//! The gate suite: questions with known answers, which a package must pass on each device.
//!
//! One JSON object a line. A line that is wrong becomes a fault with its number.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::faults::Faults;
use super::manifest::is_word;
use super::task::{Answer, Task};
use crate::fault::{Fault, Place, quoted};

/// Bytes of a suite; it is held in memory while it runs.
pub const MAX_SUITE_BYTES: u64 = 16 << 20;
/// Items of a suite: more take a small board an hour.
pub const MAX_ITEMS: usize = 20_000;
/// Items below which a share says too little: with 300, a true 90 % shows as 86 to 93.
pub const ENOUGH_ITEMS: usize = 300;
/// Bytes of a question or an answer.
pub const MAX_TEXT_BYTES: usize = 32 << 10;
/// Bytes of an item's name.
pub const MAX_ID_BYTES: usize = 128;

/// A suite: every item is of a known task, and its answer of that task's form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// Its items, in their order.
    pub items: Vec<Item>,
}

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub id: String,
    /// Which task answers it.
    pub task: String,
    /// The question.
    pub input: String,
    /// The right answer.
    pub expect: String,
    /// What it tries, if it says so.
    pub kind: Option<String>,
}

/// The JSON of a line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    task: String,
    input: String,
    expect: String,
    #[serde(default)]
    kind: Option<String>,
}

impl Item {
    /// Whether an answer is right: the same text, or for JSON the same value.
    pub fn is_right(&self, answer: &Answer, given: &str) -> bool {
        if given == self.expect {
            return true;
        }
        let value = |text: &str| serde_json::from_str::<Value>(text).ok();
        answer.is_json() && value(given).is_some_and(|given| value(&self.expect) == Some(given))
    }
}

impl Gate {
    /// Reads a suite for these tasks.
    pub fn read(text: &str, file: &Path, tasks: &[Task]) -> Result<Self, Faults> {
        let mut reader = Reader {
            file,
            tasks,
            faults: Faults::default(),
            ids: BTreeSet::new(),
        };
        let mut items = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if items.len() >= MAX_ITEMS {
                reader.fault(index, "", "one more item", format!("{MAX_ITEMS} at most"));
                break;
            }
            items.extend(reader.item(index, line));
        }
        let gate = Self { items };
        reader.cover(&gate);
        if reader.faults.is_empty() {
            Ok(gate)
        } else {
            Err(reader.faults)
        }
    }

    /// How many items a task has.
    pub fn count(&self, task: &str) -> usize {
        let own = |item: &&Item| item.task == task;
        self.items.iter().filter(own).count()
    }
}

struct Reader<'a> {
    file: &'a Path,
    tasks: &'a [Task],
    faults: Faults,
    ids: BTreeSet<String>,
}

impl Reader<'_> {
    fn fault(&mut self, index: usize, key: &str, value: &str, wanted: impl Into<String>) {
        self.faults.add(Fault {
            key: key.to_owned(),
            value: value.to_owned(),
            wanted: wanted.into(),
            place: Some(Place {
                file: self.file.to_owned(),
                line: index + 1,
            }),
        });
    }

    fn item(&mut self, index: usize, line: &str) -> Option<Item> {
        let item: Line = match serde_json::from_str(line) {
            Ok(item) => item,
            Err(error) => {
                let wanted = format!(
                    "a JSON object with the texts id, task, input and expect, and perhaps kind \
                     ({error})"
                );
                self.fault(index, "", &quoted(line), wanted);
                return None;
            }
        };
        if !(1..=MAX_ID_BYTES).contains(&item.id.len()) || item.id.contains(char::is_control) {
            let wanted = format!("1 to {MAX_ID_BYTES} bytes, without control characters");
            self.fault(index, "id", &quoted(&item.id), wanted);
        } else if !self.ids.insert(item.id.clone()) {
            self.fault(
                index,
                "id",
                &quoted(&item.id),
                "one that no item before has",
            );
        }
        for (key, text) in [("input", &item.input), ("expect", &item.expect)] {
            if !(1..=MAX_TEXT_BYTES).contains(&text.len()) {
                let wanted = format!("1 to {MAX_TEXT_BYTES} bytes");
                self.fault(index, key, &quoted(text), wanted);
            }
        }
        if item.kind.as_ref().is_some_and(|kind| !is_word(kind)) {
            let kind = quoted(item.kind.as_deref().unwrap_or_default());
            self.fault(index, "kind", &kind, "a word");
        }
        let Some(task) = self.tasks.iter().find(|task| task.name == item.task) else {
            self.fault(index, "task", &quoted(&item.task), "the name of a task");
            return None;
        };
        let wanted = match &task.answer {
            Answer::Grammar(_) | Answer::Schema(_) => {
                let json = serde_json::from_str::<Value>(&item.expect);
                json.err().map(|error| format!("JSON ({error})"))
            }
            Answer::Choices(choices) => {
                let known = choices.contains(&item.expect);
                (!known).then(|| format!("one of the choices of task {}", task.name))
            }
            Answer::Text => None,
        };
        if let Some(wanted) = wanted {
            self.fault(index, "expect", &quoted(&item.expect), wanted);
        }
        Some(Item {
            id: item.id,
            task: item.task,
            input: item.input,
            expect: item.expect,
            kind: item.kind,
        })
    }

    /// Each task must be tried, and a field that asks for a person must be one of the answers'.
    fn cover(&mut self, gate: &Gate) {
        for task in self.tasks {
            if gate.count(&task.name) == 0 {
                let wanted = format!("an item for each task; {} has none", task.name);
                self.faults.of_file(self.file, "this suite", &wanted);
                continue;
            }
            let Some(field) = &task.needs_person_field else {
                continue;
            };
            let has_field = |item: &Item| {
                let value = serde_json::from_str::<Value>(&item.expect);
                value.is_ok_and(|value| value.get(field).is_some())
            };
            let mut own = gate.items.iter().filter(|item| item.task == task.name);
            if !own.any(has_field) {
                let wanted = format!(
                    "answers of task {} with the field {field}, its needs_person_field",
                    task.name
                );
                self.faults.of_file(self.file, "this suite", &wanted);
            }
        }
    }
}
