//! What a package lacks without being wrong, and what that costs, in plain words.

use super::chat::Frame;
use super::gate::ENOUGH_ITEMS;
use super::make::NOT_STATED;
use super::task::Template;
use super::{ChatTemplate, Header, Note, Package, Task, Variant, Wording};

/// Bytes of text for a token, guessed low: a text of numbers and codes takes more tokens than
/// prose, which has four.
const BYTES_PER_TOKEN: u64 = 3;
/// Tokens that a template's markers take, guessed high.
const MARKER_TOKENS: u64 = 24;
/// Tokens of a question, where no suite says how long one is: two or three sentences.
const USUAL_INPUT_TOKENS: u64 = 96;

/// All of it.
pub(super) fn notes(package: &Package) -> Vec<Note> {
    let mut notes = Vec::new();
    if package.manifest.license == NOT_STATED {
        notes.push(Note::new(
            "no license",
            "nobody can tell under which terms the model may be used: set license in the task file",
        ));
    }
    suite(package, &mut notes);
    bars(package, &mut notes);
    for (variant, header) in package.variants() {
        curves(package, variant, &mut notes);
        names(package, variant, header, &mut notes);
    }
    for task in &package.manifest.tasks {
        notes.extend(room(package, task));
    }
    notes
}

fn suite(package: &Package, notes: &mut Vec<Note>) {
    match package.gate() {
        None => notes.push(Note::new(
            "no gate suite",
            "this package never passes a gate: it serves where model.package names it, but cannot \
             be rolled out over the air",
        )),
        Some(gate) if gate.items.len() < ENOUGH_ITEMS => notes.push(Note::new(
            format!("a gate suite of {} items", gate.items.len()),
            format!("fewer than {ENOUGH_ITEMS} say too little: do not release it"),
        )),
        Some(_) => {}
    }
}

fn bars(package: &Package, notes: &mut Vec<Note>) {
    let Some(bars) = &package.manifest.bars else {
        return;
    };
    let unbarred = |task: &&Task| !bars.accuracy.iter().any(|(name, _)| *name == task.name);
    let tasks = package.manifest.tasks.iter().filter(unbarred);
    let tasks = tasks.map(|task| task.name.as_str()).collect::<Vec<_>>();
    if !tasks.is_empty() {
        notes.push(Note::new(
            format!("no accuracy bar for {}", tasks.join(", ")),
            "the gate passes whatever is answered there",
        ));
    }
    for (bar, missing, cost) in [
        (
            "memory",
            bars.memory_bytes.is_none(),
            "takes any amount of memory",
        ),
        ("latency", bars.latency_ms.is_none(), "waits any time"),
        (
            "calibration",
            bars.calibration_error.is_none(),
            "believes any confidence",
        ),
    ] {
        if missing {
            notes.push(Note::new(
                format!("no {bar} bar"),
                format!("the gate {cost}"),
            ));
        }
    }
}

fn curves(package: &Package, variant: &Variant, notes: &mut Vec<Note>) {
    let quantization = &variant.quantization;
    let without = |task: &&Task| package.calibration(&task.name, quantization).is_none();
    let tasks = package.manifest.tasks.iter().filter(without);
    let tasks = tasks.map(|task| task.name.as_str()).collect::<Vec<_>>();
    if !tasks.is_empty() {
        notes.push(Note::new(
            format!("no calibration of {quantization} for {}", tasks.join(", ")),
            "confidence there is raw, the product of the tokens' probabilities: a threshold does \
             not mean a share of right answers",
        ));
    }
}

fn names(package: &Package, variant: &Variant, header: &Header, notes: &mut Vec<Note>) {
    let file = &variant.file.path;
    if let Some(said) = header.quantization
        && said != variant.quantization
    {
        notes.push(Note::new(
            format!(
                "{file} calls itself {said}, the manifest {}",
                variant.quantization
            ),
            "people may take it for another file; nothing else",
        ));
    }
    if package.manifest.runtime.chat_template == ChatTemplate::Gguf {
        unlike(package, variant, header, notes);
        return;
    }
    let cost = "if it was not trained with ChatML, its answers are poor";
    match Template::of_header(header) {
        Some(Template::ChatMl) => {}
        Some(other) => notes.push(Note::new(
            format!(
                "{file} has a template of {}, the manifest says chatml",
                other.name()
            ),
            cost,
        )),
        None if header.chat_template.is_none() => {
            notes.push(Note::new(format!("{file} has no chat template"), cost));
        }
        None => notes.push(Note::new(
            format!("{file} has a chat template that is not known here"),
            cost,
        )),
    }
}

/// What it means that the file's own template is not the one that is used.
fn unlike(package: &Package, variant: &Variant, header: &Header, notes: &mut Vec<Note>) {
    let Wording::Family(family) = package.wording() else {
        return;
    };
    for task in &package.manifest.tasks {
        if let Err(error) = Frame::of_header(header, &task.system) {
            notes.push(Note::new(
                format!("{}: {error}", variant.file.path),
                format!(
                    "the {} form is used, which it resembles; where it differs from its own, \
                     answers are poorer",
                    family.name()
                ),
            ));
            return;
        }
    }
}

/// Whether instruction, question and answer will fit; only a guess, as nothing is tokenized here.
fn room(package: &Package, task: &Task) -> Option<Note> {
    let tokens = |text: &str| text.len() as u64 / BYTES_PER_TOKEN;
    let items = package.gate.iter().flat_map(|gate| &gate.items);
    let own = items.filter(|item| item.task == task.name);
    let longest = own.map(|item| tokens(&item.input)).max();
    let input = longest.unwrap_or(USUAL_INPUT_TOKENS);
    let answer = u64::from(task.max_tokens);
    let needed = MARKER_TOKENS + tokens(&task.system) + input + answer;
    let context = package.manifest.runtime.context_tokens;
    (needed > context).then(|| {
        Note::new(
            format!(
                "a context of {context} tokens; {} may take {needed}",
                task.name
            ),
            "longer requests are refused, or go to the cloud where there is one: raise \
             runtime.context_tokens, or shorten the instruction",
        )
    })
}
