//! What a certificate says (X.509, RFC 5280), as far as a device must know it of its own: whose it is,
//! how long it lasts, and which names it carries. Nobody's signature is looked at here.

use super::der::{
    BITS, BOOLEAN, Element, INTEGER, OCTETS, OID, Reader, SEQUENCE, TIME, UTC_TIME, part,
};
use crate::clock::Wall;
use crate::ota::tuf::Expiry;

/// The extension with further names.
pub(super) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// A certificate, as it lies in its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate<'a> {
    /// Whose it is: a name in DER.
    pub(super) subject: &'a [u8],
    /// Its key, in DER.
    pub(super) public: &'a [u8],
    /// When it begins to count.
    pub(super) from: Wall,
    /// When it ceases to.
    pub(super) until: Wall,
    /// Further names of whose it is: what the extension holds.
    pub(super) alt_names: Option<&'a [u8]>,
}

impl<'a> Certificate<'a> {
    /// Reads one; none if it has another form.
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let mut outer = Reader::new(der).only(SEQUENCE)?;
        let mut inner = outer.inside(SEQUENCE)?;
        outer.take(SEQUENCE)?; // how it is signed
        outer.take(BITS)?;
        outer.end()?;

        inner.take(part(0))?; // those without a version have no extensions, and TLS refuses them
        inner.take(INTEGER)?;
        inner.take(SEQUENCE)?; // how it is signed, once more
        inner.take(SEQUENCE)?; // who signed it
        let mut validity = inner.inside(SEQUENCE)?;
        let (from, until) = (moment(validity.next()?)?, moment(validity.next()?)?);
        validity.end()?;
        let subject = inner.whole(SEQUENCE)?.whole;
        let public = inner.whole(SEQUENCE)?.whole;
        let mut alt_names = None;
        while !inner.is_empty() {
            let field = inner.next()?;
            if field.tag == part(3) {
                alt_names = extension(field.content, SUBJECT_ALT_NAME)?;
            }
        }
        Some(Self {
            subject,
            public,
            from,
            until,
            alt_names,
        })
    }

    /// When it should be renewed: with a third of its life left, so that a server may be away for a
    /// while, however long or short lives are.
    pub(super) fn due(&self) -> Wall {
        let life = self.until.since(self.from);
        self.from.after(life.saturating_sub(life / 3))
    }
}

/// An extension among all; the outer `None` means that they have another form.
#[allow(clippy::option_option, reason = "no extension is no fault")]
fn extension<'a>(extensions: &'a [u8], wanted: &[u8]) -> Option<Option<&'a [u8]>> {
    let mut all = Reader::new(extensions).only(SEQUENCE)?;
    let mut found = None;
    while !all.is_empty() {
        let mut one = all.inside(SEQUENCE)?;
        let id = one.take(OID)?;
        one.take_if(BOOLEAN);
        let value = one.take(OCTETS)?;
        one.end()?;
        if id == wanted {
            found = Some(value);
        }
    }
    Some(found)
}

/// The year of a moment with two digits is at most that much after 2000 (RFC 5280, section 4.1.2.5.1).
const LAST_SHORT_YEAR: u8 = 49;

/// A moment, in one of the two forms.
fn moment(element: Element<'_>) -> Option<Wall> {
    let digits = std::str::from_utf8(element.content).ok()?;
    let digits = digits.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let century = match element.tag {
        UTC_TIME if digits.len() == 12 => {
            let year: u8 = digits[..2].parse().ok()?;
            if year > LAST_SHORT_YEAR { "19" } else { "20" }
        }
        TIME if digits.len() == 14 => "",
        _ => return None,
    };
    let all = format!("{century}{digits}");
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &all[..4],
        &all[4..6],
        &all[6..8],
        &all[8..10],
        &all[10..12],
        &all[12..14]
    );
    Some(Expiry::parse(&text)?.moment())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::provision::der::field;

    fn of(tag: u8, text: &str) -> Option<String> {
        let der = field(tag, &[text]);
        let moment = moment(Reader::new(&der).next().unwrap())?;
        Some(Expiry::at(moment).to_string())
    }

    #[test]
    fn a_moment_has_one_of_two_forms() {
        let short = of(UTC_TIME, "261129004500Z");
        assert_eq!(short.as_deref(), Some("2026-11-29T00:45:00Z"));
        let old = of(UTC_TIME, "991231235959Z");
        assert_eq!(old.as_deref(), Some("1999-12-31T23:59:59Z"));
        let long = of(TIME, "20520101000000Z");
        assert_eq!(long.as_deref(), Some("2052-01-01T00:00:00Z"));
        for (tag, wrong) in [
            (UTC_TIME, "261129004500"),
            (UTC_TIME, "2611290045Z"),
            (UTC_TIME, "261329004500Z"),
            (UTC_TIME, "26112900450\u{e9}Z"),
            (TIME, "20520101000000.5Z"),
            (TIME, "20520101000000+0100"),
            (OCTETS, "20520101000000Z"),
        ] {
            assert_eq!(of(tag, wrong), None, "{wrong}");
        }
    }
}
