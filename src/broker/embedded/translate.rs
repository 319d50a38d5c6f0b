//! MQTT 3.1.1 on one side, MQTT 5 on the other: what stands between an old device and rumqttd.
//!
//! rumqttd has a server for each version, but its old one panics, and takes all old devices with
//! it, at the first message that carries properties; the appliance's replies do. So every
//! connection ends at the new one, and the packets of old devices are rewritten here: properties
//! are added empty on the way in and dropped on the way out, reason codes become what they were.
//!
//! Pure functions over whole packets; a packet that is not one is none, and its connection ends.

/// A packet taken from the front of a buffer: its first byte and its body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet<'b> {
    first: u8,
    body: &'b [u8],
    /// Bytes that it took in the buffer.
    pub(super) length: usize,
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From an old device to the broker.
    In,
    /// From the broker to an old device.
    Out,
}

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

const CONNECT: u8 = 1;
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const SUBSCRIBE: u8 = 8;
const SUBACK: u8 = 9;
const UNSUBSCRIBE: u8 = 10;
const UNSUBACK: u8 = 11;
const DISCONNECT: u8 = 14;
/// An old client that does not ask for a clean session wants one without an end.
const SESSION_WITHOUT_END: [u8; 6] = [5, 0x11, 0xff, 0xff, 0xff, 0xff];
/// What a refused subscription was called.
const REFUSED: u8 = 0x80;

/// The first packet of `buffer`; none while it is not whole.
pub(super) fn next(buffer: &[u8], max_bytes: usize) -> Result<Option<Packet<'_>>, Broken> {
    let Some(first) = buffer.first() else {
        return Ok(None);
    };
    let Some((remaining, digits)) = number(&buffer[1..])? else {
        return Ok(None);
    };
    if remaining > max_bytes {
        return Err(Broken);
    }
    let length = 1 + digits + remaining;
    Ok(buffer.get(1 + digits..length).map(|body| Packet {
        first: *first,
        body,
        length,
    }))
}

/// A number in MQTT's digits of seven bits, and how many digits it has.
fn number(bytes: &[u8]) -> Result<Option<(usize, usize)>, Broken> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() < 4 {
        Ok(None)
    } else {
        Err(Broken)
    }
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut remaining: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = vec![first];
    loop {
        let digit = u8::try_from(remaining & 0x7f).unwrap_or_default(); // seven bits fit
        remaining >>= 7;
        bytes.push(if remaining > 0 { digit | 0x80 } else { digit });
        if remaining == 0 {
            break;
        }
    }
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

impl Packet<'_> {
    /// As the other side knows it; no bytes if it knows none such.
    pub(super) fn rewritten(&self, way: Way) -> Result<Vec<u8>, Broken> {
        match way {
            Way::In => self.modern(),
            Way::Out => Ok(self.old()?.unwrap_or_default()),
        }
    }

    fn modern(&self) -> Result<Vec<u8>, Broken> {
        let body = self.body;
        match self.first >> 4 {
            CONNECT => self.modern_connect(),
            PUBLISH => {
                let (head, payload) = split(body, self.publish_head()?)?;
                Ok(packet(self.first, &[head, &[0], payload]))
            }
            SUBSCRIBE | UNSUBSCRIBE => {
                let (id, filters) = split(body, 2)?;
                Ok(packet(self.first, &[id, &[0], filters]))
            }
            _ => Ok(packet(self.first, &[body])),
        }
    }

    fn modern_connect(&self) -> Result<Vec<u8>, Broken> {
        // Name with its length, level, flags, keep-alive.
        let (head, payload) = split(self.body, 10)?;
        let (before, flags, keep_alive) = (&head[..7], head[7], &head[8..]);
        let clean = flags & 0x02 != 0;
        let properties: &[u8] = if clean { &[0] } else { &SESSION_WITHOUT_END };
        let has_will = flags & 0x04 != 0;
        let (name, rest) = split(payload, string_end(payload, 0)?)?;
        let will_properties: &[u8] = if has_will { &[0] } else { &[] };
        before
            .starts_with(b"\x00\x04MQTT\x04")
            .then(|| {
                let level_and_flags = [5, flags];
                let parts = [&before[..6], &level_and_flags, keep_alive, properties];
                let parts = [&parts[..], &[name, will_properties, rest]].concat();
                packet(self.first, &parts)
            })
            .ok_or(Broken)
    }

    fn old(&self) -> Result<Option<Vec<u8>>, Broken> {
        let body = self.body;
        let bytes = match self.first >> 4 {
            CONNACK => {
                let (head, _) = split(body, 2)?;
                packet(self.first, &[&head[..1], &[old_reason(head[1])]])
            }
            PUBLISH => {
                let (head, rest) = split(body, self.publish_head()?)?;
                packet(self.first, &[head, without_properties(rest)?])
            }
            SUBACK => {
                let (id, rest) = split(body, 2)?;
                let granted = |code: &u8| if *code < REFUSED { *code } else { REFUSED };
                let codes: Vec<u8> = without_properties(rest)?.iter().map(granted).collect();
                packet(self.first, &[id, &codes])
            }
            // Acknowledgements: the packet id, without reason and properties.
            4..=7 | UNSUBACK => packet(self.first, &[split(body, 2)?.0]),
            DISCONNECT => return Ok(None),
            _ => packet(self.first, &[body]),
        };
        Ok(Some(bytes))
    }

    /// Bytes of a PUBLISH before its properties: the topic, and the packet id if it has one.
    fn publish_head(&self) -> Result<usize, Broken> {
        let has_id = self.first & 0x06 != 0;
        Ok(string_end(self.body, 0)? + if has_id { 2 } else { 0 })
    }
}

/// `split_at` for lengths that came over the line.
fn split(bytes: &[u8], at: usize) -> Result<(&[u8], &[u8]), Broken> {
    bytes.split_at_checked(at).ok_or(Broken)
}

/// Where a text with its length in front ends.
fn string_end(bytes: &[u8], at: usize) -> Result<usize, Broken> {
    match bytes.get(at..at + 2) {
        Some([high, low]) => Ok(at + 2 + usize::from(u16::from_be_bytes([*high, *low]))),
        Some(_) | None => Err(Broken),
    }
}

fn without_properties(bytes: &[u8]) -> Result<&[u8], Broken> {
    let (length, digits) = number(bytes)?.ok_or(Broken)?;
    Ok(split(bytes, digits + length)?.1)
}

/// The return code that said the same before there were reason codes.
fn old_reason(reason: u8) -> u8 {
    match reason {
        0 => 0,
        0x84 => 1,        // protocol version
        0x85 => 2,        // client id
        0x86 => 4,        // user name or password
        0x87 | 0x8a => 5, // not authorized, banned
        _ => 3,           // unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Packet<'_> {
        let packet = next(bytes, 1 << 20).unwrap().unwrap();
        assert_eq!(packet.length, bytes.len());
        packet
    }

    #[test]
    fn an_old_connect_becomes_a_new_one() {
        let clean = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01d";
        assert_eq!(
            whole(clean).modern().unwrap(),
            b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01d"
        );
        let kept_with_will = b"\x10\x13\x00\x04MQTT\x04\x04\x00\x3c\x00\x01d\x00\x01t\x00\x01w";
        assert_eq!(
            whole(kept_with_will).modern().unwrap(),
            b"\x10\x1a\x00\x04MQTT\x05\x04\x00\x3c\x05\x11\xff\xff\xff\xff\x00\x01d\x00\x00\x01t\x00\x01w"
        );
        let ancient = b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x00";
        assert_eq!(whole(ancient).modern(), Err(Broken));
    }

    #[test]
    fn properties_come_and_go() {
        let old = b"\x32\x07\x00\x01t\x00\x09hi";
        let new = b"\x32\x08\x00\x01t\x00\x09\x00hi";
        assert_eq!(whole(old).modern().unwrap(), new);
        assert_eq!(whole(new).old().unwrap().unwrap(), old);
        let with_properties = b"\x32\x0d\x00\x01t\x00\x09\x05\x02\x00\x00\x00\x3chi";
        assert_eq!(whole(with_properties).old().unwrap().unwrap(), old);
        let without_id = b"\x30\x06\x00\x01t\x00hi";
        assert_eq!(
            whole(without_id).old().unwrap().unwrap(),
            b"\x30\x05\x00\x01thi"
        );
        let subscribe = b"\x82\x06\x00\x01\x00\x01#\x01";
        assert_eq!(
            whole(subscribe).modern().unwrap(),
            b"\x82\x07\x00\x01\x00\x00\x01#\x01"
        );
    }

    #[test]
    fn answers_are_said_in_the_old_words() {
        for (new, old) in [
            (&b"\x20\x03\x01\x00\x00"[..], &b"\x20\x02\x01\x00"[..]),
            (b"\x20\x03\x00\x87\x00", b"\x20\x02\x00\x05"),
            (b"\x40\x04\x00\x07\x10\x00", b"\x40\x02\x00\x07"),
            (b"\x90\x05\x00\x01\x00\x01\x87", b"\x90\x04\x00\x01\x01\x80"),
            (b"\xb0\x04\x00\x01\x00\x00", b"\xb0\x02\x00\x01"),
            (b"\xd0\x00", b"\xd0\x00"),
        ] {
            assert_eq!(whole(new).old().unwrap().unwrap(), old);
        }
        assert_eq!(whole(b"\xe0\x01\x8e").old().unwrap(), None);
    }

    #[test]
    fn no_bytes_are_too_strange() {
        let mut dice = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..dice.usize(0..24)).map(|_| dice.u8(..)).collect();
            if let Ok(Some(packet)) = next(&bytes, 100) {
                let _ = (packet.modern(), packet.old());
            }
        }
        assert_eq!(next(b"\x30\xff\xff\xff\xff\x01", 100), Err(Broken));
        assert_eq!(next(b"\x30\x7f", 100), Err(Broken));
        assert_eq!(next(b"\x30\x05ab", 100), Ok(None));
    }
}
