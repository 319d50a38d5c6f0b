//! What a package says about requests before its model has seen them: how hard, how long, how
//! risky they probably are.
//!
//! Only the weights stand here; what they weigh is measured by the router. A package without them
//! is served with those of [`Estimate::default`], which were made by hand and know no model.

/// What is measured of a text to tell how hard it is, by the name of its weight.
pub const FEATURES: [&str; 12] = [
    "constant",
    "length",
    "words",
    "numbers",
    "units",
    "questions",
    "lines",
    "other_letters",
    "capitals",
    "marks",
    "word_length",
    "schema_keys",
];
/// What is counted of a text to tell how many tokens it has, by the name of its weight.
pub const COUNTS: [&str; 5] = ["letter", "digit", "word", "mark", "other_byte"];
/// A weight beyond this says "always" or "never", which a constant says better.
pub(super) const MAX_WEIGHT: f64 = 100.0;
/// Tokens around an input: an instruction of a page.
pub(super) const MAX_FRAME_TOKENS: u64 = 16 << 10;
/// The greatest risk.
pub(super) const MAX_RISK: u64 = 100;

/// Weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// For each of [`FEATURES`]: what one more of it adds to the logarithm of the odds that the
    /// answer is wrong, compared with the average request.
    pub complexity: [f64; FEATURES.len()],
    /// For each of [`COUNTS`]: tokens.
    pub tokens: [f64; COUNTS.len()],
    /// What goes by the task.
    pub tasks: Vec<TaskEstimate>,
}

/// What goes by a task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskEstimate {
    /// The task.
    pub name: String,
    /// What it adds to the same logarithm.
    pub complexity: f64,
    /// Tokens that stand around each of its inputs.
    pub frame_tokens: u32,
    /// What is at stake, from 0 to 100, where a request does not say.
    pub risk: u8,
}

impl Default for Estimate {
    /// Long texts with many numbers and an answer of many parts count as hard; a token is four
    /// letters, a digit, or a mark. No constant: an empty text is far on the easy side.
    fn default() -> Self {
        Self {
            complexity: [-4.0, 0.5, 0.0, 0.3, 0.0, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0, 0.3],
            tokens: [0.25, 1.0, 0.3, 1.0, 0.5],
            tasks: Vec::new(),
        }
    }
}
