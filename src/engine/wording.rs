//! Text and tokens of one model.
//!
//! Purpose: turns an instruction and an input into the tokens of a prompt, and tokens back into
//! text. Invariant: what is foreign is tokenized as text, whatever it looks like; where it meets
//! the text of the instruction, both are tokenized together, as if they had been one text, so
//! that the tokens are those on which the model was trained.
//!
//! ```text
//!  head                                  input     tail
//!  <|im_start|>system\n…<|im_start|>  user\n  …  <|im_end|>\n<|im_start|>assistant\n
//!  └──────── prefix, shared ────────┘ └── lead + input + trail ──┘└───── suffix ─────┘
//!           markers are markers          markers are text          markers are markers
//! ```

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;

use super::constraint::Tokenize;
use super::protocol::Instruction;

/// Text and tokens of one model.
#[derive(Debug)]
pub(super) struct Wording<'m> {
    vocab: LlamaVocab<'m>,
    /// For each token, whether it is a marker: no answer may hold one.
    markers: Vec<bool>,
    /// Texts of all markers.
    spellings: Vec<String>,
    begin: Option<u32>,
    end: u32,
}

/// An instruction as tokens, with a place for the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Up to the last marker before the input: the same for every request.
    pub prefix: Vec<u32>,
    lead: String,
    trail: String,
    suffix: Vec<u32>,
}

impl<'m> Wording<'m> {
    /// Of this model; none if it has no end token.
    pub(super) fn new(model: &'m LlamaModel) -> Option<Self> {
        let vocab = model.vocab();
        let known = |token: LlamaToken| u32::try_from(token.0).ok();
        let end = known(vocab.eot()).or_else(|| known(vocab.eos()))?;
        let all = || (0..vocab.n_tokens()).map(LlamaToken);
        let is_marker = |token| vocab.is_control(token) || vocab.is_eog(token);
        let markers: Vec<bool> = all().map(is_marker).collect();
        let spelling = |token| String::from_utf8(vocab.token_to_piece(token, true, None)).ok();
        let spellings = all()
            .filter(|token| is_marker(*token))
            .filter_map(spelling)
            .filter(|text| !text.is_empty())
            .collect();
        let begin = known(vocab.bos()).filter(|_| vocab.should_add_bos());
        Some(Self {
            vocab,
            markers,
            spellings,
            begin,
            end,
        })
    }

    /// The token that ends an answer. Others that end a turn are barred under a rule: with two,
    /// an answer that must end would look undecided.
    pub(super) fn end(&self) -> u32 {
        self.end
    }

    /// Whether this token ends an answer that follows no rule.
    pub(super) fn ends(&self, token: u32) -> bool {
        self.vocab.is_eog(LlamaToken(token.cast_signed()))
    }

    /// For each token, whether it is a marker.
    pub(super) fn markers(&self) -> &[bool] {
        &self.markers
    }

    /// The bytes of each token, none for a marker.
    pub(super) fn pieces(&self) -> Vec<Vec<u8>> {
        let piece = |id: usize| {
            if self.markers[id] {
                Vec::new()
            } else {
                self.piece(u32::try_from(id).expect("a vocabulary has fewer"))
            }
        };
        (0..self.markers.len()).map(piece).collect()
    }

    /// Whether both have the same tokens.
    pub(super) fn has_tokens_of(&self, other: &Wording<'_>) -> bool {
        self.end == other.end && self.markers == other.markers && self.pieces() == other.pieces()
    }

    /// The bytes of one token.
    pub(super) fn piece(&self, token: u32) -> Vec<u8> {
        self.vocab
            .token_to_piece(LlamaToken(token.cast_signed()), false, None)
    }

    /// Foreign text.
    pub(super) fn text(&self, text: &[u8]) -> Vec<u32> {
        ids(&self.vocab.tokenize(text, false, false))
    }

    /// [`Wording::text`] for those who outlive this.
    pub(super) fn tokenizer(model: &'static LlamaModel) -> Box<Tokenize> {
        let vocab = model.vocab();
        Box::new(move |text| ids(&vocab.tokenize(text, false, false)))
    }

    fn parsed(&self, text: &str) -> Vec<u32> {
        ids(&self.vocab.tokenize(text.as_bytes(), false, true))
    }

    /// An instruction as tokens.
    pub(super) fn frame(&self, instruction: &Instruction) -> Frame {
        let head = instruction.head.as_str();
        let last = |marker: &String| Some(head.rfind(marker.as_str())? + marker.len());
        let seam = self.spellings.iter().filter_map(last).max().unwrap_or(0);
        let (before, lead) = head.split_at(seam);
        let mut prefix = self.parsed(before);
        if let Some(begin) = self.begin
            && prefix.first() != Some(&begin)
        {
            prefix.insert(0, begin);
        }
        let tail = instruction.tail.as_str();
        let first = |marker: &String| tail.find(marker.as_str());
        let seam = self.spellings.iter().filter_map(first).min();
        let (trail, after) = tail.split_at(seam.unwrap_or(tail.len()));
        Frame {
            prefix,
            lead: lead.to_owned(),
            trail: trail.to_owned(),
            suffix: self.parsed(after),
        }
    }

    /// What follows the prefix.
    pub(super) fn own(&self, frame: &Frame, input: &str) -> Vec<u32> {
        let text = [&frame.lead, input, &frame.trail].concat();
        let mut own = self.text(text.as_bytes());
        own.extend_from_slice(&frame.suffix);
        own
    }
}

fn ids(tokens: &[LlamaToken]) -> Vec<u32> {
    tokens.iter().map(|token| token.0.cast_unsigned()).collect()
}

/// Bytes that become text as soon as a character is whole.
#[derive(Debug, Default)]
pub(super) struct Text {
    bytes: Vec<u8>,
    /// How much was handed out.
    told: usize,
}

impl Text {
    /// More bytes.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What can be told now and was not told yet.
    pub(super) fn news(&mut self) -> String {
        let rest = &self.bytes[self.told..];
        let whole = match std::str::from_utf8(rest) {
            // A character that is only cut off waits; one that is broken is told as it is.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Ok(_) | Err(_) => rest.len(),
        };
        let news = String::from_utf8_lossy(&rest[..whole]).into_owned();
        self.told += whole;
        news
    }

    /// Everything.
    pub(super) fn whole(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_told_when_it_is_whole() {
        let mut text = Text::default();
        text.extend(&"ä".as_bytes()[..1]);
        assert_eq!(text.news(), "");
        text.extend(&"ä".as_bytes()[1..]);
        assert_eq!(text.news(), "ä");
        text.extend(b"\xff!");
        assert_eq!(text.news(), "\u{fffd}!");
        assert_eq!(text.whole(), "ä\u{fffd}!");
    }
}
