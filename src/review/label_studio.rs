//! Label Studio: items as its tasks, its annotations as verdicts.
//!
//! ```text
//!  sheets ─► export ─► tasks.json ─► a project with CONFIG ─► its JSON export ─► import ─► verdicts
//! ```
//!
//! A task carries the item's id in its data and in its meta, both of which Label Studio keeps and
//! exports; so an import finds the item whatever number Label Studio gave the task, and importing a
//! file again finds items that are settled. The draft is the task's prediction.
//!
//! Invariant: a restricted item is never exported. A file has no clearance.
//!
//! How it fails: a file that is no export is a [`FileFault`]; a task that says nothing clear is an
//! [`Unclear`], beside the verdicts of the others.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::sheet::Sheet;
use super::{MAX_TEXT_BYTES, Named, Verdict};
use crate::intake::Classification;

/// The labelling interface that goes with the tasks.
pub const CONFIG: &str = r#"<View>
  <Header value="$why"/>
  <Text name="question" value="$question"/>
  <Choices name="verdict" toName="question" choice="single" required="true">
    <Choice value="approve" hint="The draft is right."/>
    <Choice value="correct" hint="The answer below is right."/>
    <Choice value="reject" hint="There is no answer, for the reason below."/>
  </Choices>
  <TextArea name="answer" toName="question" maxSubmissions="1" editable="true" placeholder="The right answer"/>
  <TextArea name="reason" toName="question" maxSubmissions="1" placeholder="Why it is rejected"/>
</View>
"#;

/// The name of the object that everything is said about.
const QUESTION: &str = "question";
/// Bytes of a file: some ten thousand tasks with their texts.
pub const MAX_FILE_BYTES: u64 = 256 << 20;

#[derive(Debug, PartialEq, Serialize)]
struct Task<'a> {
    data: Data<'a>,
    meta: Meta<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    predictions: Vec<Prediction<'a>>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Data<'a> {
    lineside_id: &'a str,
    request_id: &'a str,
    client: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a str>,
    classification: &'a str,
    accepted_ms: u64,
    question: &'a str,
    /// What an answer must be.
    kind: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    choices: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    draft: Option<&'a str>,
    why: &'a str,
}

#[derive(Debug, PartialEq, Serialize)]
struct Meta<'a> {
    lineside_id: &'a str,
}

#[derive(Debug, PartialEq, Serialize)]
struct Prediction<'a> {
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    result: Vec<Region<'a>>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Region<'a> {
    id: &'static str,
    from_name: &'static str,
    to_name: &'static str,
    r#type: &'static str,
    value: TextValue<'a>,
}

#[derive(Debug, PartialEq, Serialize)]
struct TextValue<'a> {
    text: [&'a str; 1],
}

/// What is read of a task that comes back. Label Studio adds much that is not needed here.
#[derive(Deserialize)]
struct Returned {
    #[serde(default)]
    data: Value,
    #[serde(default)]
    meta: Value,
    #[serde(default)]
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Annotation {
    #[serde(default)]
    was_cancelled: bool,
    #[serde(default)]
    result: Vec<Marked>,
}

#[derive(Deserialize)]
struct Marked {
    #[serde(default)]
    from_name: String,
    #[serde(default)]
    value: Value,
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// Verdicts, in the order of the file.
    pub verdicts: Vec<(Named, Verdict)>,
    /// Tasks that were not annotated yet.
    pub open: usize,
    /// Tasks that say nothing clear: by their place in the file, from 1.
    pub unclear: Vec<(usize, Unclear)>,
}

/// Why a task's annotation is no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// It is none of ours.
    #[error("it has no lineside_id in its data or meta")]
    NoId,
    /// What stands there as an id is none.
    #[error("its lineside_id is none")]
    BadId,
    /// Nothing, or more than one thing, was chosen.
    #[error("its annotation has no verdict: approve, correct or reject")]
    NoVerdict,
    /// The text that belongs to it is missing or too long.
    #[error("{0}")]
    Text(super::Refusal),
}

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// It is not what Label Studio exports as JSON.
    #[error(
        "not a JSON export of Label Studio (line {line}, column {column}): export the project as JSON, not as JSON-MIN or CSV"
    )]
    Json {
        /// Where the fault is.
        line: usize,
        /// In that line.
        column: usize,
    },
}

/// The tasks of these items, and how many are left out because they are restricted.
pub fn export(sheets: &[Sheet]) -> (String, usize) {
    let tasks: Vec<_> = sheets.iter().filter_map(Task::of).collect();
    let left_out = sheets.len() - tasks.len();
    let text = serde_json::to_string_pretty(&tasks).expect("texts and numbers always serialize");
    (text, left_out)
}

/// The verdicts of a file. Of several annotations of a task the last one counts.
pub fn import(text: &[u8]) -> Result<Import, FileFault> {
    let tasks: Vec<Returned> = serde_json::from_slice(text).map_err(|error| FileFault::Json {
        line: error.line(),
        column: error.column(),
    })?;
    let mut import = Import::default();
    for (place, task) in tasks.iter().enumerate() {
        let said = task.annotations.iter().rev().find(|it| !it.was_cancelled);
        match said.map(|said| task.verdict(said)) {
            None => import.open += 1,
            Some(Ok(verdict)) => import.verdicts.push(verdict),
            Some(Err(unclear)) => import.unclear.push((place + 1, unclear)),
        }
    }
    Ok(import)
}

impl<'a> Task<'a> {
    fn of(sheet: &'a Sheet) -> Option<Self> {
        let row = &sheet.row;
        let open = [Classification::Public, Classification::Internal];
        if !open.iter().any(|it| it.word() == row.classification) {
            return None;
        }
        let draft = sheet.draft.as_ref();
        let prediction = draft.map(|draft| Prediction {
            model_version: draft.model.as_deref().unwrap_or(&draft.source),
            score: draft.confidence,
            result: vec![Region {
                id: "draft",
                from_name: "answer",
                to_name: QUESTION,
                r#type: "textarea",
                value: TextValue {
                    text: [&draft.text],
                },
            }],
        });
        Some(Self {
            data: Data {
                lineside_id: &row.id,
                request_id: &row.request_id,
                client: &row.client,
                task: row.task.as_deref(),
                classification: &row.classification,
                accepted_ms: row.accepted_ms,
                question: &sheet.question,
                kind: &sheet.answer.kind,
                choices: &sheet.answer.choices,
                draft: draft.map(|draft| draft.text.as_str()),
                why: &sheet.why,
            },
            meta: Meta {
                lineside_id: &row.id,
            },
            predictions: prediction.into_iter().collect(),
        })
    }
}

impl Returned {
    fn verdict(&self, said: &Annotation) -> Result<(Named, Verdict), Unclear> {
        let id = [&self.data, &self.meta].map(|it| it["lineside_id"].as_str());
        let id = id.into_iter().flatten().next().ok_or(Unclear::NoId)?;
        let named: Named = id.parse().map_err(|_| Unclear::BadId)?;
        if named.whole().is_none() {
            return Err(Unclear::BadId); // a file is not typed: there a part of an id is a fault
        }
        let verdict = match said.choice()? {
            "approve" => Verdict::Approve,
            "correct" => Verdict::Correct(said.text("answer")),
            "reject" => Verdict::Reject(said.text("reason")),
            _ => return Err(Unclear::NoVerdict),
        };
        verdict.check().map_err(Unclear::Text)?;
        Ok((named, verdict))
    }
}

impl Annotation {
    fn choice(&self) -> Result<&str, Unclear> {
        let mut chosen = self.named("verdict").flat_map(|it| {
            let choices = it.value["choices"].as_array();
            choices.into_iter().flatten().filter_map(Value::as_str)
        });
        match (chosen.next(), chosen.next()) {
            (Some(one), None) => Ok(one),
            (None | Some(_), _) => Err(Unclear::NoVerdict),
        }
    }

    /// The text of an area: one string, or lines of it. What is too long stays so, to be refused.
    fn text(&self, name: &str) -> String {
        let mut text = String::new();
        for marked in self.named(name) {
            let value = &marked.value["text"];
            let lines = value.as_array().into_iter().flatten().chain([value]);
            for line in lines.filter_map(Value::as_str) {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(line);
                if text.len() > MAX_TEXT_BYTES {
                    return text;
                }
            }
        }
        text
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Marked> {
        self.result.iter().filter(move |it| it.from_name == name)
    }
}

#[cfg(test)]
mod tests;
