//! Which tokens may follow, one bit each.

use std::fmt;
use std::sync::Arc;

/// Tokens that may follow. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Mask(Arc<Bits>);

#[derive(PartialEq, Eq)]
struct Bits {
    words: Box<[u64]>,
    count: u32,
}

/// Tokens in a word.
const WORD: usize = u64::BITS as usize;

impl Mask {
    /// Whether this one may.
    pub fn allows(&self, token: u32) -> bool {
        let token = token as usize;
        let word = self.0.words.get(token / WORD);
        word.is_some_and(|word| word >> (token % WORD) & 1 == 1)
    }

    /// How many may.
    pub fn count(&self) -> u32 {
        self.0.count
    }

    /// Whether there is a choice.
    pub fn is_free(&self) -> bool {
        self.0.count > 1
    }

    /// The one that may, if there is only one.
    pub fn only(&self) -> Option<u32> {
        match self.0.count {
            1 => self.iter().next(),
            _ => None,
        }
    }

    /// Those that may, rising.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let words = self.0.words.iter().enumerate();
        words.flat_map(|(place, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                left &= left.wrapping_sub(1);
                let first = u32::try_from(place * WORD).ok()?;
                (bit < u64::BITS).then_some(first + bit)
            })
        })
    }

    /// Makes those that may not impossible.
    pub fn apply(&self, logits: &mut [f32]) {
        let known = self.0.words.len() * WORD;
        for (&word, logits) in self.0.words.iter().zip(logits.chunks_mut(WORD)) {
            match word {
                0 => logits.fill(f32::NEG_INFINITY),
                u64::MAX => {}
                word => {
                    for (bit, logit) in logits.iter_mut().enumerate() {
                        if word >> bit & 1 == 0 {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
        if let Some(unknown) = logits.get_mut(known..) {
            unknown.fill(f32::NEG_INFINITY);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.0.words) + size_of::<Bits>()
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let few: Vec<u32> = self.iter().take(8).collect();
        write!(f, "Mask({} tokens: {few:?}…)", self.0.count)
    }
}

/// A mask under way.
pub(super) struct Draft(Vec<u64>);

impl Draft {
    /// None may, of so many.
    pub(super) fn new(tokens: usize) -> Self {
        Self(vec![0; tokens.div_ceil(WORD)])
    }

    /// This one may.
    pub(super) fn allow(&mut self, token: u32) {
        let token = token as usize;
        self.0[token / WORD] |= 1 << (token % WORD);
    }

    pub(super) fn finish(self) -> Mask {
        let count = self.0.iter().map(|word| word.count_ones()).sum();
        Mask(Arc::new(Bits {
            words: self.0.into_boxed_slice(),
            count,
        }))
    }
}
