//! The form in which certificates and requests are written (X.690, DER): tag, length, content.
//!
//! Read as strictly as it is written: lengths in their shortest form and within what is there, tags
//! of one byte. Whoever reads says which tag must come; what is not expected is no element. One thing
//! more may be allowed, because servers written in Java do it: what holds other elements may have an
//! end in place of a length ([`Lengths::OrEnds`]).

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BITS: u8 = 0x03;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const UTF8: u8 = 0x0c;
pub(super) const PRINTABLE: u8 = 0x13;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The tag of the part with this number, where the parts of a sequence are numbered.
pub(super) const fn part(number: u8) -> u8 {
    0xa0 | number
}

/// The bit of a tag whose element holds others.
const HOLDS_OTHERS: u8 = 0x20;
/// Bytes of the number that says a length: 16 MiB are far beyond all that is read here.
const MAX_LENGTH_BYTES: usize = 3;

/// A tag, a length, and the parts one after the other.
pub(super) fn field<P: AsRef<[u8]>>(tag: u8, parts: &[P]) -> Vec<u8> {
    let content: Vec<u8> = parts.iter().flat_map(AsRef::as_ref).copied().collect();
    let length = content.len().to_be_bytes();
    let first = length.iter().position(|byte| *byte != 0);
    let digits = &length[first.unwrap_or(length.len() - 1)..];
    let mut bytes = vec![tag];
    match digits {
        [short @ 0..=0x7f] => bytes.push(*short),
        long => {
            let count = u8::try_from(long.len()).expect("a length has eight bytes at most");
            bytes.push(0x80 | count);
            bytes.extend(long);
        }
    }
    bytes.extend(content);
    bytes
}

/// How an element may say where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lengths {
    /// By its length, as DER wants it.
    Only,
    /// What holds others may have an end behind them instead (BER), so many deep.
    OrEnds {
        /// Levels of such elements in each other.
        depth: u8,
    },
}

/// What stands at such an end.
const END: &[u8] = &[0, 0];

/// An element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element<'a> {
    /// What it is.
    pub(super) tag: u8,
    /// What it holds.
    pub(super) content: &'a [u8],
    /// All of it, tag and length too.
    pub(super) whole: &'a [u8],
}

/// What is still to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    lengths: Lengths,
}

impl<'a> Reader<'a> {
    pub(super) fn new(der: &'a [u8]) -> Self {
        Self::with(der, Lengths::Only)
    }

    pub(super) fn with(rest: &'a [u8], lengths: Lengths) -> Self {
        Self { rest, lengths }
    }

    /// Reads what the one element holds that all of this is.
    pub(super) fn only(mut self, tag: u8) -> Option<Self> {
        let inside = self.inside(tag)?;
        self.end()?;
        Some(inside)
    }

    /// Reads what the next element holds.
    pub(super) fn inside(&mut self, tag: u8) -> Option<Self> {
        Some(Self::with(self.take(tag)?, self.lengths))
    }

    /// The next element, whatever it is.
    pub(super) fn next(&mut self) -> Option<Element<'a>> {
        let start = self.rest;
        let (&tag, rest) = start.split_first()?;
        if tag & 0x1f == 0x1f {
            return None; // its tag goes on, which nothing here does
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x80 => return self.until_end(tag, rest),
            _ => {
                let count = usize::from(first & 0x7f);
                let (digits, rest) = rest.split_at_checked(count)?;
                if count > MAX_LENGTH_BYTES || digits[0] == 0 {
                    return None;
                }
                let length = digits
                    .iter()
                    .fold(0, |sum, &digit| sum << 8 | usize::from(digit));
                (length >= 0x80).then_some((length, rest))?
            }
        };
        let (content, rest) = rest.split_at_checked(length)?;
        Some(self.took(tag, content, rest))
    }

    /// An element without a length: its end is behind the last element in it.
    fn until_end(&mut self, tag: u8, rest: &'a [u8]) -> Option<Element<'a>> {
        let Lengths::OrEnds { depth } = self.lengths else {
            return None;
        };
        let depth = depth.checked_sub(1)?;
        (tag & HOLDS_OTHERS != 0).then_some(())?;
        let mut inside = Self::with(rest, Lengths::OrEnds { depth });
        while !inside.rest.starts_with(END) {
            inside.next()?;
        }
        let content = &rest[..rest.len() - inside.rest.len()];
        Some(self.took(tag, content, &inside.rest[END.len()..]))
    }

    fn took(&mut self, tag: u8, content: &'a [u8], rest: &'a [u8]) -> Element<'a> {
        let whole = &self.rest[..self.rest.len() - rest.len()];
        self.rest = rest;
        Element {
            tag,
            content,
            whole,
        }
    }

    /// The content of the next element, which must be of this kind.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        Some(self.whole(tag)?.content)
    }

    /// The next element, which must be of this kind.
    pub(super) fn whole(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|element| element.tag == tag)
    }

    /// The content of the next element, if it is of this kind; else it stays.
    pub(super) fn take_if(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let content = ahead.take(tag)?;
        *self = ahead;
        Some(content)
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Option<()> {
        self.is_empty().then_some(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        assert_eq!(field::<&[u8]>(SEQUENCE, &[]), [0x30, 0]);
        assert_eq!(field(UTF8, &[[7; 127]])[..2], [UTF8, 127]);
        assert_eq!(field(UTF8, &[[7; 128]])[..3], [UTF8, 0x81, 128]);
        assert_eq!(field(UTF8, &[[7; 256]])[..4], [UTF8, 0x82, 1, 0]);
    }

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let whole = field(OCTETS, &[&content[..]]);
            let mut reader = Reader::new(&whole);
            let element = reader.next().unwrap();
            assert_eq!((element.tag, element.content), (OCTETS, &content[..]));
            assert_eq!(element.whole, whole);
            assert!(reader.is_empty());
            assert!(Reader::new(&whole[..whole.len() - 1]).next().is_none());
        }
    }

    #[test]
    fn what_has_another_form_is_no_element() {
        for wrong in [
            &[][..],
            &[0x30],
            &[0x30, 1],
            &[0x30, 0x80, 0, 0],                // without a length
            &[0x04, 0x81, 0x7f],                // a longer form than need be
            &[0x04, 0x82, 0, 0x80],             // the same
            &[0x04, 0x84, 0, 0, 0, 1, 7],       // the same
            &[0x04, 0x84, 0xff, 0xff, 0xff, 1], // beyond all reason
            &[0x04, 0xff, 1],
            &[0x1f, 0x81, 1, 0], // a tag of several bytes
        ] {
            assert!(Reader::new(wrong).next().is_none(), "{wrong:x?}");
        }
        let mut reader = Reader::new(&[0x04, 0, 0x02, 1, 5]);
        assert_eq!(reader.take_if(INTEGER), None);
        assert_eq!(reader.take_if(OCTETS), Some(&[][..]));
        assert_eq!(reader.take(INTEGER), Some(&[5][..]));
        assert_eq!(reader.end(), Some(()));
    }

    #[test]
    fn an_end_may_stand_in_place_of_a_length_where_that_is_allowed() {
        let two = Lengths::OrEnds { depth: 2 };
        let whole = [0x30, 0x80, 0xa0, 0x80, 4, 2, 0, 0, 0, 0, 5, 0, 0, 0];
        let mut inside = Reader::with(&whole, two).only(SEQUENCE).unwrap();
        let mut deeper = inside.inside(part(0)).unwrap();
        assert_eq!(deeper.take(OCTETS), Some(&[0, 0][..]));
        assert_eq!(deeper.end(), Some(()));
        assert_eq!(inside.take(5), Some(&[][..]));
        assert_eq!(inside.end(), Some(()));

        assert!(Reader::new(&whole).next().is_none(), "where it is not");
        let one = Lengths::OrEnds { depth: 1 };
        assert!(Reader::with(&whole, one).next().is_none(), "too deep");
        for length in 0..whole.len() {
            assert!(
                Reader::with(&whole[..length], two).next().is_none(),
                "{length}"
            );
        }
        let plain = [4, 0x80, 4, 0, 0, 0];
        assert!(
            Reader::with(&plain, two).next().is_none(),
            "it holds no others"
        );
        let endless = [0x30, 0x80].repeat(10_000);
        assert!(Reader::with(&endless, two).next().is_none());
    }
}
