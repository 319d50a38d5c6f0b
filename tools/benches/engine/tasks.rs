//! What is asked, the same of every model: their tokenizers are alike.

use anyhow::{Context as _, Result, bail};
use lineside::engine::protocol::{Instruction, Rule};
use lineside::package::{self, Answer, Package};

/// The instructions by their places.
pub(crate) const CHOICES: u16 = 0;
pub(crate) const JSON: u16 = 1;
pub(crate) const TEXT: u16 = 2;
pub(crate) const TRIAGE: u16 = 3;
pub(crate) const LONG: u16 = 4;
/// One that nobody loaded.
pub(crate) const NOWHERE: u16 = u16::MAX;

/// Fixed keys, and few choices for each: what machines ask for most.
const SCHEMA: &str = r#"{"type":"object","properties":{
    "severity":{"enum":["low","medium","high"]},
    "department":{"enum":["maintenance","quality","safety","logistics"]},
    "needs_human":{"type":"boolean"}},
    "required":["severity","department","needs_human"],"additionalProperties":false}"#;
/// What a plant would add to an instruction: a long one, as most are, unlike those of a model that
/// was taught its tasks.
const HANDBOOK: &str = "Maintenance repairs machines, replaces parts and sets limits of bearings, \
    drives and hydraulics. Quality decides on parts out of tolerance and on blocked lots. Safety is \
    for guards, gates, scanners and people near moving parts, and goes before all others. Logistics \
    is for pallets, forklifts, labels and missing material. ";
const HANDBOOK_TIMES: usize = 4;
/// Tokens of a free answer.
const TEXT_TOKENS: u32 = 64;

pub(crate) struct Tasks {
    pub(crate) instructions: Vec<Instruction>,
    /// The name of the task at [`TRIAGE`] in its package.
    pub(crate) triage: String,
    inputs: Vec<String>,
}

impl Tasks {
    pub(crate) fn of(package: &Package) -> Result<Self> {
        let find = |wanted: fn(&Answer) -> bool| {
            let tasks = &package.manifest().tasks;
            tasks.iter().find(|task| wanted(&task.answer))
        };
        let choices = find(|answer| matches!(answer, Answer::Choices(_)));
        let choices = choices.context("the bundled package has a task with choices")?;
        let json = find(Answer::is_json).context("the bundled package has a task with JSON")?;
        let text = find(|answer| *answer == Answer::Text);
        let text = text.context("the bundled package has a task with free text")?;
        let instruction = |task: &package::Task, rule: Rule, max_tokens: u32| {
            let frame = package.frame(&task.name).context("each task has a frame")?;
            Ok::<_, anyhow::Error>(Instruction {
                head: frame.prefix().to_owned(),
                tail: frame.suffix().to_owned(),
                rule,
                max_tokens,
            })
        };
        let handbook = |plain: Instruction| {
            let (system, rest) = plain
                .head
                .split_once('\n')
                .context("a head begins with a line for the role")?;
            let head = format!("{system}\n{}{rest}", HANDBOOK.repeat(HANDBOOK_TIMES));
            Ok::<_, anyhow::Error>(Instruction { head, ..plain })
        };
        let package::Rule::Choices(all) = package.rule(choices) else {
            bail!("a task with choices has them");
        };
        let package::Rule::Grammar(grammar) = package.rule(json) else {
            bail!("the bundled task with JSON has a grammar");
        };
        let gate = package.gate().context("the bundled package has a suite")?;
        let items = gate.items.iter().filter(|item| item.task == json.name);
        Ok(Self {
            instructions: vec![
                instruction(choices, Rule::Choices(all.to_vec()), choices.max_tokens)?,
                instruction(json, Rule::Schema(SCHEMA.into()), 64)?,
                instruction(text, Rule::Text, TEXT_TOKENS)?,
                instruction(json, Rule::Grammar(grammar.to_owned()), json.max_tokens)?,
                handbook(instruction(
                    choices,
                    Rule::Choices(all.to_vec()),
                    choices.max_tokens,
                )?)?,
            ],
            triage: json.name.clone(),
            inputs: items.map(|item| item.input.clone()).collect(),
        })
    }

    pub(crate) fn input(&self, round: usize) -> &str {
        &self.inputs[round % self.inputs.len()]
    }

    pub(crate) fn instruction(&self, place: u16) -> &Instruction {
        &self.instructions[usize::from(place)]
    }
}
