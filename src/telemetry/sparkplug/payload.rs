//! The payloads of Sparkplug B: the few fields of its Protocol Buffers that a node of the edge says,
//! and the one command that it understands.
//!
//! ```text
//!  Payload:  timestamp = 1 │ metrics = 2, each a Metric │ seq = 3
//!  Metric:   name = 1 │ alias = 2 │ timestamp = 3 │ datatype = 4 │ is_historical = 5 │ is_null = 7
//!            │ long_value = 11 │ boolean_value = 14 │ string_value = 15
//! ```
//!
//! Numbers are varints; texts and metrics come with their length before them. Written by hand: a
//! generated codec would bring a compiler into the build for a dozen fields. A codec of somebody else
//! reads them in `tests/sparkplug.rs`.
//!
//! How it fails: bytes that are no payload are [`Garble`]; fields that are not known are passed over.

use crate::clock::Wall;

/// The name of the command to say everything anew.
pub const REBIRTH: &str = "Node Control/Rebirth";

/// A metric's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `Int64`.
    Whole(i64),
    /// `Boolean`.
    Truth(bool),
    /// `String`.
    Text(String),
}

/// Of what kind values of a metric are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `Int64`.
    Whole = 4,
    /// `Boolean`.
    Truth = 11,
    /// `String`.
    Text = 12,
}

impl Value {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Whole(_) => Kind::Whole,
            Self::Truth(_) => Kind::Truth,
            Self::Text(_) => Kind::Text,
        }
    }
}

/// Which metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called<'a> {
    /// By its name, for good.
    Name(&'a str),
    /// By its name, and by a number from now on: in a birth.
    Both(&'a str, u64),
    /// By its number.
    Alias(u64),
}

/// A metric in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric<'a> {
    /// Which.
    pub called: Called<'a>,
    /// When it had this value.
    pub at: Wall,
    /// Of what kind.
    pub kind: Kind,
    /// None where it has no value now.
    pub value: Option<&'a Value>,
    /// Whether it is told afterwards.
    pub historical: bool,
}

/// A payload. Only a death has no `seq`.
pub fn payload<'a>(
    at: Wall,
    seq: Option<u8>,
    metrics: impl IntoIterator<Item = Metric<'a>>,
) -> Vec<u8> {
    let mut out = Writer::default();
    out.number(1, at.0);
    for metric in metrics {
        out.bytes(2, &metric.encoded());
    }
    if let Some(seq) = seq {
        out.number(3, seq.into());
    }
    out.0
}

impl Metric<'_> {
    fn encoded(&self) -> Vec<u8> {
        let mut out = Writer::default();
        let (name, alias) = match self.called {
            Called::Name(name) => (Some(name), None),
            Called::Both(name, alias) => (Some(name), Some(alias)),
            Called::Alias(alias) => (None, Some(alias)),
        };
        if let Some(name) = name {
            out.bytes(1, name.as_bytes());
        }
        if let Some(alias) = alias {
            out.number(2, alias);
        }
        out.number(3, self.at.0);
        out.number(4, self.kind as u64);
        if self.historical {
            out.number(5, 1);
        }
        match self.value {
            None => out.number(7, 1),
            Some(Value::Whole(value)) => out.number(11, value.cast_unsigned()),
            Some(Value::Truth(value)) => out.number(14, u64::from(*value)),
            Some(Value::Text(value)) => out.bytes(15, value.as_bytes()),
        }
        out.0
    }
}

/// How a field is laid out.
const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const WITH_LENGTH: u64 = 2;
const FOUR_BYTES: u64 = 5;

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, field: u64, value: u64) {
        self.varint((field << 3) | VARINT);
        self.varint(value);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint((field << 3) | WITH_LENGTH);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn varint(&mut self, mut value: u64) {
        loop {
            let low = value.to_le_bytes()[0] & 0x7F;
            value >>= 7;
            if value == 0 {
                return self.0.push(low);
            }
            self.0.push(low | 0x80);
        }
    }
}

/// Bytes that are no payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a payload of Sparkplug B")]
pub struct Garble;

/// Whether a command (`NCMD`) asks for everything anew.
pub fn wants_rebirth(bytes: &[u8]) -> Result<bool, Garble> {
    let mut wants = false;
    let mut payload = Reader(bytes);
    while let Some((field, value)) = payload.field()? {
        let (2, Field::Bytes(metric)) = (field, value) else {
            continue;
        };
        let (mut is_it, mut yes) = (false, false);
        let mut metric = Reader(metric);
        while let Some((field, value)) = metric.field()? {
            match (field, value) {
                (1, Field::Bytes(name)) => is_it = name == REBIRTH.as_bytes(),
                (14, Field::Number(value)) => yes = value != 0,
                (_, Field::Bytes(_) | Field::Number(_)) => {}
            }
        }
        wants |= is_it && yes;
    }
    Ok(wants)
}

enum Field<'a> {
    /// A varint, or what has a fixed width.
    Number(u64),
    Bytes(&'a [u8]),
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next field and its number; none at the end.
    fn field(&mut self) -> Result<Option<(u64, Field<'a>)>, Garble> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            VARINT => Field::Number(self.varint()?),
            EIGHT_BYTES => Field::Number(self.fixed::<8>().map(u64::from_le_bytes)?),
            FOUR_BYTES => Field::Number(self.fixed::<4>().map(u32::from_le_bytes)?.into()),
            WITH_LENGTH => {
                let length = usize::try_from(self.varint()?).map_err(|_| Garble)?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or(Garble)?;
                self.0 = rest;
                Field::Bytes(bytes)
            }
            _ => return Err(Garble),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Garble> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(Garble)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn varint(&mut self) -> Result<u64, Garble> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Garble)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Garble)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn command(name: &str, yes: bool) -> Vec<u8> {
        let value = Value::Truth(yes);
        let metric = Metric {
            called: Called::Name(name),
            at: Wall(1),
            kind: Kind::Truth,
            value: Some(&value),
            historical: false,
        };
        payload(Wall(1), None, [metric])
    }

    #[test]
    fn the_bytes_are_those_of_the_definition() {
        let value = Value::Whole(-1);
        let metric = Metric {
            called: Called::Both("a", 300),
            at: Wall(5),
            kind: value.kind(),
            value: Some(&value),
            historical: true,
        };
        let bytes = payload(Wall(1), Some(0), [metric]);
        // Written out by hand from the definition of the fields.
        let expected = [
            &[0x08, 1][..],
            &[
                0x12, 23, 0x0A, 1, b'a', 0x10, 0xAC, 2, 0x18, 5, 0x20, 4, 0x28, 1,
            ],
            &[0x58, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
            &[0x18, 0],
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn a_metric_without_a_value_says_so() {
        let metric = Metric {
            called: Called::Alias(1),
            at: Wall(5),
            kind: Kind::Text,
            value: None,
            historical: false,
        };
        let bytes = payload(Wall(1), None, [metric]);
        assert_eq!(
            bytes,
            [0x08, 1, 0x12, 8, 0x10, 1, 0x18, 5, 0x20, 12, 0x38, 1]
        );
    }

    #[test]
    fn only_the_command_itself_asks_for_a_rebirth() {
        assert_eq!(wants_rebirth(&command(REBIRTH, true)), Ok(true));
        assert_eq!(wants_rebirth(&command(REBIRTH, false)), Ok(false));
        assert_eq!(
            wants_rebirth(&command("Node Control/Reboot", true)),
            Ok(false)
        );
        assert_eq!(wants_rebirth(b""), Ok(false));
        assert_eq!(wants_rebirth(b"{\"json\":1}"), Err(Garble));
        let whole = command(REBIRTH, true);
        assert_eq!(wants_rebirth(&whole[..whole.len() - 1]), Err(Garble));
    }

    proptest! {
        #[test]
        fn rubbish_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = wants_rebirth(&bytes);
        }
    }
}
