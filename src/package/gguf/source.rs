//! The bytes of a header, one after the other, each held against what is there.

use std::io::{self, Read};

use super::MAX_HEADER_BYTES;

/// Bytes of a marker: a letter in its brackets.
const MIN_MARKER_BYTES: u64 = 3;
/// Bytes of a marker; published ones stay below half of it.
const MAX_MARKER_BYTES: u64 = 64;

/// Why a file is no model that could be served.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// It begins with something else.
    #[error("no GGUF file: it does not begin with \"GGUF\"")]
    NotGguf,
    /// It was written for a processor of the other byte order.
    #[error("a GGUF file in big-endian byte order: convert it for little-endian machines")]
    BigEndian,
    /// A version of the format that this reader does not know.
    #[error("version {0} of the GGUF format: 2 and 3 can be read; convert it anew")]
    Version(u32),
    /// It ends before what it announces.
    #[error("cut off: {needed} bytes are announced, {there} are there")]
    Truncated {
        /// Bytes that it would have at least.
        needed: u64,
        /// Bytes that it has.
        there: u64,
    },
    /// The header goes on and on.
    #[error("a header of more than {MAX_HEADER_BYTES} bytes: no model has such a one")]
    Endless,
    /// A count that no model has.
    #[error("{count} {what}: {max} at most are believed")]
    Absurd {
        /// What is counted.
        what: &'static str,
        /// The count.
        count: u64,
        /// The most.
        max: u64,
    },
    /// A kind of value that the format does not have.
    #[error("a value of the unknown kind {0}")]
    Kind(u32),
    /// Lists in lists.
    #[error("{0:?} is a list of lists")]
    Nested(String),
    /// A key that stands there again.
    #[error("{0:?} stands there twice")]
    Twice(String),
    /// An alignment that is none.
    #[error("general.alignment is no power of two of a sensible size")]
    Alignment,
    /// It does not say what it is.
    #[error("general.architecture is missing: nobody can tell which network this is")]
    Nameless,
    /// A tensor that cannot be.
    #[error("tensor {name:?} {what}")]
    Tensor {
        /// Which.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The disk.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl GgufError {
    pub(super) fn limit(what: &'static str, count: u64, max: u64) -> Result<(), Self> {
        if count > max {
            Err(Self::Absurd { what, count, max })
        } else {
            Ok(())
        }
    }
}

/// Kind of a metadata value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Whole { bytes: u64, signed: bool },
    Fraction { bytes: u64 },
    Yes,
    Text,
    List,
}

impl Kind {
    /// Bytes that a value of the kind takes at least; all of them, but for texts and lists.
    pub(super) fn least_bytes(self) -> u64 {
        match self {
            Self::Whole { bytes, .. } | Self::Fraction { bytes } => bytes,
            Self::Yes => 1,
            Self::Text => 8,
            Self::List => 12,
        }
    }
}

/// What is left of a file.
pub(super) struct Source<R> {
    from: R,
    at: u64,
    file_bytes: u64,
}

impl<R: Read> Source<R> {
    pub(super) fn new(from: R, file_bytes: u64) -> Self {
        Self {
            from,
            at: 0,
            file_bytes,
        }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Fails unless so many more bytes can be there.
    pub(super) fn room(&self, bytes: u64) -> Result<(), GgufError> {
        let needed = self.at.saturating_add(bytes);
        if needed > self.file_bytes {
            let there = self.file_bytes;
            Err(GgufError::Truncated { needed, there })
        } else if needed > MAX_HEADER_BYTES {
            Err(GgufError::Endless)
        } else {
            Ok(())
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        self.room(N as u64)?;
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), GgufError> {
        let length = bytes.len() as u64;
        match self.from.read_exact(bytes) {
            Ok(()) => {
                self.at += length;
                Ok(())
            }
            // The file shrank while it was read.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(GgufError::Truncated {
                needed: self.at.saturating_add(length),
                there: self.at,
            }),
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn skip(&mut self, bytes: u64) -> Result<(), GgufError> {
        self.room(bytes)?;
        let skipped = io::copy(&mut self.from.by_ref().take(bytes), &mut io::sink())?;
        self.at += skipped;
        if skipped < bytes {
            let needed = self.at + (bytes - skipped);
            let there = self.at;
            return Err(GgufError::Truncated { needed, there });
        }
        Ok(())
    }

    /// Magic and version.
    pub(super) fn version(&mut self) -> Result<u32, GgufError> {
        match self.take::<4>() {
            Ok(magic) if &magic == b"GGUF" => {}
            Ok(_) | Err(GgufError::Truncated { .. }) => return Err(GgufError::NotGguf),
            Err(other) => return Err(other),
        }
        match self.u32()? {
            version @ (2 | 3) => Ok(version),
            other if matches!(other.swap_bytes(), 1..=3) => Err(GgufError::BigEndian),
            other => Err(GgufError::Version(other)),
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, GgufError> {
        Ok(self.take::<1>()?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    pub(super) fn kind(&mut self) -> Result<Kind, GgufError> {
        let whole = |bytes, signed| Kind::Whole { bytes, signed };
        Ok(match self.u32()? {
            0 => whole(1, false),
            1 => whole(1, true),
            2 => whole(2, false),
            3 => whole(2, true),
            4 => whole(4, false),
            5 => whole(4, true),
            6 => Kind::Fraction { bytes: 4 },
            7 => Kind::Yes,
            8 => Kind::Text,
            9 => Kind::List,
            10 => whole(8, false),
            11 => whole(8, true),
            12 => Kind::Fraction { bytes: 8 },
            other => return Err(GgufError::Kind(other)),
        })
    }

    /// A whole number of this kind; none where it is negative.
    pub(super) fn whole(&mut self, kind: Kind) -> Result<Option<u64>, GgufError> {
        let Kind::Whole { bytes, signed } = kind else {
            self.skip(kind.least_bytes())?;
            return Ok(None);
        };
        self.room(bytes)?;
        let mut number = [0; 8];
        let width = usize::try_from(bytes).expect("a number has eight bytes at most");
        self.fill(&mut number[..width])?;
        let negative = signed && number[width - 1] & 0x80 != 0;
        Ok((!negative).then_some(u64::from_le_bytes(number)))
    }

    /// A text of at most `max` bytes.
    pub(super) fn text(&mut self, what: &'static str, max: u64) -> Result<String, GgufError> {
        let length = self.u64()?;
        GgufError::limit(what, length, max)?;
        self.text_of(length)
    }

    /// A text of a length that was looked at. What is no UTF-8 is replaced: it is only shown.
    pub(super) fn text_of(&mut self, length: u64) -> Result<String, GgufError> {
        self.room(length)?;
        let length = usize::try_from(length).map_err(|_| GgufError::Endless)?;
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
        })
    }

    /// The next text, if it looks like a token that templates put around what people say: it
    /// stands in angle or square brackets.
    pub(super) fn marker(&mut self) -> Result<Option<String>, GgufError> {
        let length = self.u64()?;
        if !(MIN_MARKER_BYTES..=MAX_MARKER_BYTES).contains(&length) {
            self.skip(length)?;
            return Ok(None);
        }
        let first = self.byte()?;
        let last = match first {
            b'<' => '>',
            b'[' => ']',
            _ => {
                self.skip(length - 1)?;
                return Ok(None);
            }
        };
        let rest = self.text_of(length - 1)?;
        let first = char::from(first);
        Ok(rest.ends_with(last).then(|| format!("{first}{rest}")))
    }
}
