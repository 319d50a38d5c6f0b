//! The tables of a task's variables, and the template that makes an input of them.

use super::Page;
use crate::package::form::{Form, Kind, Variable};
use crate::package::manifest::{
    MAX_CHOICE_BYTES, MAX_CHOICES, MAX_INPUT_TEMPLATE_BYTES, MAX_NAME_BYTES, MAX_VARIABLE_BYTES,
    MAX_VARIABLES, USUAL_VARIABLE_BYTES, is_variable_name,
};
use crate::package::page::{Part, Range};

/// The keys that limit a variable, and the types that have them.
const LIMITS: [(&str, &[&str]); 4] = [
    ("max_bytes", &["text"]),
    ("choices", &["choice"]),
    ("min", &["number", "integer"]),
    ("max", &["number", "integer"]),
];

impl Page<'_> {
    /// The form of a task's input, where it has one.
    pub(super) fn form(&mut self, task: &mut Part<'_>) -> Option<Form> {
        let template = self.optional(task, "input_template", |page, part| {
            page.text(part, "input_template", MAX_INPUT_TEMPLATE_BYTES)
        });
        let marked = |text: &String| text.contains("<|") || text.contains("|>");
        if template.as_ref().is_some_and(marked) {
            let wanted = "a text without \"<|\" and \"|>\": in an input a marker is only text";
            self.fault(task, "input_template", wanted);
        }
        let found = self.parts(task, "variable", 0, MAX_VARIABLES);
        let said = found.len();
        let mut variables: Vec<Variable> = Vec::new();
        for mut part in found {
            let Some(variable) = self.variable(&mut part) else {
                continue;
            };
            if variables.iter().any(|other| other.name == variable.name) {
                self.fault(&part, "name", "a name that no variable before has");
            }
            variables.push(variable);
        }
        let whole = said == variables.len();
        let Some(template) = template else {
            if said > 0 && !task.has("input_template") {
                let wanted = "a text with {{ name }} for each variable: there are variables";
                self.fault(task, "input_template", wanted);
            }
            return None;
        };
        let form = Form {
            template,
            variables,
        };
        // What follows from a faulty variable is not told again.
        if let Some(fault) = whole.then(|| form.fault()).flatten() {
            let wanted = format!("a template in Jinja of the task's [[task.variable]]s: {fault}");
            self.fault(task, "input_template", wanted);
        }
        Some(form)
    }

    fn variable(&mut self, part: &mut Part<'_>) -> Option<Variable> {
        let wanted =
            format!("1 to {MAX_NAME_BYTES} of a-z, 0-9 and '_', not beginning with a digit");
        let name = self.parsed(part, "name", &wanted, |name| {
            is_variable_name(name).then(|| name.to_owned())
        });
        let types = ["text", "number", "integer", "boolean", "choice"];
        let wanted = "\"text\", \"number\", \"integer\", \"boolean\" or \"choice\"";
        let word = self.parsed(part, "type", wanted, |word| {
            types.into_iter().find(|known| *known == word)
        });
        let kind = word.and_then(|word| self.kind(part, word));
        let default = kind.as_ref().and_then(|kind| {
            self.optional(part, "default", |page, part| {
                page.datum(part, "default", &kind.wanted(), |datum| kind.take(datum))
            })
        });
        if kind.is_none() {
            part.may_ask("default");
            for (key, _) in LIMITS {
                part.may_ask(key);
            }
        }
        self.close(part);
        if part.has("default") && default.is_none() {
            return None;
        }
        Some(Variable {
            name: name?,
            kind: kind?,
            default,
        })
    }

    fn kind(&mut self, part: &mut Part<'_>, word: &str) -> Option<Kind> {
        for (key, types) in LIMITS {
            if part.has(key) && !types.contains(&word) {
                self.fault(
                    part,
                    key,
                    format!("a variable of type {}", types.join(" or ")),
                );
                part.may_ask(key);
            }
        }
        let kind = match word {
            "text" => {
                let bytes = Range {
                    min: 1,
                    max: MAX_VARIABLE_BYTES,
                    why: "bytes of a text",
                };
                let max = if part.has("max_bytes") {
                    self.number(part, "max_bytes", bytes)?
                } else {
                    part.may_ask("max_bytes");
                    USUAL_VARIABLE_BYTES
                };
                Kind::Text {
                    max_bytes: usize::try_from(max).ok()?,
                }
            }
            "number" => {
                let [min, max] = ["min", "max"]
                    .map(|key| self.optional(part, key, |page, part| page.real(part, key)));
                Kind::Number {
                    min: min.unwrap_or(f64::MIN),
                    max: max.unwrap_or(f64::MAX),
                }
            }
            "integer" => {
                let [min, max] = ["min", "max"]
                    .map(|key| self.optional(part, key, |page, part| page.whole(part, key)));
                Kind::Integer {
                    min: min.unwrap_or(i64::MIN),
                    max: max.unwrap_or(i64::MAX),
                }
            }
            "boolean" => Kind::Boolean,
            _ => {
                let wanted = format!("texts of 1 to {MAX_CHOICE_BYTES} bytes");
                let good = |choice: &str| (1..=MAX_CHOICE_BYTES).contains(&choice.len());
                Kind::Choice(self.texts(part, "choices", MAX_CHOICES, &wanted, good)?)
            }
        };
        let empty = match &kind {
            Kind::Number { min, max } => min > max,
            Kind::Integer { min, max } => min > max,
            Kind::Text { .. } | Kind::Boolean | Kind::Choice(_) => false,
        };
        if empty {
            self.fault(part, "max", "a number that is not below min");
            return None;
        }
        Some(kind)
    }
}
