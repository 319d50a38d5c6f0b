//! The tokens of a model, in the order in which a mask goes through them.

use std::sync::Arc;

use super::RuleFault;
use super::mask::{Draft, Mask};

/// Tokens of a vocabulary: the largest known have a quarter of it.
pub(super) const MAX_TOKENS: usize = 1 << 20;
/// Bytes of a token; longer ones exist (runs of spaces) and are never allowed under a rule.
pub(super) const MAX_TOKEN_BYTES: usize = 255;

/// Tokens as canonical pieces of a text, as the model's own tokenizer gives them.
pub type Tokenize = dyn Fn(&[u8]) -> Vec<u32> + Send + Sync;

/// What a model's file says of its tokens.
pub struct Pieces {
    /// The bytes of each token by number; empty for control tokens.
    pub bytes: Vec<Vec<u8>>,
    /// The token that ends an answer.
    pub end: u32,
    /// The canonical tokens of a plain text, in which a marker is text.
    pub tokenize: Box<Tokenize>,
}

/// The tokens of a model, made once for each model. Cheap to clone.
#[derive(Clone)]
pub struct Vocabulary(Arc<Inner>);

struct Inner {
    bytes: Vec<Vec<u8>>,
    end: u32,
    tokenize: Box<Tokenize>,
    trie: Trie,
    anything: Mask,
}

impl Vocabulary {
    /// Takes the tokens of a model.
    pub fn new(pieces: Pieces) -> Result<Self, RuleFault> {
        let Pieces {
            mut bytes,
            end,
            tokenize,
        } = pieces;
        if bytes.len() > MAX_TOKENS {
            let why = format!("{} tokens, more than {MAX_TOKENS}", bytes.len());
            return Err(RuleFault::Vocabulary(why));
        }
        let Some(end_bytes) = bytes.get_mut(end as usize) else {
            let why = format!("the end token {end} is none of {}", bytes.len());
            return Err(RuleFault::Vocabulary(why));
        };
        end_bytes.clear();
        let mut anything = Draft::new(bytes.len());
        anything.allow(end);
        for (token, _) in (0..).zip(&bytes).filter(|(_, bytes)| !bytes.is_empty()) {
            anything.allow(token);
        }
        let trie = Trie::new(&bytes);
        Ok(Self(Arc::new(Inner {
            bytes,
            end,
            tokenize,
            trie,
            anything: anything.finish(),
        })))
    }

    /// The token that ends an answer.
    pub(super) fn end(&self) -> u32 {
        self.0.end
    }

    /// The bytes of a token; none of control tokens and those that are not there.
    pub(super) fn bytes(&self, token: u32) -> &[u8] {
        self.0.bytes.get(token as usize).map_or(&[], Vec::as_slice)
    }

    pub(super) fn trie(&self) -> &Trie {
        &self.0.trie
    }

    /// All but control tokens.
    pub(super) fn anything(&self) -> &Mask {
        &self.0.anything
    }

    /// The canonical tokens, if they are these bytes and nothing else.
    pub(super) fn tokenize(&self, text: &[u8]) -> Option<Vec<u32>> {
        let tokens = (self.0.tokenize)(text);
        let mut rest = text;
        for &token in &tokens {
            rest = match self.bytes(token) {
                [] => return None,
                bytes => rest.strip_prefix(bytes)?,
            };
        }
        rest.is_empty().then_some(tokens)
    }
}

/// Whether a token can be part of an answer under a rule.
pub(super) fn is_usable(bytes: &[u8]) -> bool {
    (1..=MAX_TOKEN_BYTES).contains(&bytes.len())
}

/// All tokens by their bytes: each node is a byte behind the bytes of the nodes around it, and
/// the nodes behind it follow it directly.
pub(super) struct Trie {
    nodes: Vec<TrieNode>,
    /// Tokens by node; several where they have the same bytes.
    tokens: Vec<u32>,
    /// Tokens of the whole vocabulary.
    count: usize,
    longest: usize,
}

#[derive(Clone, Copy)]
struct TrieNode {
    /// The first node that is not behind this one.
    skip: u32,
    /// The tokens that end here.
    tokens: (u32, u32),
    byte: u8,
    depth: u8,
}

impl Trie {
    fn new(bytes: &[Vec<u8>]) -> Self {
        let all = (0_u32..).zip(bytes).filter(|(_, bytes)| is_usable(bytes));
        let mut sorted: Vec<(&[u8], u32)> = all.map(|(no, bytes)| (&bytes[..], no)).collect();
        sorted.sort_unstable();
        let mut trie = Self {
            nodes: Vec::new(),
            tokens: sorted.iter().map(|&(_, token)| token).collect(),
            count: bytes.len(),
            longest: sorted
                .iter()
                .map(|(bytes, _)| bytes.len())
                .max()
                .unwrap_or(0),
        };
        let number = |count: usize| u32::try_from(count).expect("tokens times bytes is far below");
        // The nodes of the token before, one for each of its bytes.
        let mut path: Vec<usize> = Vec::new();
        let mut before: &[u8] = &[];
        for (place, &(bytes, _)) in sorted.iter().enumerate() {
            let shared = bytes.iter().zip(before).take_while(|(a, b)| a == b).count();
            for &closed in &path[shared..] {
                trie.nodes[closed].skip = number(trie.nodes.len());
            }
            path.truncate(shared);
            for (depth, &byte) in bytes.iter().enumerate().skip(shared) {
                path.push(trie.nodes.len());
                trie.nodes.push(TrieNode {
                    skip: 0,
                    tokens: (number(place), number(place)),
                    byte,
                    depth: u8::try_from(depth).expect("tokens are no longer"),
                });
            }
            if let Some(&last) = path.last() {
                trie.nodes[last].tokens.1 = number(place + 1);
            }
            before = bytes;
        }
        for closed in path {
            trie.nodes[closed].skip = number(trie.nodes.len());
        }
        trie
    }

    /// Bytes of the longest token.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// The tokens whose bytes lead from the state to one that lives, and the end if it is given.
    pub(super) fn mask<E>(
        &self,
        state: u32,
        end: Option<u32>,
        mut step: impl FnMut(u32, u8) -> Result<u32, E>,
    ) -> Result<Mask, E> {
        let mut draft = Draft::new(self.count);
        if let Some(end) = end {
            draft.allow(end);
        }
        let mut states = vec![0; self.longest + 1];
        states[0] = state;
        let mut at = 0;
        while let Some(node) = self.nodes.get(at) {
            let depth = usize::from(node.depth);
            let next = step(states[depth], node.byte)?;
            if next == 0 {
                at = node.skip as usize;
                continue;
            }
            states[depth + 1] = next;
            for &token in &self.tokens[node.tokens.0 as usize..node.tokens.1 as usize] {
                draft.allow(token);
            }
            at += 1;
        }
        Ok(draft.finish())
    }

    /// Whether some token begins with these bytes and goes on from the state.
    pub(super) fn goes_beyond<E>(
        &self,
        begin: &[u8],
        state: u32,
        mut step: impl FnMut(u32, u8) -> Result<u32, E>,
    ) -> Result<bool, E> {
        let (mut at, mut until) = (0, self.nodes.len());
        for (depth, &byte) in begin.iter().enumerate() {
            loop {
                match self.nodes[..until].get(at) {
                    None => return Ok(false),
                    Some(node) if usize::from(node.depth) == depth && node.byte == byte => {
                        until = node.skip as usize;
                        at += 1;
                        break;
                    }
                    Some(node) => at = node.skip as usize,
                }
            }
        }
        let mut states = vec![0; self.longest + 1];
        let Some(first) = states.get_mut(begin.len()) else {
            return Ok(false);
        };
        *first = state;
        while let Some(node) = self.nodes[..until].get(at) {
            let depth = usize::from(node.depth);
            let next = step(states[depth], node.byte)?;
            if next == 0 {
                at = node.skip as usize;
                continue;
            }
            if node.tokens.0 < node.tokens.1 {
                return Ok(true);
            }
            states[depth + 1] = next;
            at += 1;
        }
        Ok(false)
    }
}
