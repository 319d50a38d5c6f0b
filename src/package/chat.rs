//! What stands around an input: the model's own chat template, rendered once.
//!
//! ```text
//!  template + instruction + a word that stands for the input
//!        │ render
//!        ▼
//!  <|start|>system … <|end|><|start|>user  WORD  <|end|><|start|>assistant
//!  └────────────── prefix ──────────────┘       └─────── suffix ────────┘
//! ```
//!
//! Purpose: a [`Frame`] is made for each task when a package opens. A request only puts its input
//! between the two parts, so no request runs a template, and nothing that a device sends is ever
//! seen by one.
//!
//! Invariants: the template gave the word back unchanged and once, so what it does around an
//! input does not depend on the input; the instruction stands before it.
//!
//! How it fails: by [`ChatError`]: the template cannot be used as it is.

use super::Header;
use super::jinja::{self, JinjaError, Limits, Value, context};
use super::manifest::MAX_SYSTEM_BYTES;

/// What a chat template may take. The largest known one takes 3,000 steps for two messages.
const LIMITS: Limits = Limits {
    steps: 50_000,
    work_bytes: 2 << 20,
    output_bytes: MAX_FRAME_BYTES,
};
/// Bytes of both parts: the longest instruction, and as much again of the template's own.
pub const MAX_FRAME_BYTES: usize = 2 * MAX_SYSTEM_BYTES;
/// White space around the word, to see whether the template takes it away.
const SPACE: &str = " \n ";

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// The model file has none.
    #[error("there is none")]
    None,
    /// It cannot be rendered.
    #[error("its chat template cannot be rendered: {0}")]
    Template(String),
    /// The input does not come out as it went in.
    #[error(
        "its chat template changes or leaves out what is asked, which a prompt in parts cannot follow"
    )]
    Changed,
    /// The input comes out more than once.
    #[error("its chat template repeats what is asked")]
    Repeated,
    /// The instruction is left out, even in front of the input.
    #[error("its chat template leaves out the instruction")]
    Deaf,
}

impl From<JinjaError> for ChatError {
    fn from(error: JinjaError) -> Self {
        Self::Template(error.to_string())
    }
}

/// Which ends of an input lose their white space, as the template would do it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Trims {
    start: bool,
    end: bool,
}

/// What stands around each input of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    prefix: String,
    suffix: String,
    trims: Trims,
}

/// A prompt in three parts, because they may not be tokenized alike.
///
/// An engine tokenizes `prefix` and `suffix` with special tokens recognized, and `input` with
/// special tokens **not** recognized; then it joins the tokens. So whatever a device sends,
/// `<|im_end|>` included, is text to the model and cannot end the question, begin another turn or
/// replace the instruction. Plain text of the prefix behind its last special token belongs to the
/// same stretch of text as the input and is tokenized with it, unrecognized like it: else a word
/// that lies across the seam would come out in other tokens than it was trained in.
///
/// Where the model wants a token that begins a text, the engine puts it in front, unless `prefix`
/// begins with it already: some templates write it and some do not.
///
/// `prefix` is the same for all requests of a task: its tokens are decoded once and shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt<'a> {
    /// Instruction and markers, up to what was asked.
    pub prefix: &'a str,
    /// What was asked; foreign, and never parsed for markers.
    pub input: &'a str,
    /// Markers, up to where the answer begins.
    pub suffix: &'a str,
}

impl Frame {
    pub(super) fn new(prefix: String, suffix: String) -> Self {
        let trims = Trims::default();
        Self {
            prefix,
            suffix,
            trims,
        }
    }

    /// The frame of a model's own template around this instruction.
    pub fn of_header(header: &Header, system: &str) -> Result<Self, ChatError> {
        let chat = Chat {
            template: header.chat_template.as_deref().ok_or(ChatError::None)?,
            bos: header.bos.as_deref().unwrap_or_default(),
            eos: header.eos.as_deref().unwrap_or_default(),
            system,
        };
        // Some refuse a system message, some pass over it: then the user says the instruction.
        match chat.frame(Speaker::System) {
            Ok(frame) if chat.hears(&frame) => return Ok(frame),
            Ok(_) | Err(Unusable::Raised) => {}
            Err(Unusable::Other(error)) => return Err(error),
        }
        match chat.frame(Speaker::User) {
            Ok(frame) if chat.hears(&frame) => Ok(frame),
            Ok(_) => Err(ChatError::Deaf),
            Err(Unusable::Raised) => Err(ChatError::Template(
                "it refuses a user's message".to_owned(),
            )),
            Err(Unusable::Other(error)) => Err(error),
        }
    }

    /// Before the input.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Behind the input.
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// The prompt for one input.
    pub fn prompt<'a>(&'a self, input: &'a str) -> Prompt<'a> {
        Prompt {
            prefix: &self.prefix,
            input: self.trimmed(input),
            suffix: &self.suffix,
        }
    }

    /// The input without the white space that the template would take away.
    pub fn trimmed<'a>(&self, input: &'a str) -> &'a str {
        let input = if self.trims.start {
            input.trim_start()
        } else {
            input
        };
        if self.trims.end {
            input.trim_end()
        } else {
            input
        }
    }
}

/// Who says the instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    System,
    User,
}

/// Why one way of putting it does not work.
enum Unusable {
    /// The template refused the messages in its own words.
    Raised,
    Other(ChatError),
}

impl From<ChatError> for Unusable {
    fn from(error: ChatError) -> Self {
        Self::Other(error)
    }
}

/// A template and what it is given.
struct Chat<'a> {
    template: &'a str,
    bos: &'a str,
    eos: &'a str,
    system: &'a str,
}

impl Chat<'_> {
    /// Whether the instruction stands before the input. Its ends may be trimmed.
    fn hears(&self, frame: &Frame) -> bool {
        frame.prefix.contains(self.system.trim())
    }

    fn frame(&self, speaker: Speaker) -> Result<Frame, Unusable> {
        let word = self.word();
        let (prefix, suffix) = self.around(speaker, &word, "")?;
        let (wide_prefix, wide_suffix) = self.around(speaker, &word, SPACE)?;
        let trims = Trims {
            start: wide_prefix == prefix && speaker == Speaker::System,
            end: wide_suffix == suffix,
        };
        let kept = |trims: bool| if trims { "" } else { SPACE };
        if wide_prefix != format!("{prefix}{}", kept(trims.start))
            || wide_suffix != format!("{}{suffix}", kept(trims.end))
        {
            return Err(ChatError::Changed.into());
        }
        Ok(Frame {
            prefix,
            suffix,
            trims,
        })
    }

    /// What stands before and behind the word with this space around it.
    fn around(
        &self,
        speaker: Speaker,
        word: &str,
        space: &str,
    ) -> Result<(String, String), Unusable> {
        let asked = format!("{space}{word}{space}");
        let text = match self.render(speaker, &asked) {
            Ok(text) => text,
            Err(JinjaError::Raised(_)) => return Err(Unusable::Raised),
            Err(error) => return Err(ChatError::from(error).into()),
        };
        let Some((prefix, suffix)) = text.split_once(word) else {
            return Err(ChatError::Changed.into());
        };
        if suffix.contains(word) {
            return Err(ChatError::Repeated.into());
        }
        Ok((prefix.to_owned(), suffix.to_owned()))
    }

    fn render(&self, speaker: Speaker, asked: &str) -> Result<String, JinjaError> {
        let message = |role: &str, content: &str| context! { role, content };
        let messages = match speaker {
            Speaker::System => vec![message("system", self.system), message("user", asked)],
            Speaker::User => vec![message("user", &format!("{}\n\n{asked}", self.system))],
        };
        // Nothing is offered that a short answer does not need: no tools, no thinking aloud.
        let nothing = Value::from(());
        let values = context! {
            messages,
            add_generation_prompt => true,
            bos_token => self.bos,
            eos_token => self.eos,
            tools => nothing,
            documents => nothing,
            enable_thinking => false,
        };
        jinja::render(self.template, values, LIMITS)
    }

    /// A word that is nowhere else, with everything in it that a template may be tempted to
    /// change: both cases, quotes, what HTML and JSON escape, two spaces, a line's end.
    fn word(&self) -> String {
        let mut number = 0;
        loop {
            let word = format!("Input-{number} <b>&'\"\\  \n\u{e4}");
            if !self.template.contains(&word) && !self.system.contains(&word) {
                return word;
            }
            number += 1;
        }
    }
}

#[cfg(test)]
mod tests;
