//! A small vocabulary of merged pairs, and what all tests do with it.
#![allow(clippy::unwrap_used)]

mod basics;
mod forced;
mod grammars;
mod hostile;
mod schemas;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::*;
use crate::engine::protocol::Rule;

/// Control tokens: they come first, as in many models.
const CONTROLS: usize = 4;
const END: u32 = 2;

/// Pairs that are merged, by rank: what a byte-pair tokenizer is.
struct Merges {
    ranks: HashMap<(u32, u32), u32>,
    bytes: Vec<Vec<u8>>,
}

impl Merges {
    /// Learns so many merges from a text, the most frequent pair first.
    fn learned(corpus: &[&str], count: usize) -> Self {
        let mut bytes = vec![Vec::new(); CONTROLS];
        bytes.extend((0..=255_u8).map(|byte| vec![byte]));
        let mut all = Self {
            ranks: HashMap::new(),
            bytes,
        };
        let mut texts: Vec<Vec<u32>> = corpus
            .iter()
            .map(|it| all.tokenize(it.as_bytes()))
            .collect();
        for rank in 0..count {
            let mut pairs: HashMap<(u32, u32), usize> = HashMap::new();
            for pair in texts.iter().flat_map(|text| text.windows(2)) {
                *pairs.entry((pair[0], pair[1])).or_default() += 1;
            }
            let Some((&pair, _)) = pairs.iter().max_by_key(|&(pair, count)| (count, pair)) else {
                break;
            };
            let joined = [
                all.bytes[pair.0 as usize].clone(),
                all.bytes[pair.1 as usize].clone(),
            ];
            all.bytes.push(joined.concat());
            all.ranks.insert(pair, u32::try_from(rank).unwrap());
            for text in &mut texts {
                let bytes: Vec<u8> = text
                    .iter()
                    .flat_map(|&token| all.bytes[token as usize].clone())
                    .collect();
                *text = all.tokenize(&bytes);
            }
        }
        all
    }

    fn tokenize(&self, text: &[u8]) -> Vec<u32> {
        let first = u32::try_from(CONTROLS).unwrap();
        let mut tokens: Vec<u32> = text.iter().map(|&byte| first + u32::from(byte)).collect();
        loop {
            let ranks = tokens.windows(2).enumerate().filter_map(|(place, pair)| {
                let rank = self.ranks.get(&(pair[0], pair[1]))?;
                Some((*rank, place))
            });
            let Some((rank, place)) = ranks.min() else {
                return tokens;
            };
            tokens[place] = first + 256 + rank;
            tokens.remove(place + 1);
        }
    }

    fn vocabulary(self) -> Vocabulary {
        let bytes = self.bytes.clone();
        let tokenize = Box::new(move |text: &[u8]| self.tokenize(text));
        Vocabulary::new(Pieces {
            bytes,
            end: END,
            tokenize,
        })
        .unwrap()
    }
}

const CORPUS: &[&str] = &[
    r#"{"severity":"critical","category":"hydraulics","action":"stop_pump","needs_human":false}"#,
    r#"{"severity":"warning","category":"heating","action":"check_heater","needs_human":true}"#,
    r#"{"severity":"info","category":"normal","action":"none","needs_human":false}"#,
    r#"{"asset":"CNC-07","metric":"vibration","value":9.8,"unit":"mm/s"}"#,
    r#"{"asset":null,"metric":null,"value":-12.75,"unit":"bar"}"#,
    r#"[{"a":1},{"b":[true,false,null]},"aaaa","abab","":"",""]"#,
    "maintenance quality safety logistics a b ab abc aab",
];

/// Bytes, 200 merges, control tokens.
fn vocabulary() -> Vocabulary {
    static MADE: OnceLock<Vocabulary> = OnceLock::new();
    let made = MADE.get_or_init(|| Merges::learned(CORPUS, 200).vocabulary());
    made.clone()
}

/// Only bytes.
fn byte_vocabulary() -> Vocabulary {
    static MADE: OnceLock<Vocabulary> = OnceLock::new();
    let made = MADE.get_or_init(|| Merges::learned(&[], 0).vocabulary());
    made.clone()
}

fn grammar(text: &str) -> Rule {
    Rule::Grammar(text.to_owned())
}

fn under(vocabulary: &Vocabulary, rule: &Rule) -> Constraint {
    match Compiler::new(vocabulary.clone()).compile(rule) {
        Ok(constraint) => constraint,
        Err(fault) => panic!("{fault}: {rule:?}"),
    }
}

fn refusal(rule: &Rule) -> RuleFault {
    match Compiler::new(byte_vocabulary()).compile(rule) {
        Ok(_) => panic!("not refused: {rule:?}"),
        Err(fault) => fault,
    }
}

/// Whether these tokens, and the end behind them, are an answer.
fn takes(constraint: &Constraint, tokens: &[u32]) -> bool {
    let mut constraint = constraint.clone();
    tokens
        .iter()
        .all(|&token| constraint.advance(token).is_ok())
        && constraint.advance(END).is_ok()
}

/// Whether a text is an answer, byte by byte.
fn accepts(constraint: &Constraint, text: &str) -> bool {
    let first = u32::try_from(CONTROLS).unwrap();
    let tokens: Vec<u32> = text.bytes().map(|byte| first + u32::from(byte)).collect();
    takes(constraint, &tokens)
}

fn text_of(vocabulary: &Vocabulary, tokens: &[u32]) -> Vec<u8> {
    tokens
        .iter()
        .flat_map(|&token| vocabulary.bytes(token).to_vec())
        .collect()
}

/// A random way through the masks; none if it did not end within so many tokens. After half of
/// them the end is taken where it may be.
fn walk(constraint: &Constraint, seed: u64, longest: usize) -> Option<Vec<u32>> {
    let mut constraint = constraint.clone();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut tokens = Vec::new();
    while tokens.len() < longest {
        let mask = constraint.mask().unwrap();
        let late = tokens.len() * 2 > longest;
        let all: Vec<u32> = mask.iter().collect();
        // Where there is much to choose from, most of it is other letters of a string.
        let next = match mask.allows(END) && (late || random.u8(..) < 64) {
            true => END,
            false => {
                let rare = all.iter().filter(|&&it| is_mark(&constraint, it)).copied();
                let rare: Vec<u32> = rare.collect();
                match rare.is_empty() || (!late && random.bool()) {
                    true => all[random.usize(..all.len())],
                    false => rare[random.usize(..rare.len())],
                }
            }
        };
        constraint.advance(next).unwrap();
        if next == END {
            return Some(tokens);
        }
        tokens.push(next);
    }
    None
}

/// Whether the token begins with what closes or separates.
fn is_mark(constraint: &Constraint, token: u32) -> bool {
    matches!(
        constraint.vocabulary.bytes(token),
        [b'"' | b']' | b'}' | b',' | b':', ..]
    )
}
