//! Which tokens follow in any case.
//!
//! Bytes that are forced are not yet tokens that are: at the seam to what is free, the canonical
//! tokens of the whole text may run across. With `{"a":"` forced and a word to follow, the last
//! quote may become one token with the word's first letter. So for every place near the seam at
//! which some token of the vocabulary could begin and run across, the text is cut there and its
//! tokens looked at again; only tokens that all these readings share are taken.
//!
//! That is right for tokenizers by merged pairs: whatever follows, the tokens before a border of
//! the canonical tokens are the canonical tokens of the text before that border.

use std::sync::Arc;

use super::Compiled;
use super::automaton::{Automaton, StateNo, Trouble};
use super::vocabulary::Vocabulary;

/// Bytes of the answer so far that are looked at together with what is forced, so that tokens
/// are canonical across that seam too: longer than nearly all tokens, and less than costs time.
const BEHIND_BYTES: usize = 64;

/// The tokens that follow the state in any case, behind these.
pub(super) fn tokens(
    rule: &Compiled,
    automaton: &mut Automaton,
    state: StateNo,
    so_far: &[u32],
) -> Result<Arc<[u32]>, Trouble> {
    let behind = last_of(&rule.vocabulary, so_far);
    if let Some(known) = automaton.forced(state, behind) {
        return Ok(known);
    }
    let found: Arc<[u32]> = find(rule, automaton, state, behind)?.into();
    automaton.remember_forced(state, behind, Arc::clone(&found));
    Ok(found)
}

/// The last tokens, as many as matter.
fn last_of<'a>(vocabulary: &Vocabulary, tokens: &'a [u32]) -> &'a [u32] {
    let mut bytes = 0;
    let fits = |token: &&u32| {
        bytes += vocabulary.bytes(**token).len();
        bytes <= BEHIND_BYTES
    };
    let count = tokens.iter().rev().take_while(fits).count();
    &tokens[tokens.len() - count..]
}

fn find(
    rule: &Compiled,
    automaton: &mut Automaton,
    state: StateNo,
    behind: &[u32],
) -> Result<Vec<u32>, Trouble> {
    let vocabulary = &rule.vocabulary;
    let (bytes, after) = automaton.forced_bytes(&rule.program, state)?;
    let is_over = automaton.is_over(after);
    if bytes.is_empty() {
        return Ok(if is_over {
            vec![vocabulary.end()]
        } else {
            Vec::new()
        });
    }
    let Some(reading) = Reading::new(vocabulary, behind, &bytes) else {
        return Ok(Vec::new());
    };
    if is_over {
        let mut tokens = reading.tokens[reading.known..].to_vec();
        tokens.push(vocabulary.end());
        return Ok(tokens);
    }
    let safe = reading.safe(rule, automaton, after)?;
    Ok(reading.tokens[reading.known..safe.max(reading.known)].to_vec())
}

/// A text and its canonical tokens, the first of which were taken already.
struct Reading {
    text: Vec<u8>,
    /// Bytes that were taken already.
    start: usize,
    tokens: Vec<u32>,
    /// Tokens that were.
    known: usize,
}

impl Reading {
    /// None if the tokenizer cannot spell the bytes.
    fn new(vocabulary: &Vocabulary, behind: &[u32], bytes: &[u8]) -> Option<Self> {
        let taken = behind.iter().flat_map(|&token| vocabulary.bytes(token));
        let mut text: Vec<u8> = taken.copied().collect();
        let start = text.len();
        text.extend_from_slice(bytes);
        if let Some(tokens) = vocabulary.tokenize(&text)
            && tokens.starts_with(behind)
        {
            return Some(Self {
                text,
                start,
                tokens,
                known: behind.len(),
            });
        }
        // The model took other tokens than the canonical ones: canonical from here on.
        let tokens = vocabulary.tokenize(bytes)?;
        Some(Self {
            text: bytes.to_vec(),
            start: 0,
            tokens,
            known: 0,
        })
    }

    /// How many tokens stay as they are whatever follows.
    fn safe(
        &self,
        rule: &Compiled,
        automaton: &mut Automaton,
        after: StateNo,
    ) -> Result<usize, Trouble> {
        let vocabulary = &rule.vocabulary;
        let reach = vocabulary.trie().longest().saturating_sub(1);
        let first = self.text.len().saturating_sub(reach).max(self.start);
        let mut safe = self.tokens.len();
        for cut in first..self.text.len() {
            let across =
                vocabulary
                    .trie()
                    .goes_beyond(&self.text[cut..], after, |state, byte| {
                        automaton.step(&rule.program, state, byte)
                    })?;
            if across {
                safe = safe.min(self.shared_before(vocabulary, cut));
            }
        }
        Ok(safe)
    }

    /// How many tokens are the same if the text before the cut stands alone.
    fn shared_before(&self, vocabulary: &Vocabulary, cut: usize) -> usize {
        let mut end = 0;
        for (place, &token) in self.tokens.iter().enumerate() {
            if end == cut {
                // A border: nothing before it changes.
                return place;
            }
            end += vocabulary.bytes(token).len();
        }
        let Some(alone) = vocabulary.tokenize(&self.text[..cut]) else {
            // In the middle of a character: no tokenizer says what would be before it.
            return self.known;
        };
        let pairs = self.tokens.iter().zip(&alone);
        pairs.take_while(|(a, b)| a == b).count()
    }
}
