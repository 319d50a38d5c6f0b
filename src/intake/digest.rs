//! Digests: what is asked, told apart in sixteen bytes.

use super::{Ask, Classification, Digest};

/// The digest of what is asked. Each part is led by its length, so that no two requests run
/// together into the same bytes.
pub fn digest_of(
    ask: &Ask,
    classification: Classification,
    risk: Option<u8>,
    complexity: Option<f32>,
    max_tokens: Option<u32>,
    schema: Option<&str>,
) -> Digest {
    let numbers = format!("{risk:?} {complexity:?} {max_tokens:?}");
    let mut parts = vec![
        ask.task().unwrap_or_default().as_bytes(),
        ask.text().as_bytes(),
        classification.word().as_bytes(),
        numbers.as_bytes(),
        schema.unwrap_or_default().as_bytes(),
    ];
    // Values are other content than a text that reads like them.
    if let Ask::Values { .. } = ask {
        parts.push(b"values");
    }
    sha256(&parts)
}

fn sha256(parts: &[&[u8]]) -> Digest {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&context.finish().as_ref()[..16]);
    Digest(short)
}

impl Digest {
    /// A digest of any bytes.
    pub fn of(parts: &[&[u8]]) -> Self {
        sha256(parts)
    }
}
