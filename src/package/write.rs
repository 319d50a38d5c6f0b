//! A [`Manifest`] as TOML, the same text for the same manifest.

use std::fmt::{Display, Write as _};

use toml::Value;

use super::estimate::{COUNTS, Estimate, FEATURES};
use super::form::{Datum, Kind, Variable};
use super::manifest::{FORMAT, Listed, Manifest};
use super::task::{Answer, Task};

/// Lines of a manifest.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn table(&mut self, name: &str) {
        let _ = writeln!(self.0, "\n{name}"); // a String takes all
    }

    fn line(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn file(&mut self, key: &str, file: &Listed) {
        self.line(key, text(file.path.as_str()));
        self.line("bytes", file.bytes);
        self.line("sha256", text(&file.sha256.to_string()));
    }
}

/// The manifest's text.
pub(super) fn manifest(manifest: &Manifest) -> String {
    let mut lines = Lines::default();
    lines.line("format", FORMAT);
    lines.line("name", text(&manifest.name));
    lines.line("seq", manifest.seq);
    lines.line("version", text(&manifest.version));
    lines.line("description", text(&manifest.description));
    lines.line("license", text(&manifest.license));
    if !manifest.languages.is_empty() {
        lines.line("languages", texts(&manifest.languages));
    }
    if let Some(digest) = manifest.data_digest {
        lines.line("data_digest", text(&format!("sha256:{digest}")));
    }
    let runtime = &manifest.runtime;
    lines.table("[runtime]");
    lines.line("lineside", text(&runtime.lineside.to_string()));
    lines.line("architecture", text(&runtime.architecture));
    lines.line("context_tokens", runtime.context_tokens);
    lines.line("chat_template", text(runtime.chat_template.word()));
    for variant in &manifest.variants {
        lines.table("[[model]]");
        lines.file("file", &variant.file);
        lines.line("quantization", text(&variant.quantization));
    }
    if let Some(adapter) = &manifest.adapter {
        lines.table("[adapter]");
        lines.file("file", &adapter.file);
        lines.line("scale", number(adapter.scale));
    }
    for file in &manifest.files {
        lines.table("[[file]]");
        lines.file("path", file);
    }
    for one in &manifest.tasks {
        task(&mut lines, one);
    }
    for curve in &manifest.curves {
        lines.table("[[calibration]]");
        lines.line("task", text(&curve.task));
        lines.line("quantization", text(&curve.quantization));
        lines.line("method", text(curve.method.word()));
        if let Some(blend) = curve.calibration.blend() {
            let weights = blend.weights().map(Value::Float).to_vec();
            lines.line("weights", Value::Array(weights));
        }
        lines.line("points", pairs(curve.calibration.points()));
    }
    for risk in &manifest.risks {
        lines.table("[[risk]]");
        lines.line("task", text(&risk.task));
        lines.line("quantization", text(&risk.quantization));
        lines.line("labels", risk.labels);
        lines.line("points", pairs(risk.points.points()));
    }
    if let Some(bars) = &manifest.bars {
        lines.table("[bars]");
        lines.line("suite", text(bars.suite.as_str()));
        if let Some(bytes) = bars.memory_bytes {
            lines.line("memory_bytes", bytes);
        }
        if let Some(ms) = bars.latency_ms {
            lines.line("latency_ms", ms);
        }
        if let Some(error) = bars.calibration_error {
            lines.line("calibration_error", number(error));
        }
        for (name, accuracy) in &bars.accuracy {
            lines.table("[[bars.task]]");
            lines.line("name", text(name));
            lines.line("accuracy", number(*accuracy));
        }
    }
    if let Some(said) = &manifest.estimate {
        estimate(&mut lines, said);
    }
    lines.0
}

fn estimate(lines: &mut Lines, estimate: &Estimate) {
    let weights = |names: &[&str], weights: &[f64]| {
        let pairs = names.iter().zip(weights);
        let pairs = pairs.map(|(name, weight)| format!("{name} = {}", number(*weight)));
        format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
    };
    lines.table("[estimate]");
    lines.line("complexity", weights(&FEATURES, &estimate.complexity));
    lines.line("tokens", weights(&COUNTS, &estimate.tokens));
    for task in &estimate.tasks {
        lines.table("[[estimate.task]]");
        lines.line("name", text(&task.name));
        lines.line("complexity", number(task.complexity));
        lines.line("frame_tokens", task.frame_tokens);
        lines.line("risk", task.risk);
    }
}

fn task(lines: &mut Lines, task: &Task) {
    lines.table("[[task]]");
    lines.line("name", text(&task.name));
    lines.line("prompt_version", text(&task.prompt_version));
    lines.line("system", text(&task.system));
    if let Some(form) = &task.form {
        lines.line("input_template", text(&form.template));
    }
    let answer = match &task.answer {
        Answer::Grammar(path) => format!("grammar = {}", text(path.as_str())),
        Answer::Schema(path) => format!("schema = {}", text(path.as_str())),
        Answer::Choices(choices) => format!("choices = {}", texts(choices)),
        Answer::Text => "text = true".into(),
    };
    lines.line("answer", format_args!("{{ {answer} }}"));
    lines.line("max_tokens", task.max_tokens);
    lines.line("threshold", number(task.threshold));
    if task.verify {
        lines.line("verify", true);
    }
    if let Some(field) = &task.needs_person_field {
        lines.line("needs_person_field", text(field));
    }
    // The tables of a task come last: a key behind them would be theirs.
    for one in task.form.iter().flat_map(|form| &form.variables) {
        lines.table("[[task.variable]]");
        variable(lines, one);
    }
}

fn variable(lines: &mut Lines, variable: &Variable) {
    lines.line("name", text(&variable.name));
    let word = match &variable.kind {
        Kind::Text { .. } => "text",
        Kind::Number { .. } => "number",
        Kind::Integer { .. } => "integer",
        Kind::Boolean => "boolean",
        Kind::Choice(_) => "choice",
    };
    lines.line("type", text(word));
    match &variable.kind {
        Kind::Text { max_bytes } => lines.line("max_bytes", max_bytes),
        Kind::Number { min, max } => {
            lines.line("min", number(*min));
            lines.line("max", number(*max));
        }
        Kind::Integer { min, max } => {
            lines.line("min", min);
            lines.line("max", max);
        }
        Kind::Boolean => {}
        Kind::Choice(all) => lines.line("choices", texts(all)),
    }
    if let Some(default) = &variable.default {
        let default = match default {
            Datum::Text(said) => text(said),
            Datum::Number(said) => number(*said),
            Datum::Integer(said) => Value::Integer(*said),
            Datum::Boolean(said) => Value::Boolean(*said),
        };
        lines.line("default", default);
    }
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn texts(all: &[String]) -> Value {
    Value::Array(all.iter().map(|one| text(one)).collect())
}

fn pairs(all: &[(f64, f64)]) -> String {
    let pairs = all.iter();
    let pairs = pairs.map(|(x, y)| format!("[{}, {}]", number(*x), number(*y)));
    format!("[{}]", pairs.collect::<Vec<_>>().join(", "))
}

fn number(number: f64) -> Value {
    Value::Float(number)
}
