//! Templates that came from anywhere, rendered within limits.
//!
//! ```text
//!  source ─► tokens: no repetition ─► program ─► each operator replaced by a metered one ─► run
//!                                                 │                                         │
//!                                                 └── steps, bytes and depth are counted ◄──┘
//! ```
//!
//! Purpose: a model file brings its chat template along, and a package its input templates. Both
//! are programs of strangers. The interpreter counts steps, but one step may join two texts, and
//! forty of them make a terabyte out of a letter. So the compiled program is gone through before
//! it runs, and every step that makes or compares values is replaced by a call of our own, which
//! takes what it reads and writes from a [`Meter`].
//!
//! Invariants: a rendering ends within its [`Limits`], whatever the template says; it sees the
//! values that it is given and nothing else: no file, no clock, no other template.
//!
//! How it fails: by [`JinjaError`], which a package's author can do something about.

mod methods;
mod operators;

use std::collections::BTreeSet;

use minijinja::machinery::{
    CodeGenerator, Instruction, Instructions, Token, Vm, WhitespaceConfig, make_string_output,
    parse, tokenize,
};
use minijinja::{AutoEscape, Environment, ErrorKind, syntax::SyntaxConfig};
pub(super) use minijinja::{Value, context};

use operators::Meter;

/// Bytes of a template. The longest of published models have 20,000.
pub(super) const MAX_SOURCE_BYTES: usize = 64 << 10;
/// Depth of macros and recursive loops; real templates call a macro inside a macro.
const MAX_DEPTH: usize = 60;
/// Bytes that the template's own texts may come to, loops included.
const MAX_RAW_BYTES: u64 = 16 << 20;
/// The name of a template in the interpreter.
const NAME: &str = "template";
/// As the templates' authors render them: a block's line leaves nothing behind.
const WHITESPACE: WhitespaceConfig = WhitespaceConfig {
    keep_trailing_newline: false,
    lstrip_blocks: true,
    trim_blocks: true,
};

/// What a rendering may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Steps of the interpreter.
    pub(super) steps: u64,
    /// Bytes that all operations may read and write together.
    pub(super) work_bytes: usize,
    /// Bytes of the result.
    pub(super) output_bytes: usize,
}

/// Why there is no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum JinjaError {
    /// It is no template, or does what cannot be done.
    #[error("line {line}: {what}")]
    Wrong {
        /// Where in the template.
        line: usize,
        /// What the interpreter says.
        what: String,
    },
    /// It went beyond a limit.
    #[error("it takes more than {0}")]
    Endless(&'static str),
    /// It refused what it was given, in its own words.
    #[error("it says {0:?}")]
    Raised(String),
}

/// Renders a template.
pub(super) fn render(source: &str, values: Value, limits: Limits) -> Result<String, JinjaError> {
    let meter = Meter::new(limits.work_bytes);
    let mut environment = Environment::empty();
    operators::add(&mut environment, &meter);
    methods::add(&mut environment, &meter);
    no_repetition(source)?;
    let wrong = |error: minijinja::Error| wrong(&error);
    let tree = parse(source, NAME, SyntaxConfig, WHITESPACE).map_err(wrong)?;
    let mut generator = CodeGenerator::new(NAME, source);
    generator.compile_stmt(&tree);
    let (mut program, mut blocks) = generator.finish();
    let parts = std::iter::once(&mut program).chain(blocks.values_mut());
    let longest = parts.map(replace_operators).max().unwrap_or(1);
    // The program's own texts go past the meter, so a program with a long one gets fewer steps.
    environment.set_fuel(Some(limits.steps.min(MAX_RAW_BYTES / longest)));
    environment.set_recursion_limit(MAX_DEPTH);

    let mut text = String::new();
    let done = Vm::new(&environment)
        .eval(
            &program,
            values,
            &blocks,
            &mut make_string_output(&mut text),
            AutoEscape::None,
        )
        .map(drop);
    if let Some(said) = meter.raised() {
        return Err(JinjaError::Raised(said));
    }
    match done {
        Ok(()) if text.len() <= limits.output_bytes => Ok(text),
        Ok(()) => Err(JinjaError::Endless("the bytes that a result may have")),
        Err(_) if meter.is_empty() => Err(JinjaError::Endless("the bytes that it may work on")),
        Err(error) if is_out_of_fuel(&error) => {
            Err(JinjaError::Endless("the steps that it may take"))
        }
        Err(error) => Err(wrong(error)),
    }
}

/// The names that a template takes from outside. A namespace counts as one: it can hold itself,
/// and then it stays in memory, which is no matter once but is for every request.
pub(super) fn names(source: &str) -> Result<BTreeSet<String>, JinjaError> {
    no_repetition(source)?;
    let environment = Environment::empty();
    let template = environment.template_from_str(source);
    let template = template.map_err(|error| wrong(&error))?;
    let mut names = template.undeclared_variables(false);
    names.retain(|name| name == "namespace" || !operators::FUNCTIONS.contains(&name.as_str()));
    Ok(names.into_iter().collect())
}

fn is_out_of_fuel(error: &minijinja::Error) -> bool {
    error.kind() == ErrorKind::OutOfFuel
}

fn wrong(error: &minijinja::Error) -> JinjaError {
    let kind = error.kind().to_string();
    JinjaError::Wrong {
        line: error.line().unwrap_or(1),
        what: error.detail().map_or(kind, str::to_owned),
    }
}

/// Refuses `*`, in all its meanings: the compiler itself would carry out `'a' * 100000000`, long
/// before anything is metered. No known template has one.
fn no_repetition(source: &str) -> Result<(), JinjaError> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err(JinjaError::Endless("the bytes that a template may have"));
    }
    for token in tokenize(source, false, SyntaxConfig, WHITESPACE) {
        let (token, span) = token.map_err(|error| wrong(&error))?;
        if matches!(token, Token::Mul | Token::Pow) {
            return Err(JinjaError::Wrong {
                line: span.start_line.into(),
                what: format!("{token} is not known here"),
            });
        }
    }
    Ok(())
}

/// Replaces, step by step, what makes or compares values by calls of our own, whose names no
/// template can write. Returns the bytes of the longest text that the program writes by itself.
fn replace_operators(program: &mut Instructions<'_>) -> u64 {
    let (mut at, mut longest) = (0, 1);
    while let Some(step) = program.get_mut(at) {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the other steps move values about, and make none that is larger"
        )]
        let operator = match step {
            Instruction::EmitRaw(text) => {
                longest = longest.max(text.len() as u64);
                None
            }
            Instruction::Add => Some(("+", 2)),
            Instruction::StringConcat => Some(("~", 2)),
            Instruction::Mul | Instruction::Pow => Some(("*", 2)),
            Instruction::CompareAndPreserve(_) => Some(("< <", 2)),
            Instruction::Eq => Some(("==", 2)),
            Instruction::Ne => Some(("!=", 2)),
            Instruction::Lt => Some(("<", 2)),
            Instruction::Lte => Some(("<=", 2)),
            Instruction::Gt => Some((">", 2)),
            Instruction::Gte => Some((">=", 2)),
            Instruction::In => Some(("in", 2)),
            // Would compare whole namespaces, which can hold themselves.
            Instruction::CallMethod("changed", _) => Some(("loop.changed", 0)),
            Instruction::Slice => Some(("[:]", 4)),
            Instruction::BuildList(Some(count)) => Some(("[]", *count)),
            Instruction::BuildMap(pairs) => Some(("{}", *pairs * 2)),
            _ => None,
        };
        if let Some((name, values)) = operator {
            // A list of more values than that would have no room in the source.
            let values = u16::try_from(values).unwrap_or(u16::MAX);
            *step = Instruction::CallFunction(name, Some(values));
        }
        at += 1;
    }
    longest
}

#[cfg(test)]
mod tests;
