//! What a request does not say, estimated from what it looks like.
//!
//! Purpose: rules ask for complexity, risk and tokens; few devices know them. One walk through the
//! text counts what can be counted without knowing a language, and a few weights of the model
//! package make estimates of it. No model is asked and nothing is allocated: microseconds.
//!
//! - **Complexity** is the chance that this package's model answers wrongly, seen from the average
//!   request: at one half the odds are as usual, at 0.72 about two and a half times as high. So a
//!   threshold means the same for a good model and for a poor one.
//! - **Tokens** are those of the prompt with its frame, and of the longest answer that the request
//!   allows: what must fit the context.
//! - **Risk** cannot be seen in a text. It is what the package says of the task, else nothing.
//!
//! The weights are fitted by `tools/train/estimate.py`, which measures the same; a test holds the
//! two together.

use crate::engine::order::PLAIN_TOKENS;
use crate::intake::Request;
use crate::package::{COUNTS, Estimate, FEATURES, Manifest, TaskEstimate};

/// Weights, and what is known of each task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimator {
    weights: Estimate,
    /// Tokens of an answer at most, by task.
    answers: Vec<(String, u32)>,
}

/// Estimates of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimated {
    /// 0 to 1.
    pub complexity: f32,
    /// 0 to 100.
    pub risk: u8,
    /// Of prompt and answer.
    pub tokens: u32,
}

/// Tokens around an input where the package does not say: an instruction of a sentence.
const USUAL_FRAME_TOKENS: u32 = 24;

impl Estimator {
    /// The estimator that a package brings.
    pub fn of(manifest: &Manifest) -> Self {
        let answers = manifest.tasks.iter();
        Self {
            weights: manifest.estimate.clone().unwrap_or_default(),
            answers: answers
                .map(|task| (task.name.clone(), task.max_tokens))
                .collect(),
        }
    }

    /// Estimates what a request does not say.
    pub fn estimate(&self, request: &Request) -> Estimated {
        let look = Look::at(request.ask.text());
        let task = request.ask.task();
        let known = task.and_then(|task| self.task(task));
        let features = look.features(request.schema.as_deref());
        let odds = weigh(&self.weights.complexity, &features)
            + known.map_or(0.0, |known| known.complexity);
        let answer = task
            .and_then(|task| self.answers.iter().find(|(name, _)| name == task))
            .map_or(PLAIN_TOKENS, |(_, most)| *most);
        let answer = request.max_tokens.map_or(answer, |asked| asked.min(answer));
        let frame = known.map_or(USUAL_FRAME_TOKENS, |known| known.frame_tokens);
        let text = weigh(&self.weights.tokens, &look.counts()).ceil().max(1.0);
        Estimated {
            complexity: share(odds),
            risk: known.map_or(0, |known| known.risk),
            tokens: whole(text).saturating_add(frame).saturating_add(answer),
        }
    }

    fn task(&self, name: &str) -> Option<&TaskEstimate> {
        self.weights.tasks.iter().find(|task| task.name == name)
    }
}

fn weigh<const N: usize>(weights: &[f64; N], values: &[f64; N]) -> f64 {
    weights.iter().zip(values).map(|(a, b)| a * b).sum()
}

/// From the logarithm of odds to a share.
#[expect(clippy::cast_possible_truncation, reason = "from 0 to 1")]
fn share(odds: f64) -> f32 {
    (1.0 / (1.0 + (-odds).exp())) as f32
}

/// A whole number of something that is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` stops at the ends, which is what is wanted"
)]
fn whole(number: f64) -> u32 {
    number as u32
}

/// What one walk through a text sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    chars: u32,
    /// Letters, by what they look like.
    letters: u32,
    capitals: u32,
    /// Characters and bytes beyond ASCII.
    others: u32,
    other_bytes: u32,
    digits: u32,
    /// Runs of digits, and those that a unit follows.
    numbers: u32,
    units: u32,
    /// Runs of letters and digits.
    words: u32,
    /// What is neither a letter, a digit nor a space.
    marks: u32,
    questions: u32,
    breaks: u32,
}

/// Marks of a question: Latin, full-width, Arabic, Greek, and the Spanish one that opens it.
const QUESTION_MARKS: [char; 5] = ['?', '\u{FF1F}', '\u{61F}', '\u{37E}', '\u{BF}'];

/// Characters of a word from which longer ones say no more: a script without spaces, or a code.
const LONG_WORD: f64 = 12.0;

/// Where the walk is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Gap,
    Word,
    Number,
    /// A space behind a number, where its unit may follow.
    Behind,
}

impl Look {
    fn at(text: &str) -> Self {
        let mut look = Self::default();
        let mut at = At::Gap;
        for c in text.chars() {
            look.chars += 1;
            if !c.is_ascii() {
                look.others += 1;
                look.other_bytes += u32::try_from(c.len_utf8()).unwrap_or(0);
            }
            at = look.step(c, at);
        }
        look
    }

    fn step(&mut self, c: char, at: At) -> At {
        if c.is_ascii_digit() {
            self.digits += 1;
            match at {
                At::Gap | At::Behind => {
                    self.numbers += 1;
                    self.words += 1;
                    At::Number
                }
                At::Word | At::Number => at,
            }
        } else if c.is_alphabetic() {
            self.letters += u32::from(c.is_ascii());
            self.capitals += u32::from(c.is_uppercase());
            match at {
                At::Gap => self.words += 1,
                At::Number => self.units += 1,
                At::Behind => {
                    self.words += 1;
                    self.units += 1;
                }
                At::Word => {}
            }
            At::Word
        } else if c.is_whitespace() {
            self.breaks += u32::from(c == '\n');
            if at == At::Number {
                At::Behind
            } else {
                At::Gap
            }
        } else {
            self.marks += u32::from(c.is_ascii());
            self.questions += u32::from(QUESTION_MARKS.contains(&c));
            match (c, at) {
                ('%' | '°', At::Number | At::Behind) => {
                    self.units += 1;
                    At::Gap
                }
                // Within a number: 9.8 and 9,8 are one.
                ('.' | ',', At::Number) => At::Number,
                _ => At::Gap,
            }
        }
    }

    /// In the order of [`FEATURES`]. Counts go in by their logarithm: the tenth number in a text
    /// says less than the second.
    fn features(self, schema: Option<&str>) -> [f64; FEATURES.len()] {
        let many = |count: u32| f64::from(count).ln_1p();
        let of = |part: u32, whole: u32| f64::from(part) / f64::from(whole.max(1));
        [
            1.0,
            many(self.chars),
            many(self.words),
            many(self.numbers),
            many(self.units),
            f64::from(self.questions.min(3)),
            many(self.breaks),
            of(self.others, self.chars),
            of(self.capitals, self.chars),
            of(self.marks, self.chars),
            of(self.chars, self.words + 1).min(LONG_WORD),
            many(schema.map_or(0, keys)),
        ]
    }

    /// In the order of [`COUNTS`].
    fn counts(self) -> [f64; COUNTS.len()] {
        [
            self.letters,
            self.digits,
            self.words,
            self.marks,
            self.other_bytes,
        ]
        .map(f64::from)
    }
}

/// Keys of a JSON text, all levels together: colons outside of strings.
fn keys(json: &str) -> u32 {
    let (mut keys, mut inside, mut escaped) = (0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => inside = !inside,
            b':' if !inside => keys += 1,
            _ => {}
        }
    }
    keys
}

#[cfg(test)]
mod tests;
