//! The tables that go by a task: what it is, how far to believe it, what it must reach.

use super::Page;
use crate::fault::{did_you_mean, nearest, quoted};
use crate::package::calibration::{Calibration, MAX_POINTS, Method};
use crate::package::manifest::{
    Bars, Curve, FilePath, MAX_ANSWER_TOKENS, MAX_CHOICE_BYTES, MAX_CHOICES, MAX_FILE_BYTES,
    MAX_NAME_BYTES, MAX_SYSTEM_BYTES, MAX_TASKS, MAX_VARIANTS, is_word,
};
use crate::package::page::{Part, Range};
use crate::package::task::{Answer, Task};

impl Page<'_> {
    /// The tasks, and the names that stand there; their files must be among `listed`, where there
    /// is such a list.
    pub(super) fn tasks(
        &mut self,
        root: &mut Part<'_>,
        listed: Option<&[FilePath]>,
    ) -> (Vec<Task>, Vec<String>) {
        let (mut tasks, mut names): (Vec<Task>, Vec<String>) = Default::default();
        for mut part in self.parts(root, "task", 1, MAX_TASKS) {
            let name = self.word(&mut part, "name");
            if let Some(name) = &name {
                if names.contains(name) {
                    self.fault(&part, "name", "a name that no task before has");
                }
                names.push(name.clone());
                part.key = format!("task.{name}");
            }
            let task = self.task(&mut part, name, listed);
            self.close(&part);
            tasks.extend(task);
        }
        (tasks, names)
    }

    fn word(&mut self, part: &mut Part<'_>, key: &'static str) -> Option<String> {
        let wanted = format!("1 to {MAX_NAME_BYTES} letters, digits, '-', '_' or '.'");
        self.parsed(part, key, &wanted, |name| {
            is_word(name).then(|| name.to_owned())
        })
    }

    fn task(
        &mut self,
        part: &mut Part<'_>,
        name: Option<String>,
        listed: Option<&[FilePath]>,
    ) -> Option<Task> {
        let prompt_version = self.word(part, "prompt_version");
        let system = self.text(part, "system", MAX_SYSTEM_BYTES);
        if system
            .as_ref()
            .is_some_and(|text| text.contains("<|") || text.contains("|>"))
        {
            self.fault(
                part,
                "system",
                "a text without \"<|\" and \"|>\": the template puts its markers around it",
            );
        }
        let form = self.form(part);
        let answer = self.answer(part, listed);
        let tokens = Range {
            min: 1,
            max: MAX_ANSWER_TOKENS,
            why: "what an answer may take of a busy appliance",
        };
        let max_tokens = self.number(part, "max_tokens", tokens);
        let threshold = self.share(part, "threshold");
        let verify = self.optional(part, "verify", |page, part| page.yes(part, "verify"));
        let needs_person_field = self.optional(part, "needs_person_field", |page, part| {
            page.word(part, "needs_person_field")
        });
        if needs_person_field.is_some() && answer.as_ref().is_some_and(|it| !it.is_json()) {
            let wanted = "a grammar or a schema as the answer: only JSON has fields";
            self.fault(part, "needs_person_field", wanted);
        }
        Some(Task {
            name: name?,
            prompt_version: prompt_version?,
            system: system?,
            form,
            answer: answer?,
            max_tokens: u32::try_from(max_tokens?).ok()?,
            threshold: threshold?,
            verify: verify.is_some(),
            needs_person_field,
        })
    }

    fn answer(&mut self, task: &mut Part<'_>, listed: Option<&[FilePath]>) -> Option<Answer> {
        let wanted = "one of { grammar = \"….gbnf\" }, { schema = \"….json\" }, \
                      { choices = [\"…\", \"…\"] }, { text = true }";
        let mut part = self.part(task, "answer")?;
        let forms = ["grammar", "schema", "choices", "text"];
        let form = forms.iter().filter(|form| part.has(form)).count();
        if form != 1 {
            self.fault(task, "answer", wanted);
            return None;
        }
        let part = &mut part;
        let grammar = self.optional(part, "grammar", |page, part| page.path(part, "grammar"));
        let schema = self.optional(part, "schema", |page, part| page.path(part, "schema"));
        let choices = self.optional(part, "choices", |page, part| {
            let wanted =
                format!("texts of 1 to {MAX_CHOICE_BYTES} bytes, without control characters");
            page.texts(part, "choices", MAX_CHOICES, &wanted, |choice| {
                (1..=MAX_CHOICE_BYTES).contains(&choice.len()) && !choice.contains(char::is_control)
            })
        });
        let text = self.optional(part, "text", |page, part| page.yes(part, "text"));
        self.close(part);
        for (key, path) in [("grammar", &grammar), ("schema", &schema)] {
            let missing = |path: &FilePath| listed.is_some_and(|listed| !listed.contains(path));
            if path.as_ref().is_some_and(missing) {
                self.fault(part, key, "a file that a [[file]] lists");
            }
        }
        let grammar = grammar.map(Answer::Grammar);
        let schema = schema.map(Answer::Schema);
        let choices = choices.map(Answer::Choices);
        grammar
            .or(schema)
            .or(choices)
            .or(text.map(|()| Answer::Text))
    }

    pub(super) fn curves(
        &mut self,
        root: &mut Part<'_>,
        tasks: &[String],
        quantizations: &[String],
    ) -> Vec<Curve> {
        let mut curves: Vec<Curve> = Vec::new();
        let most = MAX_TASKS * MAX_VARIANTS;
        for mut part in self.parts(root, "calibration", 0, most) {
            let part = &mut part;
            let task = self.name_of_task(part, "task", tasks);
            let quantization = self.name_of_variant(part, "quantization", quantizations);
            let method = self.parsed(part, "method", "\"isotonic\" or \"platt\"", |word| {
                Method::ALL.into_iter().find(|method| method.word() == word)
            });
            let weights = self.optional(part, "weights", |page, part| page.blend(part, "weights"));
            let points = self.points(part, "points", MAX_POINTS);
            let calibration = points.and_then(|points| match Calibration::new(points) {
                Ok(calibration) => Some(calibration),
                Err(wanted) => {
                    self.fault(part, "points", wanted);
                    None
                }
            });
            self.close(part);
            let (Some(task), Some(quantization), Some(method), Some(calibration)) =
                (task, quantization, method, calibration)
            else {
                continue;
            };
            let same = |other: &Curve| other.task == task && other.quantization == quantization;
            if curves.iter().any(same) {
                self.fault(part, "task", "one curve for each task and quantization");
            }
            curves.push(Curve {
                task,
                quantization,
                method,
                calibration: calibration.over(weights),
            });
        }
        curves
    }

    /// A task's name that one of the tasks has. With no good task at all the rule is silent.
    pub(super) fn name_of_task(
        &mut self,
        part: &mut Part<'_>,
        key: &'static str,
        tasks: &[String],
    ) -> Option<String> {
        let name = self.word(part, key)?;
        if !tasks.is_empty() && !tasks.contains(&name) {
            let known = tasks.iter().map(String::as_str);
            let meant = nearest(&name, known);
            let meant = did_you_mean(meant.map(quoted).as_deref());
            self.fault(part, key, format!("the name of a task{meant}"));
        }
        Some(name)
    }

    /// A quantization that one of the models has.
    pub(super) fn name_of_variant(
        &mut self,
        part: &mut Part<'_>,
        key: &'static str,
        quantizations: &[String],
    ) -> Option<String> {
        let name = self.word(part, key)?;
        if !quantizations.contains(&name) {
            let wanted = format!("the quantization of a model: {}", quantizations.join(", "));
            self.fault(part, key, wanted);
        }
        Some(name)
    }

    pub(super) fn bars(
        &mut self,
        mut part: Part<'_>,
        suite: Option<FilePath>,
        tasks: &[String],
    ) -> Option<Bars> {
        let part = &mut part;
        let bytes = Range {
            min: 1,
            max: MAX_FILE_BYTES,
            why: "bytes of memory",
        };
        let time = Range {
            min: 1,
            max: 3_600_000,
            why: "milliseconds; nobody waits for an hour",
        };
        let memory_bytes = self.optional(part, "memory_bytes", |page, part| {
            page.number(part, "memory_bytes", bytes)
        });
        let latency_ms = self.optional(part, "latency_ms", |page, part| {
            page.number(part, "latency_ms", time)
        });
        let calibration_error = self.optional(part, "calibration_error", |page, part| {
            page.share(part, "calibration_error")
        });
        let mut accuracy: Vec<(String, f64)> = Vec::new();
        for mut bar in self.parts(part, "task", 0, MAX_TASKS) {
            let name = self.name_of_task(&mut bar, "name", tasks);
            let share = self.share(&mut bar, "accuracy");
            self.close(&bar);
            if let (Some(name), Some(share)) = (name, share) {
                if accuracy.iter().any(|(other, _)| *other == name) {
                    self.fault(&bar, "name", "a task that has no bar yet");
                }
                accuracy.push((name, share));
            }
        }
        self.close(part);
        Some(Bars {
            suite: suite?,
            memory_bytes,
            latency_ms,
            calibration_error,
            accuracy,
        })
    }
}
